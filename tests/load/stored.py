"""Row 4: whole complaints while very many are stored already."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.load import sop
from tests.load.installation import Installation, installation
from tests.load.proof import until_level
from tests.load.row import Effort, Measured, compare, figure
from tests.load.seed import seeded_folder
from tests.load.whole_sop import PEER_RATE, facts

PEER_RATE_AT_A_MILLION = 6.3
SEEDS = Path("build/seed")
"""Seeded data folders are kept for the next run."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The straight path at two amounts of stored complaints, in turn."""

    name: str = "stored"
    title: str = "Whole complaints with 1,000,000 stored, beside 10,000"
    how: str = (
        "The same as for whole complaints (citizens with a phone number only), on two installations in turn: one has "
        "10,000 complaints in its five databases, the other 1,000,000, made by the services' own decisions and folds "
        "(97 % closed). For each run the installation is started anew and left alone until nothing waits. The peer "
        "fell from 37/s to 6.3/s at a million records, as published."
    )

    def run(self, effort: Effort) -> Measured:
        few, many = int(effort.pick(500, 10_000)), int(effort.pick(2_000, 1_000_000))
        pairs = int(effort.pick(1, 3))
        of: dict[int, list[sop.Journey]] = {few: [], many: []}
        result = Measured([], facts={"in_flight": int(effort.pick(40, 600)), "few": few, "many": many})
        folders = {count: seeded_folder(SEEDS / str(count), count, say=effort.say) for count in of}
        for number in range(1, pairs + 1):
            for count, journeys in of.items():
                effort.say(f"  {count} stored, run {number}")
                with installation(folders[count], effort.say, fresh=False) as bench:
                    effort.say(f"  level after {until_level(bench, within=900):.0f} s")
                    journeys.append(self._measure(bench, effort, result, f"{count} {number}"))
        result.comparisons += [
            compare(
                "complete lifecycles",
                "/s",
                [journey.rate for journey in of[many]],
                [journey.rate for journey in of[few]],
                at_least=0.9,
                against_name=f"same at {few}",
            ),
            *(
                compare(
                    what,
                    unit,
                    [value(journey) for journey in of[many]],
                    [value(journey) for journey in of[few]],
                    at_most=1.3 if share == 0.95 else None,
                    against_name=f"same at {few}",
                )
                for share in (0.5, 0.95)
                for what, unit, value in _latencies(share)
            ),
            figure("lag back to 0", "s", [journey.lag_gone or journey.waited for journey in of[many]]),
        ]
        result.notes.append(
            f"The peer kept {PEER_RATE_AT_A_MILLION / PEER_RATE:.2f}x of its rate at a million records, as published."
        )
        return result

    def _measure(self, bench: Installation, effort: Effort, result: Measured, run: str) -> sop.Journey:
        people = bench.people(int(effort.pick(10, 100)))
        with bench.cpu.of(result.cpu, run):
            journey = bench.run(
                sop.play(
                    bench,
                    people,
                    in_flight=result.facts["in_flight"],
                    warm_up=effort.pick(3, 10),
                    seconds=effort.pick(5, 30),
                    drain=60,
                )
            )
        until_level(bench, within=300)
        bench.say(f"  {run}: {journey.rate:.1f} lifecycles/s, p95 {journey.lifecycle(0.95):.2f} s")
        result.facts[run] = facts(journey)
        result.proofs |= {f"{run}: {what}": proved for what, proved in sop.proofs(bench, [journey]).items()}
        return journey


def _latencies(share: float) -> list[tuple[str, str, Callable[[sop.Journey], float]]]:
    percent = round(100 * share)
    return [
        (f"receipt to reply p{percent}", "s", lambda journey: journey.lifecycle(share)),
        (f"one request p{percent}", "ms", lambda journey: 1e3 * journey.request(share)),
    ]


STORED = Stored()
