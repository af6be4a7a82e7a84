"""Services are stopped and killed in mid-journey; the others go on, and nothing that was acknowledged is lost."""

import asyncio
from collections.abc import Sequence

import pytest

from deploy.demo.people import citizen, staff
from deploy.demo.pictures import street
from deploy.demo.target import Target
from deploy.demo.witness import Witness
from deploy.local.launcher import System
from shared.sop import Role, Transition
from tests.support.filing import file_complaint


async def chain(witness: Witness, complaint_id: str, moves: Sequence[Transition]) -> None:
    """Wait until the witness has read exactly these transitions, each on its topic and at its place in the chain."""
    for seq, move in enumerate(moves, start=1):
        seen = await witness.event(f"{complaint_id}:{seq}", move.topic)
        assert seen.value["seq"] == seq
        assert seen.value["complaint_id"] == complaint_id


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_journey_through_outages_of_every_service(system: System, target: Target, end: str) -> None:
    def down(*names: str) -> None:
        for name in names:
            system.kill(name) if end == "kill" else system.stop(name)

    async with (
        Witness(target) as witness,
        await citizen(target, "Budi Santoso") as budi,
        staff(target, Role.CENTRAL_OPERATOR) as central,
        staff(target, Role.REGIONAL_OPERATOR) as regional,
        staff(target, Role.COORDINATOR) as coordinator,
        staff(target, Role.AGENCY_OPERATOR, "DPUPR") as agency,
    ):
        down("routing", "opd", "notify", "sla")
        receipt = await file_complaint(budi)  # acknowledged while nobody else is there
        complaint_id = receipt["complaint_id"]
        case, work = f"/v1/cases/{complaint_id}", f"/v1/work/{complaint_id}"
        await asyncio.to_thread(system.start, "routing")
        await central.can("routing", case, "forwarded")
        await central.post("routing", f"{case}/forward", {"analysis": "Lengkap dan jelas."})
        down("intake")  # sign-in and the citizen's desk are away; the operators' work goes on
        await regional.can("routing", case, "assigned")
        await regional.post("routing", f"{case}/assign", {"agency": "DPUPR", "considerations": "Jalan kota."})
        await witness.event(f"{complaint_id}:3", Transition.ASSIGNED.topic)
        down("routing")
        await asyncio.to_thread(system.start, "opd", "intake")
        await agency.can("opd", work, "started")
        await agency.post("opd", f"{work}/start", {"unit": "Sekretariat"})
        photo = await agency.photo("opd", street(1, repaired=True, width=640, height=480))
        await agency.can("opd", work, "completed")
        await agency.post("opd", f"{work}/complete", {"photos": [photo], "note": "Lubang sudah ditutup aspal."})
        down("opd")  # at once: what it may not have published yet, it publishes when it is back
        await asyncio.to_thread(system.start, "opd", "routing")
        await regional.can("routing", case, "documented")
        await regional.post("routing", f"{case}/document", {"note": "Bukti sesuai."})
        await asyncio.to_thread(system.start, "notify", "sla")
        answered = await budi.can("intake", f"/v1/complaints/{complaint_id}", "reopened")
        assert answered["status"] == "answered"
        moves = (
            Transition.SUBMITTED,
            Transition.FORWARDED,
            Transition.ASSIGNED,
            Transition.STARTED,
            Transition.COMPLETED,
            Transition.DOCUMENTED,
            Transition.ANSWERED,
        )
        await chain(witness, complaint_id, moves)
        last = await witness.event(f"{complaint_id}:7", Transition.ANSWERED.topic)
        await witness.stored(last, ("intake", "routing", "opd", "notify", "sla"))
        inbox = await budi.get("notify", "/v1/inbox", limit=100)
        about = [entry["about"] for entry in inbox["items"] if entry["complaint_id"] == complaint_id]
        assert sorted(about) == [f"{complaint_id}:{seq}" for seq in range(1, 8)], "each notice once, none missing"
        await witness.mail(budi.identity.login, f"{complaint_id}:6")
        clocks = (await coordinator.get("sla", f"/v1/complaints/{complaint_id}/clocks"))["clocks"]
        by_name = {clock["clock"]: clock for clock in clocks}
        assert by_name["follow_up"]["stopped_at"] is not None
        assert by_name["answer"]["stopped_at"] is not None
