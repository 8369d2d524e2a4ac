"""The interface description over HTTP: its files, the one bundled file, and a page to try it.

Promises: only files of `openapi/` and the listed parts of the page are served; the page
loads nothing from another host.
"""

import json
from functools import cache
from pathlib import Path

import flask_swagger_ui  # type: ignore[import-untyped]  # it ships no types
from quart import Blueprint, Response

from cvf_app.errors import NotFound
from cvf_app.web.access import public
from cvf_app.web.docs_page import CONTENT_SECURITY, PAGE, START
from cvf_app.web.openapi_bundle import FOLDER, bundle

bp = Blueprint("openapi", __name__)

_PARTS = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "index.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "oauth2-redirect.html": "text/html; charset=utf-8",
    "oauth2-redirect.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
}


@bp.get("/openapi/openapi-all.json")
@public
async def whole() -> Response:
    """Answer with the whole description in one file."""
    return _sent(_bundled(), "application/json")


@bp.get("/openapi/<path:name>")
@public
async def part(name: str) -> Response:
    """Answer with one file of the description."""
    return _sent(_file_of_description(name), "application/json")


@bp.get("/docs")
@public
async def page() -> Response:
    """Answer with the page on which the interface can be read and tried."""
    return _sent(PAGE.encode(), "text/html; charset=utf-8")


@bp.get("/docs/<name>")
@public
async def page_part(name: str) -> Response:
    """Answer with a script, a style or an image of that page."""
    if name == "start.js":
        return _sent(START.encode(), "text/javascript; charset=utf-8")
    if name not in _PARTS:
        raise NotFound("There is nothing here.")
    return _sent(_asset(name), _PARTS[name])


@cache
def _bundled() -> bytes:
    return json.dumps(bundle(FOLDER / "openapi-all.json"), ensure_ascii=False).encode()


@cache
def _asset(name: str) -> bytes:
    return (Path(flask_swagger_ui.__file__).parent / "dist" / name).read_bytes()


def _file_of_description(name: str) -> bytes:
    file = (FOLDER / name).resolve()
    if not file.is_relative_to(FOLDER) or file.suffix != ".json" or not file.is_file():
        raise NotFound("There is no such file in the description.")
    return file.read_bytes()


def _sent(content: bytes, content_type: str) -> Response:
    response = Response(content, content_type=content_type)
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-cache"
    return response
