"""The operator's commands against a running installation, as processes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pyotp

from deploy.demo.people import citizen
from deploy.demo.target import Target
from deploy.local.launcher import System
from shared.sop import Transition
from tests.support.filing import file_complaint
from tests.support.running import until

ROOT = Path(__file__).parents[2]


def lapor(
    target: Target, *arguments: str, given: str = "", key: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """`lapor` with arguments, on the installation that ``target`` is."""
    own = {
        "LAPOR_NAMESPACE": target.namespace,
        "LAPOR_KAFKA_BOOTSTRAP": target.kafka_bootstrap,
        "LAPOR_MONGO_URL": target.mongo_url,
        **({"LAPOR_AUDIT_KEY_FILE": str(key)} if key else {}),
    }
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", *arguments],
        cwd=ROOT,
        env=os.environ | own,
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_a_complaint_is_shown_with_its_chain_and_how_far_each_service_is(system: System, target: Target) -> None:
    async with await citizen(target, "Rina Marlina") as rina:
        receipt = await file_complaint(rina)

    async def level() -> bool:
        shown = lapor(target, "complaint", "show", receipt["number"])
        assert shown.returncode == 0, shown.stderr
        return len(re.findall(r"^(intake|routing|sla) +level$", shown.stdout, re.MULTILINE)) == 3

    await until(level, within=30)
    missing = lapor(target, "complaint", "show", "LP-0000-0000-0")
    assert missing.returncode == 1
    assert "No complaint LP-0000-0000-0" in missing.stdout
    topics = lapor(target, "topics", "list").stdout
    assert re.search(rf"{target.namespace}\.{Transition.SUBMITTED.topic} +3 +[1-9]", topics), topics
    assert "missing" not in topics
    assert "All topics exist." in lapor(target, "topics", "create").stdout
    assert lapor(target, "deadletters", "list").returncode == 0


async def test_a_lost_second_factor_is_taken_away_by_command(system: System, target: Target) -> None:
    key = system.credentials.audit_key
    add = ("staff", "add", "lupa", "--role", "coordinator", "--name", "Lupa", "--password-stdin")
    added = lapor(target, *add, given="kuda parit lampu senja\n", key=key)
    assert added.returncode == 0, added.stdout
    assert lapor(target, "staff", "reset-second-factor", "lupa", key=key).returncode == 1
    body = {"login": "lupa", "password": "kuda parit lampu senja"}
    async with httpx.AsyncClient(base_url=target.urls["intake"], timeout=30) as client:
        headers = {"Authorization": f"Bearer {(await client.post('/v1/tokens', json=body)).json()['access_token']}"}
        secret = (await client.post("/v1/me/second-factor", headers=headers)).json()["secret"]
        code = {"code": pyotp.TOTP(secret).now()}
        assert (await client.post("/v1/me/second-factor/confirm", json=code, headers=headers)).status_code == 200
        assert (await client.post("/v1/tokens", json=body)).status_code == 401
        assert lapor(target, "staff", "reset-second-factor", "lupa", key=key).returncode == 0
        assert (await client.post("/v1/tokens", json=body)).status_code == 200


def test_staff_and_agencies_are_kept_by_command(system: System, target: Target, tmp_path: Path) -> None:
    key = system.credentials.audit_key
    add = ("staff", "add", "ops1", "--role", "agency_operator", "--agency", "DLH", "--name", "Ops Satu")
    unrecorded = lapor(target, *add, "--password-stdin", given="empat kata acak sekali\n")
    assert unrecorded.returncode == 1
    assert "LAPOR_AUDIT_KEY_FILE" in unrecorded.stdout
    assert "ops1" not in lapor(target, "staff", "list").stdout
    added = lapor(target, *add, "--password-stdin", given="empat kata acak sekali\n", key=key)
    assert added.returncode == 0, added.stdout
    assert re.search(r"agency_operator +ops1 +Ops Satu +DLH +yes", lapor(target, "staff", "list").stdout)
    assert lapor(target, "staff", "disable", "ops1", key=key).returncode == 0
    assert re.search(r"agency_operator +ops1 +Ops Satu +DLH +no", lapor(target, "staff", "list").stdout)
    refused = lapor(
        target, "staff", "add", "x", "--role", "citizen", "--name", "X", "--password-stdin", given="abcdefghij\n"
    )
    assert refused.returncode == 1
    assert "Citizens register by themselves" in refused.stdout
    recorded = lapor(target, "audit", "show", "--service", "intake", "--limit", "2").stdout
    assert re.search(
        r"staff_disabled +cli:\S+ +[0-9a-f-]{36}\s[^$]*staff_added .*account_role=agency_operator", recorded
    ), recorded
    assert "ops1" not in recorded
    verified = lapor(target, "audit", "verify", key=key)
    assert verified.returncode == 0, verified.stdout
    assert len(re.findall(r": whole$", verified.stdout, re.MULTILINE)) == 5
    assert "21 unchanged" in lapor(target, "agencies", "import", key=key).stdout
    bad = tmp_path / "bad.csv"
    bad.write_text("code,name,categories,units\nDLH,Dinas,waste|9,Sekretariat\n")
    unusable = lapor(target, "agencies", "import", str(bad))
    assert unusable.returncode == 1
    assert "line 2, column categories" in unusable.stdout.replace("\n", " ")
