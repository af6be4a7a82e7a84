"""Row 3: complete lifecycles per second on one machine."""

from dataclasses import dataclass
from typing import Any

from tests.load import sop
from tests.load.generator import quantile
from tests.load.installation import Installation, installation
from tests.load.proof import until_level
from tests.load.row import Comparison, Effort, Measured, Series, Spread, figure

PEER_RATE = 37.0
"""Complaint lifecycles per second of the closest system in use, as published, on about thirty containers."""
WANTED_RATE = 150.0
WANTED_DRAIN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class WholeSop:
    """The straight path, with all consumers, notices and clocks."""

    name: str = "whole-sop"
    title: str = "Whole complaints, the SOP's straight path"
    how: str = (
        "A fixed number of complaints is on its way at any time; each is filed, forwarded, assigned, started, "
        "completed and documented by requests over HTTP, and is complete when the event `answered`, which notify issues, is on "
        "its topic. Photos were uploaded beforehand. Before each hand-over to another desk some time passes, as for a "
        "person who has to notice it; who comes too early is refused and looks again. Five services, Kafka, mongod, "
        "the SMTP server and the generator share the machine. Two kinds of citizens: with a phone number only (seven "
        "notices each, in the inbox), and with an e-mail address (five of the notices go out as e-mails as well, the "
        "preferences' default). The peer's figure is quoted as published, for some thirty containers; it was not "
        "measured here."
    )

    def run(self, effort: Effort) -> Measured:
        result = Measured([], facts={"in_flight": int(effort.pick(40, 600)), "seconds_per_run": effort.pick(5, 60)})
        with installation(effort.folder / "whole-sop", effort.say) as bench:
            for kind, email, repeats in (("phone", False, 3), ("e-mail", True, 3)):
                self._measure(bench, effort, result, kind, email=email, repeats=int(effort.pick(1, repeats)))
        return result

    def _measure(
        self, bench: Installation, effort: Effort, result: Measured, kind: str, *, email: bool, repeats: int
    ) -> None:
        people = bench.people(int(effort.pick(10, 200)), email=email)
        seconds = result.facts["seconds_per_run"] if kind == "phone" else effort.pick(5, 30)
        journeys = []
        for number in range(1, repeats + 1):
            until_level(bench, within=300)
            with bench.cpu.of(result.cpu, f"{kind} {number}"):
                journey = bench.run(
                    sop.play(
                        bench,
                        people,
                        in_flight=result.facts["in_flight"],
                        warm_up=effort.pick(3, 10),
                        seconds=seconds,
                        drain=effort.pick(60, 120),
                    )
                )
            journeys.append(journey)
            if journey.drained is None:
                told = f"{kind}, run {number}: after {journey.waited:.0f} s not all was done that waited."
                result.notes.append(told)
            result.series.append(backlog_series(journey, f"What waits, {kind}, run {number}"))
            bench.say(
                f"  {kind} {number}: {journey.rate:.1f} lifecycles/s, p50 {journey.lifecycle(0.5):.2f} s, "
                f"lag gone after {_told(journey.lag_gone)}, all done after {_told(journey.drained)}; "
                f"refusals {dict(journey.refusals)}; failures {len(journey.failures)} {journey.failures[:2]}"
            )
        until_level(bench, within=300)
        result.comparisons += _comparisons(journeys, kind, judged=kind == "phone")
        result.proofs |= {f"{kind}: {what}": proved for what, proved in sop.proofs(bench, journeys).items()}
        result.facts[kind] = [facts(journey) for journey in journeys]


def _comparisons(journeys: list[sop.Journey], kind: str, *, judged: bool) -> list[Comparison]:
    rates = [journey.rate for journey in journeys]
    spread, peer = Spread.of(rates), Spread.of([PEER_RATE])
    wanted, met = (f">= {WANTED_RATE:g}/s", spread.median >= WANTED_RATE) if judged else ("", None)
    lag = [journey.lag_gone or journey.waited for journey in journeys]
    drained = [journey.drained or journey.waited for journey in journeys]
    limit = WANTED_DRAIN_SECONDS if judged else None
    return [
        Comparison(f"complete lifecycles ({kind})", "/s", spread, peer, "published peer", wanted, met),
        figure(f"lag back to 0 after the last request ({kind})", "s", lag, at_most=limit),
        figure(f"deliveries, reports and alarms done as well ({kind})", "s", drained, at_most=limit),
        figure(f"receipt to reply p50 ({kind})", "s", [journey.lifecycle(0.5) for journey in journeys]),
        figure(f"receipt to reply p95 ({kind})", "s", [journey.lifecycle(0.95) for journey in journeys]),
        figure(f"one request p95 ({kind})", "ms", [1e3 * journey.request(0.95) for journey in journeys]),
    ]


def facts(journey: sop.Journey) -> dict[str, Any]:
    """What is worth keeping of a run besides its figures."""
    return {
        "filed": len(journey.filed_at),
        "answered": len(journey.answered_at),
        "refusals": dict(journey.refusals),
        "failures": journey.failures[:20],
        "request_p50_ms": {
            move: round(1e3 * quantile(sorted(took), 0.5), 2) for move, took in journey.latencies.items()
        },
        "most_waiting": {
            name: max(backlog.waiting.get(name, 0) for _, backlog in journey.backlogs)
            for name in (journey.backlogs[0][1].waiting if journey.backlogs else {})
        },
    }


def backlog_series(journey: sop.Journey, title: str) -> Series:
    """What waited over the time of a run."""
    names = [
        name
        for name in (journey.backlogs[0][1].waiting if journey.backlogs else {})
        if name.endswith(" lag") or name in ("deliveries", "reports")
    ]
    lines = {name: [float(backlog.waiting[name]) for _, backlog in journey.backlogs] for name in names}
    return Series(title, "seconds", "records", [round(at, 1) for at, _ in journey.backlogs], lines)


def _told(seconds: float | None) -> str:
    return f"{seconds:.1f} s" if seconds is not None else "more time than was given"


WHOLE_SOP = WholeSop()
