"""Log lines of services, mongod and Kafka become one readable line each."""

import re

import pytest

from deploy.local.logs import readable


@pytest.mark.parametrize(
    ("line", "level", "said"),
    [
        (
            '{"event": "ready", "lag": 3, "level": "warning", "timestamp": "2026-11-24T08:00:33Z", "service": "opd"}',
            "warning",
            "ready lag=3",
        ),
        (
            '{"t":{"$date":"2026-11-24T07:28:53.676+00:00"},"s":"E","c":"FTDC","id":2,"ctx":"x","msg":"No","attr":{"n":1}}',
            "error",
            'No {"n": 1}',
        ),
        ("07:28:51.661 [WARN] QuorumController - Performing", "warning", "QuorumController - Performing"),
        ("Traceback (most recent call last):", "info", "Traceback (most recent call last):"),
        ("[1, 2]", "info", "[1, 2]"),
        ("null", "info", "null"),
    ],
)
def test_a_line(line: str, level: str, said: str) -> None:
    time, level_read, text, details = readable(line)
    assert (level_read, text + details) == (level, said)
    assert re.fullmatch(r"(\d\d:\d\d:\d\d)?", time)
