"""``python -m services.routing``: settings, wiring, run."""

from services.routing.app import build
from services.routing.settings import Settings
from shared.service import serve

if __name__ == "__main__":
    settings = Settings()
    serve(build(settings), "routing", settings)
