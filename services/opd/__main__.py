"""``python -m services.opd``: settings, wiring, run."""

from services.opd.app import build
from services.opd.settings import Settings
from shared.service import serve

if __name__ == "__main__":
    settings = Settings()
    serve(build(settings), "opd", settings)
