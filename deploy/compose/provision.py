"""The one-shot container before the services: topics, agencies, accounts (`python -m deploy.compose.provision`)."""

import asyncio
import os
from pathlib import Path

from deploy.local.credentials import load_or_make
from deploy.local.provision import provision

SECRETS = Path("/run/secrets")

if __name__ == "__main__":
    asyncio.run(provision(os.environ, load_or_make(SECRETS)))
