"""TCP ports on this machine: free ones, and a clear word about taken ones."""

import errno
import socket

import psutil

from deploy.local.errors import CannotRun, PortTaken

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port that nobody listens on now. Bind it soon: nothing reserves it."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


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
