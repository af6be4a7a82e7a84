"""A real Prometheus scrapes the running system: every panel and every rule has something to show, and what happens to
a complaint reaches the alerts."""

import asyncio
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka import AIOKafkaProducer

from deploy.demo.people import citizen, staff
from deploy.demo.pictures import street
from deploy.demo.target import SignIn, Target
from deploy.local.launcher import System, running_system
from deploy.local.servers import Servers
from deploy.local.settings import SERVICES, LocalSettings
from shared.sop import Role
from tests.support.filing import file_complaint
from tests.support.prometheus import CONFIG, Prometheus, running_prometheus

BOARDS = sorted((CONFIG.parent / "grafana/dashboards").glob("*.json"))
SHORT = {"LAPOR_DEADLINES__FORWARD": "3s", "LAPOR_DEADLINES__DOCUMENT": "1s"}
"""So that one complaint is left lying in step 2 and another is documented too late."""


@pytest.fixture(scope="module")
def settings(servers: Servers) -> LocalSettings:
    return LocalSettings(
        namespace=f"d{secrets.token_hex(5)}", kafka_bootstrap=servers.kafka_bootstrap, mongo_url=servers.mongo_url
    ).on_free_ports()


@pytest.fixture(scope="module")
def system(settings: LocalSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("observed")
    with running_system(folder, SHORT, settings=settings, say=lambda _: None) as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(
    system: System, settings: LocalSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Prometheus, which saw the system both before and after something happened in it."""
    assert system.servers.mail_dir is not None
    target = Target(
        system.urls,
        system.servers.kafka_bootstrap,
        system.servers.mongo_url,
        system.servers.mail_dir,
        tuple(SignIn(a.login, a.password, a.role, a.name, a.agency) for a in system.credentials.staff),
        settings.namespace,
    )
    with running_prometheus(tmp_path_factory.mktemp("prometheus"), system.urls) as running:
        seen = 'count(count_over_time(up{job="lapor"}[1m]) >= 3)'
        wait(lambda: running.samples(seen) == [({}, float(len(SERVICES)))], "five services scraped three times")
        asyncio.run(_something_happens(target))
        yield running


def wait(look: Callable[[], object], what: str, within: float = 45) -> None:
    deadline = time.monotonic() + within
    while not look():
        assert time.monotonic() < deadline, f"not seen within {within} s: {what}"
        time.sleep(0.5)


async def _something_happens(target: Target) -> None:
    async with (
        await citizen(target, "Siti Aminah") as siti,
        staff(target, Role.CENTRAL_OPERATOR) as central,
        staff(target, Role.REGIONAL_OPERATOR) as regional,
        staff(target, Role.AGENCY_OPERATOR, "DPUPR") as agency,
    ):
        await file_complaint(siti)  # and nobody forwards it
        complaint_id = (await file_complaint(siti))["complaint_id"]
        case, work = f"/v1/cases/{complaint_id}", f"/v1/work/{complaint_id}"
        await central.can("routing", case, "forwarded")
        await central.post("routing", f"{case}/forward", {"analysis": "Lengkap dan jelas."})
        await regional.can("routing", case, "assigned")
        await regional.post("routing", f"{case}/assign", {"agency": "DPUPR", "considerations": "Jalan kota."})
        await agency.can("opd", work, "started")
        await agency.post("opd", f"{work}/start", {"unit": "Sekretariat"})
        photo = await agency.photo("opd", street(1, repaired=True, width=640, height=480))
        await agency.can("opd", work, "completed")
        await agency.post("opd", f"{work}/complete", {"photos": [photo], "note": "Lubang sudah ditutup aspal."})
        await regional.can("routing", case, "documented")
        await asyncio.sleep(1.5)
        await regional.post("routing", f"{case}/document", {"note": "Bukti sesuai."})
        await siti.can("intake", f"/v1/complaints/{complaint_id}", "reopened")
    producer = AIOKafkaProducer(bootstrap_servers=target.kafka_bootstrap)
    await producer.start()
    try:
        await producer.send_and_wait(f"{target.namespace}.complaint.submitted", b"no event", b"nobody")
    finally:
        await producer.stop()


def _as_grafana_asks(query: str) -> str:
    """The query with Grafana's variables filled in, "All" chosen for those of the dashboard."""
    query = query.replace("$__rate_interval", "1m").replace("$__range", "5m")
    return re.sub(r"\$\w+", ".*", query)


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_panel_of_a_dashboard_shows_data(prometheus: Prometheus, path: Path) -> None:
    panels: list[dict[str, Any]] = json.loads(path.read_text())["panels"]
    queries = {
        (panel["title"], target["expr"]): _as_grafana_asks(target["expr"])
        for panel in panels
        for target in panel.get("targets", ())
    }
    assert len(queries) > 15
    empty = dict(queries)

    def all_seen() -> bool:
        for key, query in list(empty.items()):
            if prometheus.samples(query):
                del empty[key]
        return not empty

    try:
        wait(all_seen, "data in each panel")
    except AssertionError:
        pytest.fail("no data: " + "\n".join(f"{title}: {query}" for (title, _), query in empty.items()))


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_variable_of_a_dashboard_has_values(prometheus: Prometheus, path: Path) -> None:
    for variable in json.loads(path.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
            assert match, variable["definition"]
            wait(partial(_values, prometheus, *match.groups()), variable["definition"])


def _values(prometheus: Prometheus, metric: str, label: str) -> list[str]:
    return [value for value in prometheus.get(f"label/{label}/values", **{"match[]": metric}) if value]


def test_every_rule_has_data_while_all_is_well(prometheus: Prometheus) -> None:
    rules = [
        rule
        for path in CONFIG.glob("rules/*.rules.yml")
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]
    queries = [rule.get("record") or re.sub(r" [<>] [\d.e]+$", "", rule["expr"]) for rule in rules]
    assert len(queries) > 20
    wait(lambda: all(prometheus.samples(query) for query in queries), "data of each rule")
    told = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(told) == len(rules)
    assert [(rule["name"], rule.get("lastError")) for rule in told if rule["health"] != "ok"] == []


def test_what_happened_reaches_the_alerts(prometheus: Prometheus) -> None:
    """A breach of step 2, a late step 5, a step taken in time, and a record that nobody could use."""

    def firing() -> set[tuple[str, str]]:
        alerts = prometheus.get("alerts")["alerts"]
        return {(a["labels"]["alertname"], a["labels"].get("step") or a["labels"].get("service", "")) for a in alerts}

    expected = {("LaporStepOverdue", "2"), ("LaporStepBreached", "2"), ("LaporStepBreached", "5")}
    expected |= {("LaporDeadLetters", name) for name in ("routing", "notify", "sla")}
    wait(lambda: expected <= firing(), f"alerts {expected}")
    assert not {"LaporServiceMissing", "LaporProcessDown", "LaporConsumerStuck"} & {name for name, _ in firing()}
    late = prometheus.samples("sum by (step) (lapor_step_lateness_seconds_count) > 0")
    assert {labels["step"] for labels, _ in late} == {"5"}
    kept = prometheus.samples('sum by (step) (lapor_step_duration_seconds_count{verdict="in_time"}) > 0')
    assert {"1", "4", "6"} <= {labels["step"] for labels, _ in kept}
