"""The whole system as processes, on the session's servers, for tests that need all five services."""

import secrets
from collections.abc import Iterator

import pytest

from deploy.demo.target import SignIn, Target
from deploy.local.launcher import System, running_system
from deploy.local.servers import Servers
from deploy.local.settings import LocalSettings


@pytest.fixture(scope="package")
def system_settings(servers: Servers) -> LocalSettings:
    """The session's servers, free ports, and a namespace that nothing else uses."""
    return LocalSettings(
        namespace=f"j{secrets.token_hex(5)}", kafka_bootstrap=servers.kafka_bootstrap, mongo_url=servers.mongo_url
    ).on_free_ports()


@pytest.fixture(scope="package")
def system(system_settings: LocalSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Five services; whoever stops one starts it again."""
    with running_system(tmp_path_factory.mktemp("system"), settings=system_settings, say=lambda _: None) as running:
        yield running


@pytest.fixture
def target(system: System, system_settings: LocalSettings) -> Target:
    """The running system as the demo's people and witness see it."""
    assert system.servers.mail_dir is not None
    return Target(
        system.urls,
        system.servers.kafka_bootstrap,
        system.servers.mongo_url,
        system.servers.mail_dir,
        tuple(SignIn(a.login, a.password, a.role, a.name, a.agency) for a in system.credentials.staff),
        system_settings.namespace,
    )
