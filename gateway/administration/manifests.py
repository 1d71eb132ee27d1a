"""A manifest as people look at it: what is in it, what is about it, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.access.policy import Need, parse_target
from gateway.access.principals import Caller
from gateway.access.scopes import Action
from gateway.administration.horizon import beginning
from gateway.administration.platforms import image_config, loaded
from gateway.administration.views import Child, ManifestView, Part, Pulled, Referrer, moment, told
from gateway.audit.event import Kind
from gateway.audit.trail import Trail
from gateway.engine.port import Engine
from gateway.errors import ContentRefusal, Unavailable
from gateway.gate import Gate
from gateway.oci.config import Config, cut, platform_text
from gateway.oci.digest import Digest
from gateway.oci.manifest import Descriptor, Manifest
from gateway.oci.names import Repository, parse_reference
from gateway.oci.purpose import Purpose, companions, purpose_of
from gateway.records import browsing, pulls
from gateway.records.accounts import account_names
from gateway.records.browsing import ManifestRow
from gateway.records.database import Database

#: Layers or children, referrers, tags and indexes, annotations of one thing: what is more is counted.
ENTRIES: Final = 256
REFERRERS: Final = 100
NAMES: Final = 100
ANNOTATIONS: Final = 100
_BUILDKIT_ABOUT: Final = "vnd.docker.reference.digest"


@dataclass(frozen=True, slots=True)
class _Around:
    """What the records know around a manifest."""

    row: ManifestRow | None
    tags: tuple[str, ...]
    listed_in: tuple[str, ...]
    companions: tuple[Referrer, ...]
    known: frozenset[str]
    total_bytes: int
    pushed_by: str


@dataclass(frozen=True, slots=True)
class Manifests:
    """Shows one manifest; see `contents.Contents.manifest`."""

    gate: Gate
    database: Database
    engine: Engine
    trail: Trail

    async def show(self, caller: Caller, repository: str, reference: str) -> ManifestView:
        name, wanted = parse_target(repository), parse_reference(reference)
        delete = Need(Action.DELETE, name, optional=True)
        review = Need(Action.REVIEW, name.project, optional=True)
        needs = (Need(Action.PULL, name), delete, review)
        told_by = {"digest": wanted.text} if isinstance(wanted, Digest) else {"reference": wanted.name}
        async with self.gate.passage(caller, Kind.MANIFEST_SHOW, *needs, **told_by) as passage:
            manifest = await loaded(self.engine, name, wanted)
            passage.note(digest=manifest.digest.text)
            view = await self._view(
                name, reference, manifest, named=review in passage.met, may_delete=delete in passage.met
            )
            await passage.seal()
        return view

    async def _view(
        self, name: Repository, reference: str, manifest: Manifest, *, named: bool, may_delete: bool
    ) -> ManifestView:
        digest = manifest.digest.text
        around = await self.database.read(lambda connection: _around(connection, name, manifest))
        born = await beginning(self.database, self.trail, name.project)
        pulled = await self.database.read(lambda connection: pulls.of_digests(connection, name, [digest], born))
        page = await self.engine.listings.referrers(name, manifest.digest, after="", limit=REFERRERS)
        image, trouble = await self._image(name, manifest)
        shown, more = annotations_of(manifest.annotations)
        layers = tuple(_part(each, by) for each, by in _made_by(manifest.layers, image))
        return ManifestView(
            repository=name.name,
            reference=reference,
            digest=digest,
            media_type=manifest.media_type,
            artifact_type=manifest.artifact_type or "",
            purpose=_purpose(manifest),
            size_bytes=len(manifest.content),
            total_bytes=around.total_bytes,
            subject=manifest.subject.digest.text if manifest.subject is not None else "",
            annotations=shown,
            config=_part(manifest.config) if manifest.config is not None else None,
            image=image,
            config_trouble=trouble,
            layers=layers[:ENTRIES],
            children=tuple(_child(each, around.known) for each in manifest.manifests[:ENTRIES]),
            referrers=(*(referrer(each) for each in page.entries), *around.companions),
            listed_in=around.listed_in[:NAMES],
            tags=around.tags[:NAMES],
            pushed_at=moment(around.row.pushed_at) if around.row is not None else None,
            pushed_by=around.pushed_by,
            pulled=told(pulled[digest], named=named) if digest in pulled else Pulled(),
            may_delete=may_delete,
            more={
                "annotations": more,
                "layers": max(0, len(layers) - ENTRIES),
                "children": max(0, len(manifest.manifests) - ENTRIES),
                "referrers": int(page.more),
                "listed_in": max(0, len(around.listed_in) - NAMES),
                "tags": max(0, len(around.tags) - NAMES),
            },
        )

    async def _image(self, name: Repository, manifest: Manifest) -> tuple[Config | None, str]:
        """What the image's config says, or why that cannot be told."""
        if manifest.config is None:
            return None, ""
        try:
            return await image_config(self.engine, name, manifest.config), ""
        except (ContentRefusal, Unavailable) as refusal:
            return None, refusal.message
        except ValueError as fault:
            return None, str(fault)
        except OSError:
            return None, "Its bytes could not be read; run gateway check."


