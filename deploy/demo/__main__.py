"""``python -m deploy.demo``: the demo against a system that runs already, described by the environment (`Target`)."""

import asyncio
import sys

from rich.console import Console

from deploy.demo.play import play
from deploy.demo.target import Target

if __name__ == "__main__":
    sys.exit(asyncio.run(play(Target.from_environment(), Console(highlight=False, soft_wrap=True))))
