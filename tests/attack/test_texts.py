"""Scripts and formulas in every text that somebody can write: they come back as data, whoever reads them, anywhere."""

import email
import email.policy
import html
from email.message import EmailMessage
from typing import Any

from deploy.demo.people import Identity, Person, register
from shared.sop import Role
from tests.attack.conftest import World
from tests.attack.operations import operations
from tests.attack.test_injection import SERVICES
from tests.support.running import until

SCRIPT = "<script>alert('kapuas')</script>"
IMAGE = '"><img src=x onerror=alert(1)>'
FORMULA = '=HYPERLINK("http://evil.example","klik")'
BREAK = "Kapuas\r\nBcc: semua@warga.example\r\n\r\n"


async def attacker(world: World) -> Person:
    """A citizen whose name is an attack."""
    address = "penyerang.kapuas@warga.example"
    body = {"name": f"{IMAGE}{BREAK}", "email": address, "password": "kuda parit lampu senja"}
    await register(world.target, body)
    return Person(world.target, Identity("penyerang", "citizen", address), body["password"])


def letters(world: World, to: str) -> list[EmailMessage]:
    """The e-mails that somebody got."""
    found = []
    for path in world.target.mail_dir.glob("**/*.eml"):
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        if to in str(message["To"]):
            found.append(message)
    return found


async def test_what_is_written_comes_back_as_data(world: World) -> None:
    async with await attacker(world) as person:
        usual, world.people[Role.CITIZEN] = world.people[Role.CITIZEN], person
        try:
            place = {"longitude": 109.3425, "latitude": -0.0263, "address": f"{FORMULA}{SCRIPT}"}
            receipt = await world.carried(
                "documented",
                title=f"{FORMULA} {SCRIPT}",
                description=f"{SCRIPT}{IMAGE}\r\n+cmd|' /C calc'!A0\t@SUM(1+1)",
                place=place,
            )
        finally:
            world.people[Role.CITIZEN] = usual
        case = receipt["complaint_id"]
        reads = [
            ("intake", Role.REGIONAL_OPERATOR, f"/v1/complaints/{case}"),
            ("intake", Role.REGIONAL_OPERATOR, f"/v1/complaints/{case}/timeline"),
            ("routing", Role.COORDINATOR, f"/v1/cases/{case}"),
            ("routing", Role.COORDINATOR, "/v1/cases"),
            ("routing", Role.COORDINATOR, "/v1/informed"),
        ]
        for service, role, path in reads:
            async with world.client(service, role) as client:
                answer = await client.get(path)
            assert answer.status_code == 200, f"{path}: {answer.text}"
            assert answer.headers["content-type"] == "application/json", path
            assert answer.headers["x-content-type-options"] == "nosniff", path
        shown: dict[str, Any] = await person.get("intake", f"/v1/complaints/{case}")
        assert SCRIPT in shown["report"]["title"], "text is kept as it was written"

        async def told() -> list[EmailMessage]:
            found = letters(world, "penyerang.kapuas@warga.example")
            return found if any("Kapuas" in str(mail["To"]) for mail in found) else []

        for mail in await until(told, within=60):
            assert mail["Bcc"] is None
            assert len(mail.get_all("To", [])) == 1
            assert "semua@warga.example" not in [a.addr_spec for a in mail["To"].addresses]
            page = mail.get_body(("html", "plain"))  # the one with the code is plain text
            assert page is not None
            content = page.get_content()
            assert "<script" not in content
            assert "<img src=x" not in content
            if "onerror" in content:
                assert html.escape(IMAGE, quote=False)[-20:] in content.replace("&#34;", '"')


async def test_nothing_is_served_that_a_spreadsheet_would_open(world: World) -> None:
    """There is no CSV to neutralise formulas in. Whoever adds one has to say so here, and to neutralise them."""
    kinds = set()
    for service in SERVICES:
        for operation in await operations(service, world.urls[service]):
            for answer in operation.answers.values():
                kinds |= set(answer.get("content", {}))
    assert "application/json" in kinds
    assert not {kind for kind in kinds if "csv" in kind or "spreadsheet" in kind or "excel" in kind or "html" in kind}
