"""Content pushed and pulled through the gate and an engine, as tests of what people see of it need."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.access.principals import Caller, PrincipalKind
from gateway.audit.event import Kind
from gateway.engine.port import Engine
from gateway.oci.digest import Digest
from gateway.oci.manifest import OCI_INDEX, OCI_MANIFEST, Manifest, load
from gateway.oci.names import Repository, Tag
from tests.house import OPERATOR, House

CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY = "application/vnd.oci.empty.v1+json"
#: What an image says of itself unless a test says otherwise.
AMD64: Mapping[str, Any] = {
    "os": "linux",
    "architecture": "amd64",
    "created": "2026-01-01T00:00:00Z",
    "config": {"User": "app", "Entrypoint": ["/bin/serve"], "ExposedPorts": {"8080/tcp": {}}},
    "history": [
        {"created": "2026-01-01T00:00:00Z", "created_by": "ADD files /"},
        {"created_by": "USER app", "empty_layer": True},
    ],
}


@dataclass(frozen=True, slots=True)
class Stock:
    """Pushes into an engine over *house*, and pulls from it."""

    house: House
    engine: Engine
    who: Caller = OPERATOR

    @property
    def owner(self) -> str:
        kind = self.who.principal.kind
        return f"{kind.value}:{self.who.principal.id}" if kind is not PrincipalKind.OPERATOR else "user:1"

    def image(
        self,
        name: str,
        *tags: str,
        config: Mapping[str, Any] | bytes = AMD64,
        layers: Sequence[bytes] = (b"a layer",),
        layer_type: str = LAYER,
        config_type: str = CONFIG,
        **fields: Any,
    ) -> Manifest:
        """An image of these *layers*; *fields* are the manifest's own: `annotations`, `artifactType`, `subject`."""
        content = config if isinstance(config, bytes) else json.dumps(config).encode()
        told = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": described(content, config_type),
            "layers": [described(layer, layer_type) for layer in layers],
            **fields,
        }
        return self._put(name, load(json.dumps(told).encode(), OCI_MANIFEST), tags, [content, *layers])

    def about(self, name: str, subject: Manifest, artifact_type: str, layer: bytes = b"{}", **fields: Any) -> Manifest:
        """An artifact whose subject is *subject*."""
        named = {"mediaType": subject.media_type, "digest": subject.digest.text, "size": len(subject.content)}
        more = {"artifactType": artifact_type, "subject": named, **fields}
        return self.image(name, config=b"{}", config_type=EMPTY, layers=[layer], **more)

    def index(self, name: str, *tags: str, children: Sequence[tuple[Manifest, Mapping[str, Any]]]) -> Manifest:
        """An index of *children*, each with more fields of its descriptor."""
        listed = [
            {"mediaType": child.media_type, "digest": child.digest.text, "size": len(child.content), **more}
            for child, more in children
        ]
        told = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
        return self._put(name, load(json.dumps(told).encode(), OCI_INDEX), tags, [])

    def pull(self, name: str, manifest: Manifest, by: Caller) -> None:
        """One pull of the manifest, as the gate records it."""
        facts = {"repository": name, "project": name.partition("/")[0], "digest": manifest.digest.text}

        async def pulled() -> None:
            async with self.house.gate.passage(by, Kind.MANIFEST_PULL, **facts) as passage:
                await passage.seal()

        self.house.run(pulled())

    def _put(self, name: str, manifest: Manifest, tags: Sequence[str], blobs: Sequence[bytes]) -> Manifest:
        repository = Repository.parse(name)

        async def pushed() -> None:
            try:
                for content in blobs:
                    await self._push(repository, content)
                named = [Tag.parse(tag) for tag in tags]
                change = self.engine.manifests.put(repository, manifest, named, self.owner)
                facts = {"repository": name, "project": repository.project.name, "digest": manifest.digest.text}
                async with self.house.gate.passage(self.who, Kind.MANIFEST_PUSH, **facts) as passage:
                    await passage.commit(change)
            finally:
                await self.engine.close()

        self.house.run(pushed())
        return manifest

    async def _push(self, repository: Repository, content: bytes) -> None:
        async with self.house.gate.passage(self.who, Kind.UPLOAD_BEGIN) as passage:
            upload, begun = await self.engine.uploads.begin(repository, self.owner)
            await passage.commit(begun)
        async with self.house.gate.passage(self.who, Kind.BLOB_PUSH, repository=repository.name) as passage:
            _, linked = await self.engine.uploads.finish(upload, _body(content), None, Digest.of(content))
            await passage.commit(linked)


def described(content: bytes, media_type: str) -> dict[str, object]:
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


async def _body(content: bytes) -> AsyncIterator[bytes]:
    yield content
