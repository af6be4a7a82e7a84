"""Records that nobody can use: what a broken or hostile producer may put into the topics."""

import json
import random
from typing import Any

from tests.chaos.evidence import IN_POISON, INJECTED
from tests.chaos.history import Json

Rogue = tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]]]
"""Topic, key, value, headers."""

TOPICS = ("complaint.submitted", "complaint.assigned", "complaint.completed", "complaint.documented", "work.progress")


def _event(complaint: str, topic: str, seq: int = 1) -> Json:
    """An event that is right as far as its envelope goes."""
    return {
        "id": f"{complaint}:{seq}",
        "occurred_at": "2026-11-24T10:00:00Z",
        "complaint_id": complaint,
        "seq": seq,
        "number": "LP-0000-0000",
        "reporter_id": "nobody",
        "actor": {"role": "system", "id": "chaos", "agency": None},
        "analysis": f"poison for {topic}",
    }


def _headers(topic: str, event_id: str) -> list[tuple[str, bytes]]:
    attributes = {"ce_specversion": "1.0", "ce_id": event_id, "ce_type": f"lapor.{topic}.v1", "ce_source": "/chaos"}
    return [(name, value.encode()) for name, value in attributes.items()]


def records(namespace: str, chance: random.Random) -> list[Rogue]:
    """One record of each kind in each of some topics, and one that is valid and that handlers can hardly bear."""
    made: list[Rogue] = []
    for topic in TOPICS:
        complaint = f"{IN_POISON}{chance.getrandbits(48):012x}"
        event = _event(complaint, topic)
        right = _headers(topic, event["id"])
        key = complaint.encode()
        text = json.dumps(event).encode()
        kinds: dict[str, tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]] = {
            "no-json": (key, b"\x00\x01 not json", right),
            "empty": (key, b"", right),
            "tombstone": (key, None, right),
            "array": (key, b"[1, 2, 3]", right),
            "null": (key, b"null", right),
            "deep": (key, b"[" * 50_000, right),
            "deep-object": (key, b'{"report":' * 20_000 + b"1" + b"}" * 20_000, right),
            "not-utf-8": (key, text.replace(b"poison", b"\xff\xfe\xfa"), right),
            "fields-missing": (key, text, right),
            "no-headers": (key, text, []),
            "wrong-type": (key, text, _headers("complaint.never", event["id"])),
            "wrong-id": (key, text, _headers(topic, "another")),
            "wrong-key": (b"another", text, right),
            "no-key": (None, text, right),
            "seq-nought": (key, json.dumps({**event, "seq": 0}).encode(), right),
            "huge-number": (key, text.replace(b'"seq": 1', b'"seq": 1e999'), right),
            "surrogate": (key, text.replace(b"nobody", b"\\ud800"), right),
            "large": (key, b'{"x": "' + b"a" * 900_000 + b'"}', right),
            "header-bytes": (key, text, [("ce_type", b"\xff\xfe"), ("ce_id", b"\x80")]),
            "reply-to": (key, text, [*_headers("complaint.never", "x"), ("reply_to", f"{namespace}.{topic}".encode())]),
        }
        made += [
            (f"{namespace}.{topic}", k, value, [*headers, (INJECTED, f"poison-{kind}".encode())])
            for kind, (k, value, headers) in kinds.items()
        ]
    made.append(_unbearable(namespace, chance))
    chance.shuffle(made)
    return made


def _unbearable(namespace: str, chance: random.Random) -> Rogue:
    """A valid event at the end of time: whoever adds a deadline to it leaves the calendar."""
    complaint = f"{IN_POISON}{chance.getrandbits(48):012x}"
    event: dict[str, Any] = {**_event(complaint, "complaint.forwarded", 2), "occurred_at": "9999-12-31T23:59:59Z"}
    event["actor"] = {"role": "central_operator", "id": "chaos", "agency": None}
    headers = [*_headers("complaint.forwarded", event["id"]), (INJECTED, b"poison-of-handler")]
    return f"{namespace}.complaint.forwarded", complaint.encode(), json.dumps(event).encode(), headers
