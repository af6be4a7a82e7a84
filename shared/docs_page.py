"""The page of a service's OpenAPI document (Swagger UI), all of whose files the service has itself: it opens where no
other host can be reached, and no other host learns who opens it."""

import base64
import hashlib
import re
from importlib.resources import files

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

PATH = "/docs"
_FILES = f"{PATH}/files"


def install(app: FastAPI) -> None:
    """Serve the page and its files."""
    page = _page(app.title)

    async def show(_: Request) -> HTMLResponse:
        return HTMLResponse(page)

    app.add_route(PATH, show, include_in_schema=False)
    app.mount(_FILES, StaticFiles(directory=str(files("fastapi_offline") / "static")))


def policy() -> bytes:
    """The page's content security policy: its own files, and the one script in it, by its hash."""
    scripts = re.findall(r"<script>(.*?)</script>", _page(""), re.DOTALL)
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts]
    return (
        f"default-src 'none'; connect-src 'self'; img-src 'self' data:; script-src 'self' {' '.join(hashes)}; "
        "style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ).encode()


def _page(title: str) -> str:
    page = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=title,
        swagger_js_url=f"{_FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{_FILES}/swagger-ui.css",
        swagger_favicon_url=f"{_FILES}/favicon.png",
    )
    return bytes(page.body).decode()
