"""What a token of less than a whole account may do: scopes (RFC 6749, section 3.3).

A person's token has none and may do what the role may. A machine account's has some of `GRANTABLE` and may do what both
the role and they allow: a safe method (RFC 9110, section 9.2.1) needs ``<service>:read``, any other
``<service>:write``. Routes that ask for another scope (`shared.http.SignedIn`) are for people.
"""

SERVICES = ("intake", "routing", "opd", "notify", "sla")
GRANTABLE = frozenset(f"{service}:{access}" for service in SERVICES for access in ("read", "write"))
"""What a machine account can be given."""

PEOPLE = "people"
"""Asked for by routes that no machine may use. No token has it."""
SECOND_FACTOR = "second-factor"
"""Asked for by the routes that set a second factor up, and the only scope of the token of somebody who must have one
first."""
_SAFE = ("GET", "HEAD", "OPTIONS")


def needed(service: str, method: str) -> str:
    """The scope that a request to a service needs, unless its route says otherwise."""
    return f"{service}:{'read' if method in _SAFE else 'write'}"
