"""``python -m services.intake``: settings, wiring, run; with ``staff …``, one of the commands instead."""

import sys

from services.intake import commands
from services.intake.app import build
from services.intake.settings import Settings
from shared.service import serve

if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(commands.run(sys.argv[1:]))
    settings = Settings()
    serve(build(settings), "intake", settings)
