"""SOP step 6 through all five services: the reply as the mail server gets it, with the photo that opd holds."""

import io
from datetime import UTC, datetime

from PIL import Image

from deploy.demo.people import Person, citizen, staff
from deploy.demo.pictures import street
from deploy.demo.target import Target
from deploy.demo.witness import Witness
from shared.sop import Role
from tests.support.filing import file_complaint
from tests.support.mail import plain_text


async def to_step_5(target: Target, person: Person) -> tuple[str, str, str]:
    """A complaint of ``person``'s, documented: its id and number, and the photo of the finished work."""
    async with (
        staff(target, Role.CENTRAL_OPERATOR) as central,
        staff(target, Role.REGIONAL_OPERATOR) as regional,
        staff(target, Role.AGENCY_OPERATOR, "DPUPR") as agency,
    ):
        receipt = await file_complaint(person)
        complaint_id = receipt["complaint_id"]
        case, work = f"/v1/cases/{complaint_id}", f"/v1/work/{complaint_id}"
        after = street(1, repaired=True, width=640, height=480)
        for who, service, path, move, action, body in (
            (central, "routing", case, "forwarded", "forward", {"analysis": "Laporan lengkap, diteruskan."}),
            (
                regional,
                "routing",
                case,
                "assigned",
                "assign",
                {"agency": "DPUPR", "considerations": "Tim PPM: setuju."},
            ),
            (agency, "opd", work, "started", "start", {"unit": "Sekretariat, Subbagian Umum"}),
        ):
            await who.can(service, path, move)
            await who.post(service, f"{path}/{action}", body)
        photo = await agency.photo("opd", after)
        done = {"photos": [photo], "note": "Lubang ditambal aspal panas\nsepanjang <3> m & dipadatkan."}
        await agency.post("opd", f"{work}/complete", done)
        await regional.can("routing", case, "documented")
        await regional.post("routing", f"{case}/document", {"note": "Bukti sesuai dengan laporan."})
        return complaint_id, receipt["number"], photo


async def test_the_reply_carries_note_and_photo_of_the_finished_work(target: Target) -> None:
    async with Witness(target) as witness, await citizen(target, "Siti Aminah") as siti:
        complaint_id, number, photo = await to_step_5(target, siti)
        mail = await witness.mail(siti.identity.login, f"{complaint_id}:6")
        assert str(mail["Subject"]) == f"Laporan {number} telah selesai ditindaklanjuti"
        assert str(mail["To"]) == f"Siti Aminah <{siti.identity.login}>"
        assert str(mail["Auto-Submitted"]) == "auto-generated"
        assert plain_text(mail).replace("\r\n", "\n") == (
            "Yth. Bapak/Ibu Siti Aminah,\n\n"
            "Laporan Anda telah selesai ditindaklanjuti oleh Dinas Pekerjaan Umum dan Penataan Ruang. "
            "Catatan hasil pekerjaan:\n\n"
            "    Lubang ditambal aspal panas\n    sepanjang <3> m & dipadatkan.\n\n"
            "Catatan Operator Admin Pengaduan Daerah:\n\n    Bukti sesuai dengan laporan.\n\n"
            "Foto hasil pekerjaan terlampir pada e-mail ini.\n\n"
            "Kami mohon kesediaan Anda memberikan penilaian. Apabila masalah belum teratasi, laporan dapat Anda buka "
            "kembali.\n\n"
            "Hormat kami,\nPengelola LAPOR! Kota Pontianak\n\n"
            "E-mail ini dikirim secara otomatis; mohon tidak membalas. Jenis e-mail yang Anda terima dapat diatur pada "
            "akun Anda.\n"
        )
        (image,) = [part for part in mail.walk() if part.get_content_maintype() == "image"]
        content = image.get_payload(decode=True)
        assert isinstance(content, bytes)
        with Image.open(io.BytesIO(content)) as attached:
            assert attached.format == "JPEG"
            assert attached.size == (640, 480)
        page = mail.get_body(("html",))
        assert page is not None
        html = page.get_content()
        assert f'src="cid:{str(image["Content-ID"]).strip("<>")}"' in html
        assert "sepanjang &lt;3&gt; m &amp; dipadatkan." in html

        answered = await witness.event(f"{complaint_id}:7", "complaint.answered")
        assert answered.value["channels"] == ["inbox", "email"]
        assert datetime.fromisoformat(answered.value["occurred_at"]) <= datetime.now(UTC)
        (entry,) = [
            e for e in (await siti.get("notify", "/v1/inbox", limit=50))["items"] if e["about"] == f"{complaint_id}:6"
        ]
        assert [p["id"] for p in entry["photos"]] == [photo]
