"""Assets: stylesheet, script and pictures of the console, out of memory, under addresses that never go stale."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gateway.console.visit import ROOT

_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


class Assets:
    """The files of `static/` that browsers may ask for; their address changes with what is in them."""

    def __init__(self) -> None:
        found = files("gateway.console") / "static"
        self._files: Mapping[str, bytes] = {
            file.name: file.read_bytes() for file in found.iterdir() if file.name.rpartition(".")[2] in _TYPES
        }
        self._marks = {name: hashlib.sha256(content).hexdigest()[:12] for name, content in self._files.items()}

    def address(self, name: str) -> str:
        """Where the file *name* is fetched from; raises `KeyError` for one that is not there."""
        return f"{ROOT}/static/{name}?v={self._marks[name]}"

    def answer(self, request: Request) -> Response:
        """The file that the request's path names."""
        name = request.path_params["name"]
        content = self._files.get(name)
        if content is None:
            return PlainTextResponse("There is no such file.", 404)
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "ETag": f'"{self._marks[name]}"'}
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=_TYPES[name.rpartition(".")[2]], headers=headers)
