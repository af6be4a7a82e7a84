"""``python -m services.sla``: settings, wiring, run."""

from services.sla.app import build
from services.sla.settings import Settings
from shared.service import serve

if __name__ == "__main__":
    settings = Settings()
    serve(build(settings), "sla", settings)
