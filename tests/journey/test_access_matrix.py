"""Who may ask for what: every route of every service by every kind of caller. Deny by default: a new route has no row
here, and the test fails until somebody has said who may use it.

This is the gate of each route, which looks at the role and, of machine accounts, at their scopes. Whose complaint it
is, is decided behind it: ``test_access_situations.py``. The two tables are in ``tests/access.py``, and
``docs/access.md`` is made of them.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from deploy.local.servers import Servers
from services.intake.app import build as build_intake
from services.notify.app import build as build_notify
from services.notify.settings import Settings as NotifySettings
from services.opd.app import build as build_opd
from services.opd.settings import Settings as OpdSettings
from services.routing.app import build as build_routing
from services.routing.settings import Settings as RoutingSettings
from services.sla.app import build as build_sla
from services.sla.settings import Settings as SlaSettings
from shared.scopes import GRANTABLE
from shared.settings import ServiceSettings
from shared.sop import Role
from shared.topics import create
from tests.access import EVERYBODY, FOR_PEOPLE, MATRIX, OPERATIONS, SHOWS, Allowed
from tests.support import tokens
from tests.support.audit import audit_key
from tests.support.intake import intake_settings
from tests.support.running import UNHURRIED, running


def built(service: str, servers: Servers, namespace: str, folder: Path) -> tuple[ServiceSettings, FastAPI]:
    """A service's settings and application."""
    where: Any = {"namespace": namespace, "kafka_bootstrap": servers.kafka_bootstrap, "mongo_url": servers.mongo_url}
    if service == "intake":
        settings = intake_settings(servers, namespace, folder)
        return settings, build_intake(settings)
    others: dict[str, tuple[type[ServiceSettings], Callable[[Any], FastAPI]]] = {
        "routing": (RoutingSettings, build_routing),
        "opd": (OpdSettings, build_opd),
        "notify": (NotifySettings, build_notify),
        "sla": (SlaSettings, build_sla),
    }
    kind, build = others[service]
    made = kind(**where, audit_key_file=audit_key(), limits=UNHURRIED)
    return made, build(made)


def routes(app: FastAPI) -> set[str]:
    """What the service's OpenAPI document offers: method and path."""
    return {f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods}


def gate(allowed: Allowed, role: Role | None) -> int | None:
    """The status with which a caller of this role (None: without a token) is turned away; None: it passes."""
    if allowed is EVERYBODY or role in allowed:
        return None
    return 401 if role is None else 403


@pytest.mark.parametrize("service", MATRIX)
async def test_each_route_lets_in_whom_its_row_names(
    servers: Servers, namespace: str, tmp_path: Path, service: str
) -> None:
    settings, app = built(service, servers, namespace, tmp_path)
    rows = OPERATIONS | MATRIX[service]
    assert routes(app) == set(rows), "a route without a row, or a row without a route"
    assert set(MATRIX[service]) == set(SHOWS[service]), "what does the route show? (tests/access.py)"
    await create(settings)
    wrong = []
    async with running(app) as client:
        for row, allowed in rows.items():
            method, path = row.split()
            address = re.sub(r"\{.*?\}", "nothing-of-that-name", path)
            for role in (None, *Role):
                headers = tokens.bearer(role, "somebody", "pupr") if role else {}
                status = (await client.request(method, address, headers=headers)).status_code
                turned_away = status if status in (401, 403) else None
                if turned_away != gate(allowed, role) or status >= 500:
                    wrong.append(f"{row} by {role or 'nobody'}: {status}")
            for role in sorted((allowed or frozenset()) - {Role.CITIZEN}):
                scope = f"{service}:{'read' if method == 'GET' else 'write'}"
                for scopes, passes in ((GRANTABLE - {scope}, False), ({scope}, row not in FOR_PEOPLE)):
                    headers = tokens.bearer(role, "machine", "pupr", scope=" ".join(scopes))
                    status = (await client.request(method, address, headers=headers)).status_code
                    if (status not in (401, 403)) != passes:
                        wrong.append(f"{row} by a machine, {role} with {' '.join(scopes)}: {status}")
    assert wrong == []
