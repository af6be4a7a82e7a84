"""Schemathesis over all five OpenAPI documents: every check, every phase (examples, coverage, fuzzing, stateful), as
each role for which there is something behind the gate.

Each runs twice: with whatever ids it makes up, and with the ids of complaints that are there, so that what lies behind
"not found" is reached.
"""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from shared.sop import Role
from tests.attack.conftest import FULL, SEED, World

CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 12 if FULL else 3

SHORT = [
    ("intake", Role.CITIZEN, "submitted"),
    ("routing", Role.REGIONAL_OPERATOR, "forwarded"),
    ("opd", Role.AGENCY_OPERATOR, "started"),
    ("notify", Role.CITIZEN, "documented"),
    ("sla", Role.COORDINATOR, "completed"),
]
FURTHER = [
    ("intake", Role.CITIZEN, "documented"),
    ("intake", Role.REGIONAL_OPERATOR, "forwarded"),
    ("routing", Role.CENTRAL_OPERATOR, "submitted"),
    ("routing", Role.REGIONAL_OPERATOR, "completed"),
    ("routing", Role.COORDINATOR, "documented"),
    ("routing", Role.ADMIN, "submitted"),
    ("opd", Role.AGENCY_OPERATOR, "assigned"),
    ("notify", Role.COORDINATOR, "documented"),
    ("sla", Role.AGENCY_OPERATOR, "assigned"),
]


async def schemathesis(world: World, service: str, role: Role, config: Path, folder: Path) -> tuple[int, str]:
    """Exit code and output of a run, which leaves its notes in ``folder``."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "--no-color"]
    command += ["run", f"{world.urls[service]}/openapi.json", "--max-examples", str(EXAMPLES), "--seed", str(SEED)]
    command += ["--continue-on-failure", "--header", f"Authorization: {world.headers(role)['Authorization']}"]
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


def judged(code: int, output: str) -> None:
    """Fails unless the run has tested something and found nothing."""
    assert code == 0, output[output.find("FAILURES") :]
    made = re.search(r"(\d+) generated, (\d+) passed", output)
    assert made, output
    assert int(made[1]) == int(made[2]) > 100, output


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("service", "role", "reached"), SHORT + (FURTHER if FULL else []))
async def test_every_answer_is_as_the_document_says(
    world: World, tmp_path: Path, service: str, role: Role, reached: str
) -> None:
    judged(*await schemathesis(world, service, role, CONFIG, tmp_path))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("service", "role", "reached"), SHORT + (FURTHER if FULL else []))
async def test_so_it_is_of_complaints_that_are_there(
    world: World, tmp_path: Path, service: str, role: Role, reached: str
) -> None:
    own = await world.carried(reached)  # of this run's own, since it is moved on
    config = tmp_path / "schemathesis.toml"
    config.write_text(
        f'parameters = {{ "path.complaint_id" = "{own["complaint_id"]}", "path.photo_id" = "{world.photo}" }}\n'
        + CONFIG.read_text()
    )
    judged(*await schemathesis(world, service, role, config, tmp_path))
