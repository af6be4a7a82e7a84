"""TCP ports on this machine: free ones, and a clear word about taken ones."""

import errno
import fcntl
import os
import random
import socket
from functools import cache

import psutil

from deploy.local.errors import CannotRun, PortTaken
from deploy.local.folder import cache_folder

LOOPBACK = "127.0.0.1"
UNHURRIED = range(20_000, 32_000)  # below the ports that systems hand out to outgoing connections at any moment
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now. They are this process's as long as it lives: no other process of this user is
    given one of them, so that systems which start at the same time do not meet. Raises CannotRun."""
    found: list[int] = []
    for port in random.sample(UNHURRIED, len(UNHURRIED)):
        if len(found) == count:
            break
        if port not in _given and _bindable(port) and _claim(port):
            _given.add(port)
            found.append(port)
    if len(found) < count:
        raise CannotRun(f"{count} ports from {UNHURRIED[0]} to {UNHURRIED[-1]} are needed, and fewer are free.")
    return found


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _claim(port: int) -> bool:
    """Whether no other process has this port in the register, and now this one has."""
    try:
        fcntl.lockf(_register(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except (BlockingIOError, PermissionError):
        return False
    return True


@cache
def _register() -> int:
    """The file whose bytes stand for the ports: a port belongs to the process that has locked its byte. The system
    unlocks them when it ends, however that is."""
    path = cache_folder() / "ports"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CannotRun(f"{path} cannot be written: {error.strerror}. Set XDG_CACHE_HOME to another folder.") from error


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
