"""A small registry that behaves: it takes uploads and manifests and gives them back, whole or in parts."""

from __future__ import annotations

import hashlib
import json
import re
from urllib.parse import parse_qs, urlsplit

from tests.faults.peer import Line, Request

_UPLOAD = re.compile(r"/v2/(.+)/blobs/uploads/(\w*)")
_BLOB = re.compile(r"/v2/(.+)/blobs/(sha256:\w+)")
_MANIFEST = re.compile(r"/v2/(.+)/manifests/([^/]+)")
_TAGS = re.compile(r"/v2/(.+)/tags/list")


def digest_of(content: bytes) -> str:
    """The digest, as registries spell it."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Shelf:
    """What was pushed; repositories are not told apart. To be used as a peer's behaviour."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.tags: dict[str, str] = {}
        self.uploads: dict[str, bytes] = {}

    def __call__(self, request: Request, line: Line) -> None:
        for pattern, act in ((_UPLOAD, self._upload), (_BLOB, self._blob), (_MANIFEST, self._manifest)):
            found = pattern.fullmatch(request.path)
            if found:
                act(request, line, found[1], found[2])
                return
        if _TAGS.fullmatch(request.path):
            line.answer(200, _JSON, json.dumps({"name": "any", "tags": sorted(self.tags)}).encode())
        else:
            line.answer(200, _JSON, b"" if request.method == "HEAD" else b"{}")

    def _upload(self, request: Request, line: Line, repository: str, name: str) -> None:
        if request.method == "POST":
            name = f"u{len(self.uploads)}"
            self.uploads[name] = b""
        elif name not in self.uploads:
            _unknown(line, "BLOB_UPLOAD_UNKNOWN")
            return
        if request.method in ("PATCH", "PUT"):
            self.uploads[name] += request.body
        content = self.uploads[name]
        where = {
            "Location": f"/v2/{repository}/blobs/uploads/{name}?_state=s",
            "Range": f"0-{max(0, len(content) - 1)}",
            "Docker-Upload-UUID": name,
        }
        if request.method == "PUT":
            (digest,) = parse_qs(urlsplit(request.target).query)["digest"]
            if digest != digest_of(content):
                line.answer(400, _JSON, _errors("DIGEST_INVALID"))
                return
            self.blobs[digest] = self.uploads.pop(name)
            line.answer(201, {"Location": f"/v2/{repository}/blobs/{digest}", "Docker-Content-Digest": digest})
        elif request.method in ("GET", "DELETE"):
            line.answer(204, where)
        else:
            line.answer(202, where)

    def _blob(self, request: Request, line: Line, repository: str, digest: str) -> None:
        content = self.blobs.get(digest)
        if content is None:
            _unknown(line, "BLOB_UNKNOWN", request.method)
            return
        if request.method == "DELETE":
            del self.blobs[digest]
            line.answer(202)
            return
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))
        if asked:
            first, last = int(asked[1]), int(asked[2])
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            line.answer(206, headers, content[first : last + 1])
            return
        _give(line, request, headers, content)

    def _manifest(self, request: Request, line: Line, repository: str, reference: str) -> None:
        if request.method == "PUT":
            digest = digest_of(request.body)
            self.manifests[digest] = (request.headers["content-type"], request.body)
            if ":" not in reference:
                self.tags[reference] = digest
            line.answer(201, {"Docker-Content-Digest": digest})
            return
        digest = self.tags.get(reference, reference)
        if digest not in self.manifests:
            _unknown(line, "MANIFEST_UNKNOWN", request.method)
            return
        if request.method == "DELETE":
            del self.manifests[digest]
            self.tags = {tag: each for tag, each in self.tags.items() if each != digest}
            line.answer(202)
            return
        kind, content = self.manifests[digest]
        if request.headers.get("if-none-match") == f'"{digest}"':
            line.answer(304)
            return
        _give(line, request, {"Content-Type": kind, "Docker-Content-Digest": digest}, content)


_JSON = {"Content-Type": "application/json"}


def _give(line: Line, request: Request, headers: dict[str, str], content: bytes) -> None:
    length = {"Content-Length": str(len(content))}
    line.answer(200, {**headers, **length}, b"" if request.method == "HEAD" else content)


def _unknown(line: Line, code: str, method: str = "GET") -> None:
    content = _errors(code)
    line.answer(404, {**_JSON, "Content-Length": str(len(content))}, b"" if method == "HEAD" else content)


def _errors(code: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": "the peer's own words", "detail": {}}]}).encode()
