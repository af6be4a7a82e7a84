"""Whoever is told to end does so, whatever it is doing at that moment."""

import asyncio
import signal
import socket
from collections.abc import Callable

import pytest
import uvloop

from deploy.local.launcher import ending_on_signals


class Struck(asyncio.Protocol):
    """A connection that is in the middle of what it has received when the signal comes."""

    def data_received(self, data: bytes) -> None:
        signal.raise_signal(signal.SIGTERM)


async def struck() -> None:
    """Goes on for long unless it is told to end."""
    here, there = socket.socketpair()
    transport, _ = await asyncio.get_running_loop().create_connection(Struck, sock=here)
    there.send(b"something")
    try:
        await asyncio.sleep(20)
    finally:
        transport.close()
        there.close()


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_signal_in_the_middle_of_a_callback_ends_the_loop(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    with pytest.raises(KeyboardInterrupt), ending_on_signals(), asyncio.Runner(loop_factory=factory) as runner:
        runner.run(struck())


def struck_twice() -> None:
    """Told to end, and told again while it does so."""
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.raise_signal(signal.SIGINT)


def test_a_second_signal_does_not_disturb_the_stopping() -> None:
    with ending_on_signals():
        with pytest.raises(KeyboardInterrupt) as told:
            struck_twice()
        assert told.value.__context__ is None, "the second one was raised while the first was on its way"
