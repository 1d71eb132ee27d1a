"""The config of an image: which platform it is for, and how it was built; written by strangers, read with care."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gateway.oci.document import strict_json

#: A config is read up to this size; those of real images have some kilobytes.
LIMIT_BYTES: Final = 1024 * 1024
#: What is kept of what was written: so many steps, and so many characters of each text.
STEPS: Final = 512
TEXT_CHARACTERS: Final = 2000
_PLATFORM_CHARACTERS: Final = 64


@dataclass(frozen=True, slots=True)
class Step:
    """One step of an image's history; an *empty* one made no layer. Texts may be cut, and end with `…` then."""

    created: str
    created_by: str
    comment: str
    empty: bool


@dataclass(frozen=True, slots=True)
class Config:
    """
    What an image's config says: `linux/arm64/v8` ("" when it does not say), when it was made, its user and what runs.

    *steps* are the first 512, *more_steps* how many follow. Everything in it is what the pusher wrote.
    """

    platform: str = ""
    created: str = ""
    author: str = ""
    user: str = ""
    working_directory: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    more_steps: int = 0


def read_config(content: bytes) -> Config:
    """The config that *content* spells (image-spec config.md); raises `ValueError`, with a sentence, if it is none."""
    fields = strict_json(content, limit_bytes=LIMIT_BYTES)
    if not isinstance(fields, dict):
        raise ValueError("The config is no JSON object.")  # noqa: TRY004 - what was sent is wrong, not who calls
    history = fields.get("history")
    steps = [step for step in history if isinstance(step, dict)] if isinstance(history, list) else []
    inner = fields.get("config")
    run = inner if isinstance(inner, dict) else {}
    ports = run.get("ExposedPorts")
    return Config(
        platform=platform_text(fields),
        created=_text(fields, "created"),
        author=_text(fields, "author"),
        user=_text(run, "User"),
        working_directory=_text(run, "WorkingDir"),
        entrypoint=_texts(run.get("Entrypoint")),
        command=_texts(run.get("Cmd")),
        ports=_texts(list(ports)) if isinstance(ports, dict) else (),
        steps=tuple(_step(step) for step in steps[:STEPS]),
        more_steps=max(0, len(steps) - STEPS),
    )


def platform_text(fields: Mapping[str, object]) -> str:
    """The platform that a config or a descriptor's `platform` names: `os/architecture[/variant]`, "" when it does not.

    An index's attestations say `unknown/unknown`; so does this.
    """
    parts = [_short(fields.get(name)) for name in ("os", "architecture", "variant")]
    if not parts[0] and not parts[1]:
        return ""
    named = [parts[0] or "unknown", parts[1] or "unknown"]
    return "/".join([*named, parts[2]] if parts[2] else named)


def cut(text: str, characters: int = TEXT_CHARACTERS) -> str:
    """*text*, with an ellipsis in the place of what is too much of it."""
    return text if len(text) <= characters else text[: characters - 1] + "…"


def _step(step: Mapping[str, object]) -> Step:
    empty = step.get("empty_layer") is True
    return Step(_text(step, "created"), _text(step, "created_by"), _text(step, "comment"), empty)


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    return cut(value) if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(cut(text) for text in value[:STEPS] if isinstance(text, str)) if isinstance(value, list) else ()


def _short(value: object) -> str:
    return cut(value, _PLATFORM_CHARACTERS) if isinstance(value, str) else ""