def annotations_of(annotations: Mapping[str, str]) -> tuple[dict[str, str], int]:
    """The first hundred annotations by name, long texts cut, and how many there are besides."""
    names = sorted(annotations)
    return {cut(name): cut(annotations[name]) for name in names[:ANNOTATIONS]}, max(0, len(names) - ANNOTATIONS)


def referrer(found: Descriptor) -> Referrer:
    """What a list of referrers says of one."""
    shown, _ = annotations_of(found.annotations)
    return Referrer(
        purpose_of(found.media_type, found.artifact_type, found.annotations),
        cut(found.artifact_type or found.media_type),
        found.digest.text,
        found.size,
        shown,
    )


def _around(connection: Any, name: Repository, manifest: Manifest) -> _Around:
    digest = manifest.digest.text
    place = browsing.place_of(connection, name)
    declared = len(manifest.content) + sum({each.digest: each.size for each in _everything(manifest)}.values())
    if place is None:
        return _Around(None, (), (), (), frozenset(), declared, "")
    rows = browsing.manifest_rows(connection, place.id, [digest])
    row = rows.get(digest)
    children = [child.digest.text for child in manifest.manifests[:ENTRIES]]
    known = browsing.manifests_known(connection, place.id, children)
    tags = browsing.tags_of(connection, place.id, [digest], NAMES + 1)
    listed_in = browsing.listing(connection, place.id, digest, NAMES + 1)
    weighed = browsing.weights(connection, place.id, {digest: len(manifest.content)})
    beside = companions(digest)
    found = browsing.tags_named(connection, place.id, list(beside))
    about = tuple(
        Referrer(beside[tag], row.artifact_type or row.media_type, row.digest, row.size_bytes, {}, tag)
        for tag, row in sorted(found.items())
    )
    owner = row.pushed_by if row is not None else ""
    people = account_names(connection, {owner}) if owner else {}
    total = weighed[digest].size_bytes if row is not None else declared
    return _Around(row, tuple(tag for tag, _ in tags), tuple(listed_in), about, known, total, people.get(owner, owner))


def _everything(manifest: Manifest) -> Sequence[Descriptor]:
    return (*((manifest.config,) if manifest.config is not None else ()), *manifest.layers, *manifest.manifests)


def _purpose(manifest: Manifest) -> Purpose:
    layers = tuple(layer.media_type for layer in manifest.layers[:ENTRIES])
    return purpose_of(manifest.media_type, manifest.artifact_type, manifest.annotations, layers)


def _made_by(layers: Sequence[Descriptor], image: Config | None) -> list[tuple[Descriptor, str]]:
    """Each layer with the step that made it; nothing is said where the history does not account for all layers."""
    made = [step.created_by for step in image.steps if not step.empty] if image is not None else []
    if len(made) != len(layers):
        made = [""] * len(layers)
    return list(zip(layers, made, strict=True))


def _part(found: Descriptor, created_by: str = "") -> Part:
    shown, _ = annotations_of(found.annotations)
    urls = tuple(cut(url) for url in found.urls)
    return Part(found.media_type, found.digest.text, found.size, shown, urls, created_by)


def _child(found: Descriptor, known: frozenset[str]) -> Child:
    shown, _ = annotations_of(found.annotations)
    platform = platform_text(found.platform) if found.platform is not None else ""
    purpose = purpose_of(found.media_type, found.artifact_type, found.annotations)
    about = cut(found.annotations.get(_BUILDKIT_ABOUT, ""))
    digest = found.digest.text
    return Child(found.media_type, digest, found.size, platform, purpose, about, digest in known, shown)
