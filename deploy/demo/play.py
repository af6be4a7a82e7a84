"""The demo from curtain to curtain: everybody signs in, five stories are told, the balance is drawn."""

import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from rich.console import Console

from deploy.demo.narrator import Narrator
from deploy.demo.people import DemoFailed, citizen, staff
from deploy.demo.stories import Cast, Complaint, Stories
from deploy.demo.target import Target
from deploy.demo.witness import Witness
from shared.sop import Clock, Role, Transition

AGENCIES = ("DPUPR", "DLH")


async def play(target: Target, console: Console) -> int:
    """Carry the five complaints through; returns the exit code: 0 only if every step was seen where it must be."""
    began = time.monotonic()
    try:
        await _play(target, console)
    except (DemoFailed, LookupError) as failure:
        console.print(f"\nThe demo failed: {failure}", style="red", markup=False)
        return 1
    console.print(f"\nAll of it was seen. {time.monotonic() - began:.0f} s.", style="bold green")
    return 0


async def _play(target: Target, console: Console) -> None:
    async with AsyncExitStack() as stack:
        witness = await stack.enter_async_context(Witness(target))
        cast = Cast(
            citizen=await stack.enter_async_context(await citizen(target, "Siti Aminah", say=console.print)),
            central=await stack.enter_async_context(staff(target, Role.CENTRAL_OPERATOR)),
            regional=await stack.enter_async_context(staff(target, Role.REGIONAL_OPERATOR)),
            coordinator=await stack.enter_async_context(staff(target, Role.COORDINATOR)),
            agencies={
                code: await stack.enter_async_context(staff(target, Role.AGENCY_OPERATOR, code)) for code in AGENCIES
            },
        )
        narrator = Narrator(console, witness, cast.citizen, cast.coordinator)
        stories = Stories(cast, narrator, AGENCIES)
        narrator.title("1. A complaint that is left lying (it runs over its deadline while the others are told)")
        neglected = await stories.neglected()
        told: list[Complaint] = []
        program: list[tuple[str, Callable[[], Awaitable[Complaint]]]] = [
            ("2. Straight through the six steps", stories.straight),
            ("3. Returned as incomplete, corrected, resubmitted", stories.corrected),
            ("4. Declined by one agency, assigned to another", stories.reassigned),
            ("5. Rework, answer, reopening, second answer, rating", stories.reworked),
        ]
        for title, story in program:
            narrator.title(title)
            told.append(await story())
        narrator.title("1. again: what became of the complaint that was left lying")
        await narrator.overdue(neglected.id, Clock.FORWARD)
        narrator.title("The time lines, as the citizen reads them")
        for complaint in (*told, neglected):
            await narrator.timeline(complaint.id)
        narrator.title("What the witness read")
        for topic, events in sorted(witness.topics_used().items()):
            console.print(f"{events:5}  {topic}")
        unseen = [move.value for move in Transition if not narrator.moves[move]]
        if unseen:
            raise DemoFailed(f"these transitions were not seen on their topics: {', '.join(unseen)}")
