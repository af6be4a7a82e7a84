"""TCP ports on this machine: free ones, and a clear word about taken ones."""

import contextlib
import errno
import random
import socket

import psutil

from deploy.local.errors import CannotRun, PortTaken

LOOPBACK = "127.0.0.1"
UNHURRIED = range(20_000, 32_000)  # below the ports that systems hand out to outgoing connections at any moment


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different. Bind them soon: nothing reserves them."""
    found: list[int] = []
    while len(found) < count:
        port = random.choice(UNHURRIED)  # noqa: S311 - no secret
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            if port not in found:
                found.append(port)
    return found


def require_free(port: int, wanted_by: str, setting: str) -> None:
    """Raise PortTaken, naming the owner where the system tells, when `port` cannot be bound on loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(port, wanted_by, setting, owner_of(port)) from error
            raise CannotRun(f"Port {port}, wanted by {wanted_by}, cannot be bound: {error}. Set {setting}.") from error


def owner_of(port: int) -> str | None:
    """`process <id> (<command line>)` of who listens on `port`; None when the system does not tell."""
    try:
        for connection in psutil.net_connections("tcp"):
            if (
                connection.laddr
                and connection.laddr.port == port
                and connection.status == psutil.CONN_LISTEN
                and connection.pid
            ):
                command = " ".join(psutil.Process(connection.pid).cmdline())
                return f"process {connection.pid} ({command[:120]})"
    except psutil.Error:
        return None
    return None


def accepts(port: int) -> bool:
    """Whether somebody accepts connections on `port` of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((LOOPBACK, port)) == 0
