"""The controls: with one safety measure taken away, the checker must object. A check that has not been seen failing
does not count."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.chaos import faults
from tests.chaos.campaign import Round, Say, begin
from tests.chaos.faults import Fault
from tests.chaos.history import History
from tests.chaos.rig import Rig

_PATIENCE_SECONDS = 15.0
_REST_WITHIN = 2 * _PATIENCE_SECONDS
"""What has lost its safety does not come to rest; there is no use in waiting long for it. But while people still try,
something changes, and nothing can be judged."""


@dataclass(frozen=True, slots=True)
class Control:
    """A service without one of its measures, the fault that makes it show, and the properties that must fall."""

    mutant: str
    service: str
    faults: Callable[[], Sequence[Fault]]
    must_fall: tuple[str, ...]
    """Those that fall with certainty; others may fall with them."""
    racing: float = 0.0


CONTROLS: tuple[Control, ...] = (
    Control("relay-off", "routing", lambda: [_mutant_crash("relay-off", "routing", "after-insert", 2)], ("P3", "P4")),
    Control("at-most-once", "sla", lambda: [_mutant_crash("at-most-once", "sla", "before-apply", 1)], ("P4", "P8")),
    Control("unique-key-off", "routing", list, ("P1", "P2"), racing=1.0),
    Control("deduplication-off", "notify", lambda: [faults.replay()], ("P5",)),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a control came out: what fell, and whether that is what had to."""

    control: Control
    round: Round

    @property
    def fell(self) -> dict[str, int]:
        """Violations by property."""
        found = [violation.prop for violation in self.round.violations]
        return {prop: found.count(prop) for prop in sorted(set(found))}

    @property
    def as_expected(self) -> bool:
        """All properties that had to fall have fallen."""
        return set(self.control.must_fall) <= self.fell.keys()


def _mutant_crash(mutant: str, service: str, point: str, passing: int) -> Fault:
    return faults.crash_at(service, point, passing, "--mutant", mutant)


async def carry_out(rig: Rig, control: Control, history: History, say: Say) -> Verdict:
    """One control in a namespace of its own."""
    name = f"without-{control.mutant.removesuffix('-off')}"
    say(f"Control: {control.service} with {control.mutant}")
    dressed = {control.service: ("--mutant", control.mutant)}
    campaign = await begin(rig, name, history, say, dressed)
    campaign.clients.racing = control.racing
    for person in campaign.clients.crew.everybody:
        person.patience_seconds = _PATIENCE_SECONDS
    result = await campaign.round(name, control.faults(), per_second=2, most=8, rest=_REST_WITHIN)
    verdict = Verdict(control, result)
    say(f"  fell: {verdict.fell or 'nothing'}; had to: {', '.join(control.must_fall)}")
    return verdict
