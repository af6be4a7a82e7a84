"""``python -m services.intake``: settings, wiring, run."""

from services.intake.app import build
from services.intake.settings import Settings
from shared.service import serve

if __name__ == "__main__":
    settings = Settings()
    serve(build(settings), "intake", settings)
