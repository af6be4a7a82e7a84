"""What runs inside a photo worker process: ``shared.media.prepare`` under limits that no decoder can lift.

A decoder is the most attacked code there is, so it gets a fixed amount of CPU time and memory; beyond it, the
operating system ends the process, whatever it is doing. Apart from ``shared.media_workers`` so that a worker holds
Pillow and little else.
"""

import multiprocessing
import os
import resource
import signal
import threading
import time
from pathlib import Path

from shared.media import CleanPhoto, Limits, damaged, prepare

_YIELDING = 10
"""How much further back a worker stands in the line for a processor than what answers requests: a photo takes half a
second, in which hundreds of requests would wait."""
_AUTOGROUP = Path("/proc/self/autogroup")


def confine(memory_bytes: int) -> None:
    """Limit the process that this runs in, for good. Runs first in each worker."""
    _stand_back()
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the photo of a citizen does not belong into a core file
    threading.Thread(target=_end_with_service, daemon=True).start()


def _stand_back() -> None:
    """Let whatever answers requests go first. Where Linux shares processors among sessions (sched(7), autogroup), a
    niceness counts only within one: so this is a session of its own, which stands back as a whole. Ctrl-C does not
    reach it: the service ends its workers itself."""
    os.setsid()
    os.nice(_YIELDING)
    for _ in range(20):
        try:
            _AUTOGROUP.write_text(str(_YIELDING), encoding="ascii")
        except BlockingIOError:  # without privileges one process may say so every tenth of a second
            time.sleep(0.1)
        except OSError:  # not this kernel's way, or not to be changed from here: then the niceness counts
            return
        else:
            return


def prepare_within(cpu_seconds: float, data: bytes, limits: Limits) -> CleanPhoto:
    """``shared.media.prepare``, or the end of this process. Raises PhotoRefused."""
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)  # SIGPROF ends the process, whatever C code it is in
    try:
        return prepare(data, limits)
    except MemoryError:
        raise damaged() from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _end_with_service() -> None:
    """A worker waits on a pipe that it holds both ends of, so it would outlive a service that is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
