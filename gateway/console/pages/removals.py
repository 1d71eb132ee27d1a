"""Removing what is kept: a page that says what else goes, and then the act."""

from __future__ import annotations

from starlette.responses import Response

from gateway.access.rules import size_text
from gateway.administration import Consequences
from gateway.console.frame import plural, render
from gateway.console.plan import Group, Page
from gateway.console.visit import Visit
from gateway.oci.names import Repository, Tag, parse_reference

#: Names that are told one by one.
_SHOWN = 20


async def ask(visit: Visit, status: int = 200) -> Response:
    """Asks whether a tag or a manifest is to go."""
    name = Repository.parse(visit.path["repository"])
    reference = visit.path["reference"]
    found = await visit.acts.contents.removing(visit.caller, name.name, reference)
    place = f"{reference}/{name}"
    what = f"tag {found.tag} of {name}" if found.tag else f"this manifest from {name}"
    return await render(
        visit,
        "removal.html",
        status,
        trail=_trail(name, (found.tag or short(found.digest), f"/manifests/{place}")),
        question=f"Remove {what}?",
        told=told(found),
        hindrance=found.hindrance,
        action=f"/removals/{place}",
        hidden=(("digest", found.digest),),
        button="Remove tag" if found.tag else "Remove manifest",
        back=f"/manifests/{place}",
        typed="",
    )


async def remove(visit: Visit) -> Response:
    """Removes it, if a tag still points where it was seen to point."""
    name, reference = Repository.parse(visit.path["repository"]), parse_reference(visit.path["reference"])
    with visit.form.blaming(""):
        if isinstance(reference, Tag):
            expected = visit.form.value("digest")
            await visit.acts.repositories.remove_tag(visit.caller, name.name, reference.name, expected=expected)
        else:
            await visit.acts.repositories.remove_manifest(visit.caller, name.name, reference.text)
        return visit.go(f"/repositories/{name}", said="removed")
    return await ask(visit, 422)


async def ask_repository(visit: Visit, status: int = 200) -> Response:
    """Asks whether a whole repository is to go; its name has to be typed."""
    name = Repository.parse(visit.path["repository"])
    found = await visit.acts.contents.removing(visit.caller, name.name)
    return await render(
        visit,
        "removal.html",
        status,
        trail=_trail(name),
        question=f"Remove repository {name}?",
        told=[
            f"With it: {plural(found.tag_count, 'tag')} and {plural(found.manifest_count, 'manifest')}.",
            f"It holds {size_text(found.loose_bytes)}; a sweep frees what no other repository holds.",
            "Whoever pulls from it is refused from then on. Grants on its name stay.",
            "This cannot be undone: what was deleted from it before, and could be had back, goes with it.",
        ],
        hindrance=found.hindrance,
        action=f"/repository-removals/{name}",
        hidden=(),
        button="Remove repository",
        back=f"/repositories/{name}",
        typed=name.name,
    )


async def remove_repository(visit: Visit) -> Response:
    name = Repository.parse(visit.path["repository"])
    if visit.form.text("typed") != name.name:
        visit.form.blame("typed", f"Type {name} to confirm.")
        return await ask_repository(visit, 422)
    with visit.form.blaming(""):
        await visit.acts.repositories.remove_repository(visit.caller, name.name)
        return visit.go(f"/projects/{name.project}", said="removed")
    return await ask_repository(visit, 422)


def told(found: Consequences) -> list[str]:
    """What else happens, in sentences."""
    undone = _undone(found)
    if found.tag:
        sentences = [f"The tag alone goes; its manifest stays, and can be pulled by its digest, {found.digest}."]
        if found.left_untagged:
            sentences.append("No other tag names that manifest: only who knows the digest will find it.")
        return [*sentences, *_differs(found), *_pulled(found), undone]
    sentences = [f"Nobody can pull {found.digest} from here any more, by tag or by digest."]
    if found.tag_count:
        sentences.append(f"With it: {plural(found.tag_count, 'tag')}, {_named(found.tags, found.tag_count)}.")
    if found.index_count:
        number = plural(found.index_count, "index", "indexes")
        listed = _named(tuple(short(digest) for digest in found.indexes), found.index_count)
        sentences.append(f"Still listed, though not there any more, in {number} of this repository: {listed}")
    if found.referrer_count:
        number = plural(found.referrer_count, "manifest")
        kinds = tuple(f"{each.purpose} {short(each.digest)}" for each in found.referrers)
        sentences.append(f"Left without what they are about: {number}, {_named(kinds, found.referrer_count)}")
    if found.freed_bytes is not None:
        sentences.append(
            f"Layers and configs that nothing else in this repository needs: {size_text(found.loose_bytes)}. A sweep "
            f"frees those that no other repository holds: {size_text(found.freed_bytes)}"
            f"{', once it cannot be had back any more' if found.until else ''}."
        )
    return [*sentences, *_differs(found), *_pulled(found), undone]


def short(digest: str) -> str:
    """As much of a digest as people compare."""
    return f"{digest[:19]}…"


def _undone(found: Consequences) -> str:
    if found.until is None:
        return "It cannot be had back."
    what = "tag" if found.tag else "manifest, with its tags,"
    return f"The {what} can be had back until {found.until:%d %b %Y, %H:%M} UTC: see Deleted on the repository's page."


def _differs(found: Consequences) -> list[str]:
    return [found.differs] if found.differs else []


def _pulled(found: Consequences) -> list[str]:
    if found.pulled.at is not None:
        by = f" by {found.pulled.by}" if found.pulled.by else ""
        return [f"It was pulled last on {found.pulled.at:%d %b %Y at %H:%M} UTC{by}."]
    return ["No pull of it is on record." if found.pulled.all_seen else "It was not pulled lately."]


def _named(names: tuple[str, ...], count: int) -> str:
    more = count - min(len(names), _SHOWN)
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more else "")


def _trail(name: Repository, *more: tuple[str, str]) -> list[tuple[str, str]]:
    project = name.project
    begun = [("Projects", "/projects"), (project.name, f"/projects/{project}"), (name.name, f"/repositories/{name}")]
    return [*begun, *more, ("Remove", "")]


GROUP = Group(
    pages=(
        Page("/removals/{reference}/{repository:path}", ask, remove),
        Page("/repository-removals/{repository:path}", ask_repository, remove_repository, grave=True),
    ),
)
