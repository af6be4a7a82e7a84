"""The jars of Apache Kafka: fetched once from the Maven repository, complete or not at all, and kept for every run."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from deploy.local.errors import CannotRun
from deploy.local.folder import cache_folder

VERSION = "4.1.0"
# The broker's own dependencies end at the logging interface; slf4j-simple writes to standard error.
COORDINATES = f"org.apache.kafka:kafka_2.13:{VERSION}+org.slf4j:slf4j-simple:1.7.36"
SAY_EVERY = 2.0


def kafka_jars(say: Callable[[str], None]) -> list[Path]:
    """The broker's jars, from the user's cache folder; fetched first if they are not there. Raises CannotRun."""
    cache = cache_folder()
    folder = cache / f"kafka-{VERSION}"
    if not folder.exists():
        say(f"Fetching Apache Kafka {VERSION} from the Maven repository: some 43 MB, this once")
        try:
            cache.mkdir(parents=True, exist_ok=True)
            fetch(folder, say)
        except (RuntimeError, ValueError, OSError) as error:  # what requests raises is an OSError
            raise CannotRun(
                f"Apache Kafka {VERSION} could not be fetched from the Maven repository into {cache}: {error}\n"
                "Check the network, or set LAPOR_KAFKA_BOOTSTRAP to a running broker."
            ) from error
    return sorted(folder.glob("*.jar"))


def fetch(folder: Path, say: Callable[[str], None]) -> None:
    """Download into a scratch folder and rename it to `folder` when all is there, so that breaking off, or another run
    that does the same, leaves nothing half done. jgo checks each file against the repository's checksum."""
    from jgo.constants import MAVEN_CENTRAL_URL  # needed once on a machine, and slow to import
    from jgo.maven import MavenContext, PythonResolver
    from jgo.parse import Endpoint

    if "SSL_CERT_FILE" in os.environ:  # a proxy with an authority of its own; jgo heeds another name
        os.environ.setdefault("REQUESTS_CA_BUNDLE", os.environ["SSL_CERT_FILE"])
    fetched_bytes = 0
    said = time.monotonic()

    @contextmanager
    def progress(_: str, __: int) -> Iterator[Callable[[int], None]]:
        yield count

    def count(received: int) -> None:
        nonlocal fetched_bytes, said
        fetched_bytes += received
        if time.monotonic() - said > SAY_EVERY:
            said = time.monotonic()
            say(f"  {fetched_bytes / 1e6:.1f} MB")

    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as scratch:
        context = MavenContext(
            resolver=PythonResolver(progress_callback=progress),
            repo_cache=Path(scratch) / "repository",
            remote_repos={"central": MAVEN_CENTRAL_URL},
        )
        wanted = [
            context.create_dependency(replace(part, scope="compile"))
            for part in Endpoint.parse(COORDINATES).coordinates
        ]
        given, needed = context.resolver.resolve(wanted)
        jars = Path(scratch) / "jars"
        jars.mkdir()
        for dependency in [*given, *needed]:
            if dependency.scope in ("compile", "runtime"):
                jar = dependency.artifact.resolve()
                jar.rename(jars / jar.name)
        try:
            jars.rename(folder)
        except OSError:
            if not folder.exists():  # otherwise another run was first, with the same files
                raise
