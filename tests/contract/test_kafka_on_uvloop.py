"""aiokafka on the event loop that the services run on, when a connection is reset."""

import asyncio

import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from deploy.local.ports import LOOPBACK, free_ports
from deploy.local.servers import Servers
from shared.connections import kafka_on_uvloop
from tests.chaos.proxy import Proxy


def test_a_connection_that_was_just_lost_is_no_fault_of_the_client(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AIOKafkaConnection, "send", AIOKafkaConnection.send)  # put back afterwards
    kafka_on_uvloop()
    kafka_on_uvloop()

    async def send_at_the_moment() -> None:
        proxy = Proxy(free_ports(1)[0], int(servers.kafka_bootstrap.rsplit(":", 1)[1]))
        await proxy.start()
        connection = await create_conn(LOOPBACK, proxy.port)
        try:
            assert (await connection.send(MetadataRequest([]))).brokers
            proxy.cut(reset=True)
            while not connection._closed_fut.done():  # noqa: ASYNC110 - who waits for it comes a turn too late
                await asyncio.sleep(0)
            assert connection.connected(), "the client has not noticed"
            with pytest.raises(KafkaConnectionError):
                await connection.send(MetadataRequest([]))
            assert not connection.connected()
        finally:
            connection.close()
            await proxy.stop()

    uvloop.run(asyncio.wait_for(send_at_the_moment(), 30))
