"""A key for the audit log, and writers of it in processes of their own (``python -m tests.support.audit``)."""

import asyncio
import atexit
import secrets
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

from shared.audit import Action
from shared.audit_store import audit_log
from shared.settings import ServiceSettings
from shared.storage import connect

WRITERS, EACH = 20, 10


@cache
def audit_key() -> Path:
    """A key file that all tests of a run share, until its end."""
    folder = Path(tempfile.mkdtemp(prefix="lapor-audit-"))
    atexit.register(shutil.rmtree, folder)
    path = folder / "audit-key"
    path.write_bytes(secrets.token_bytes(32))
    return path


async def write_much(settings: ServiceSettings, service: str, name: str) -> None:
    """Twenty writers at the same time, ten records each."""
    client = connect(settings)
    log = audit_log(client[settings.database(service)], service, settings.audit_key_file)

    async def write(writer: int) -> None:
        for number in range(EACH):
            await log.record(Action.AGENCY_ADDED, "cli:tests", f"{name}-{writer}-{number}")

    try:
        await asyncio.gather(*(write(writer) for writer in range(WRITERS)))
    finally:
        client.close()


if __name__ == "__main__":
    asyncio.run(write_much(ServiceSettings(), *sys.argv[1:]))
