"""``python -m services.notify``: settings, wiring, run."""

from services.notify.app import build
from services.notify.settings import Settings
from shared.service import serve

if __name__ == "__main__":
    settings = Settings()
    serve(build(settings), "notify", settings)
