"""The city's single sign-on: people of a real OpenID Connect provider, a process of its own, at the routing desk."""

from collections.abc import Iterator

import pytest

from deploy.local.ports import free_ports
from deploy.local.servers import Servers
from shared.issuers import ExternalIssuer, account_id
from shared.sop import Role
from tests.support.events import Chain
from tests.support.issuer import CLIENT, Provider, provider
from tests.support.routing import BODIES, Routing, routing_at_work

PEOPLE = {
    "pegawai-1": {"groups": ["semua-pegawai", "lapor-pusat"]},
    "pegawai-2": {"groups": ["semua-pegawai"]},
    "pegawai-3": {"groups": ["lapor-admin", "lapor-koordinator"]},
}
ROLES = {"lapor-pusat": {"role": "central_operator"}, "lapor-koordinator": {"role": "coordinator"}}


@pytest.fixture(scope="module")
def sso() -> Iterator[Provider]:
    """The city's provider."""
    with provider(PEOPLE) as running:
        yield running


def configured(url: str, **changes: object) -> ExternalIssuer:
    return ExternalIssuer.model_validate({"issuer": url, "audience": CLIENT, "roles": ROLES} | changes)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def forward(routing: Routing, chain: Chain, token: str) -> int:
    path = f"/v1/cases/{chain.complaint_id}/forward"
    return (await routing.client.post(path, json=BODIES["forward"], headers=bearer(token))).status_code


async def test_somebody_of_the_citys_sign_on_makes_a_move(servers: Servers, sso: Provider) -> None:
    async with routing_at_work(servers, issuers=[configured(sso.url)]) as routing:
        chain, token = await routing.has(Chain()), sso.sign_in("pegawai-1")
        answer = await routing.client.get(f"/v1/cases/{chain.complaint_id}", headers=bearer(token))
        assert answer.json()["allowed"] == ["forwarded"]
        assert await forward(routing, chain, token) == 201
        moved = await routing.database["journal"].find_one({"_id": f"{chain.complaint_id}:2"})
        assert moved is not None
        assert moved["event"]["actor"]["id"] == account_id(sso.url, "pegawai-1")
        assert moved["event"]["actor"]["role"] == Role.CENTRAL_OPERATOR
        assert "pegawai" not in str(moved)
        assert (await routing.get(Role.CENTRAL_OPERATOR, "/v1/cases")).status_code == 200, "intake's own go on"


async def test_it_gives_no_more_than_its_map(servers: Servers, sso: Provider) -> None:
    async with routing_at_work(servers, issuers=[configured(sso.url)]) as routing:
        chain = await routing.has(Chain())
        assert await forward(routing, chain, sso.sign_in("pegawai-2")) == 401, "none of his groups is in the map"
        coordinator = sso.sign_in("pegawai-3")
        assert await forward(routing, chain, coordinator) == 403
        assert (await routing.client.get("/v1/summary", headers=bearer(coordinator))).status_code == 200
        agency = {"name": "Dinas Baru", "categories": ["roads"], "units": []}
        put = await routing.client.put("/v1/agencies/DBARU", json=agency, headers=bearer(coordinator))
        assert put.status_code == 403, "lapor-admin is not in the map"
        assert await forward(routing, chain, sso.sign_in("pegawai-1", client="another-application")) == 401
        assert await routing.database["journal"].find_one({"_id": f"{chain.complaint_id}:2"}) is None


async def test_issuers_speak_for_themselves_only(servers: Servers, sso: Provider) -> None:
    with provider(PEOPLE) as other:
        both = [configured(sso.url), configured(other.url, roles={"lapor-pusat": {"role": "regional_operator"}})]
        async with routing_at_work(servers, issuers=both) as routing:
            first, second = await routing.has(Chain()), await routing.has(Chain())
            assert await forward(routing, first, other.sign_in("pegawai-1")) == 403, "there he is regional operator"
            assert await forward(routing, first, sso.sign_in("pegawai-1")) == 201
        async with routing_at_work(servers, issuers=[configured(other.url)]) as routing:
            await routing.has(second)
            assert await forward(routing, second, sso.sign_in("pegawai-1")) == 401, "not an issuer of this installation"
            assert account_id(sso.url, "pegawai-1") != account_id(other.url, "pegawai-1")


async def test_an_issuer_that_is_away_keeps_its_own_people_out_only(servers: Servers) -> None:
    port = free_ports(1)[0]
    with provider(PEOPLE, port) as sso:
        known, url = sso.sign_in("pegawai-1"), sso.url
    async with routing_at_work(servers, issuers=[configured(url)]) as routing:
        chains = [await routing.has(Chain()) for _ in range(3)]
        assert await forward(routing, chains[0], known) == 503
        assert (await routing.move(Role.CENTRAL_OPERATOR, chains[0], "forward")).status_code == 201


async def test_a_new_key_is_found_and_the_old_one_forgotten(servers: Servers) -> None:
    port = free_ports(1)[0]
    with provider(PEOPLE, port) as sso:
        before, url = sso.sign_in("pegawai-1"), sso.url
    async with routing_at_work(servers, issuers=[configured(url)]) as routing:
        keys = routing.client._transport.app.state.verifier._issuers[url][1]  # type: ignore[attr-defined]
        keys._refetch = 0.2
        chain = await routing.has(Chain())
        with provider(PEOPLE, port) as sso:  # the same issuer with another key
            assert await forward(routing, chain, before) == 401
            assert await forward(routing, chain, sso.sign_in("pegawai-1")) == 201
