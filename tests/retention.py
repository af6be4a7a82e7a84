"""Makes docs/retention.md of the tables of classes (`shared.kept`) and topics: ``python -m tests.retention``."""

import re
from pathlib import Path

from shared.kept import KEPT, RetentionSettings
from shared.settings import ServiceSettings
from shared.topics import agency_spec, specs

PAGE = Path(__file__).parents[1] / "docs" / "retention.md"
_DAY = 24 * 3600 * 1000

TOPICS = (
    (r"complaint\..*", "the procedure's record; a service's documents can be made anew from it"),
    (r"agency\..*", "as what it is a copy of"),
    (r"audit\.anchored", "as long as the entries that it vouches for"),
    (r"citizen\.contact", "notify needs to know how to reach people"),
    (r".*\.dlq", "mending takes days; the original stays on its own topic"),
    (r".*", "told again in the services' documents"),
)
"""Patterns of topics, of which the first that fits says why."""

BEGINNING = """\
# How long data are kept

Made of `shared/kept.py` and `shared/topics.py` by `python -m tests.retention`. UU PDP 27/2022 (articles 16, 42, 43)
asks that data end with their purpose; how long each is needed here is the installation's to change.

## In databases

Each service removes its part every hour, in batches of 500 along an index, and counts it in
`lapor_retention_removed_total`; the audit log is told before each run that has something to remove. Without the audit
log's key nothing is removed. `lapor retention show` counts what is due, `lapor retention run` removes it at once.

| Class | Service | What | Days | Setting | Why | At the end |
|---|---|---|---|---|---|---|"""

ON_TOPICS = """
## On topics

The brokers remove what is older. A topic that exists keeps its setting: change it with Kafka's own tools.

| Topic | Days | Why |
|---|---|---|"""

STAYS = """
## Not removed by themselves

- **Complaints** and their journals: the public record of what was asked of the city and done about it. The link from a
  closed complaint to its reporter is in its events and is not taken out after a time.
- **Photos** in reports, and those of finished work, also the ones that an agency uploaded and did not use.
- **Citizens' accounts and contacts**.
- **Staff accounts that were disabled before the time of it was kept**: disable them again."""


def page() -> str:
    """The whole page."""
    lines = [BEGINNING]
    usual = RetentionSettings()
    for kept in KEPT:
        variable = f"`LAPOR_RETENTION__{kept.setting.upper()}`"
        where = "all" if len(kept.services) > 1 else kept.services[0]
        days = str(kept.age(usual).days)
        cells = (kept.name, where, kept.what, days, variable, kept.reason, kept.end)
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "| limits | all | counters of requests (`limits`), by a hash of who asked | 0 | - | they end with their window "
        "| MongoDB removes them a minute later |",
        ON_TOPICS,
    ]
    settings = ServiceSettings(namespace="lapor")
    for spec in [*specs(settings), agency_spec(settings, "CODE")]:
        name = spec.name.removeprefix(settings.topic_prefix).replace("CODE", "<code>")
        compacted = spec.config["cleanup.policy"] == "compact"
        days = "the last of each citizen" if compacted else str(int(spec.config["retention.ms"]) // _DAY)
        why = next(reason for pattern, reason in TOPICS if re.fullmatch(pattern, name))
        lines.append(f"| `{name}` | {days} | {why} |")
    lines.append(STAYS)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
