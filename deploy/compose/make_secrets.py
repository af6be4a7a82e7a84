"""Makes the secrets of a containers' installation: one file for each, as Compose mounts them.

Run as `python -m deploy.compose.make_secrets FOLDER`; what is in the folder already is kept.
"""

import sys
from pathlib import Path

from deploy.local.credentials import load_or_make


def make_secrets(folder: Path) -> None:
    """Make what is missing in `folder`, which only its owner may enter. Raises CannotRun or OSError.

    The files themselves are readable by all, because Compose mounts them as they are, and the containers' user is not
    the one who made them: it is the folder that keeps others on this host out.
    """
    folder.chmod(0o700)
    made = load_or_make(folder)
    (folder / "lapor_notify_client_secret").write_text(made.notify)
    for file in folder.iterdir():
        file.chmod(0o644)


if __name__ == "__main__":
    make_secrets(Path(sys.argv[1]))
