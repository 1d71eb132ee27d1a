"""The words that paths, queries and bodies are made of, with the grammar that is told of them.

The grammar stands here for readers of the OpenAPI document only; what decides are the names' own rooms, whose refusals
say in a sentence what is wrong.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeAlias

from msgspec import Meta

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME: Final = r"[a-z0-9]+(?:[._-][a-z0-9]+)*"


def _grammar(pattern: str, longest: int, shortest: int = 1) -> dict[str, Any]:
    return {"pattern": f"^{pattern}$", "minLength": shortest, "maxLength": longest}


UserName: TypeAlias = Annotated[
    str, Meta(description="A user's name, as in `jane.doe`.", extra_json_schema=_grammar(_NAME, 64, 2))
]
Principal: TypeAlias = Annotated[
    str,
    Meta(
        description="A user, or a robot as `PROJECT+NAME`.",
        extra_json_schema=_grammar(rf"(?:{_COMPONENT}\+)?{_NAME}", 129, 2),
    ),
]
Project: TypeAlias = Annotated[
    str, Meta(description="A project, as in `gallery`.", extra_json_schema=_grammar(_COMPONENT, 64))
]
RobotName: TypeAlias = Annotated[
    str,
    Meta(
        description="A robot's name within its project, as in `ci` for `gallery+ci`.",
        extra_json_schema=_grammar(_NAME, 64, 2),
    ),
]
Reach: TypeAlias = Annotated[
    str,
    Meta(
        description="`PROJECT`, or `PROJECT/PATTERN` in which `*` stays within one component. In a path, write `%2F`.",
        extra_json_schema=_grammar(rf"{_COMPONENT}(?:/[a-z0-9*]+)*", 255),
    ),
]
Repository: TypeAlias = Annotated[
    str,
    Meta(
        description="A repository, as in `gallery/ui`. In a path, write `%2F` for the slash.",
        extra_json_schema=_grammar(rf"{_COMPONENT}(?:/{_COMPONENT})*", 200),
    ),
]
Tag: TypeAlias = Annotated[
    str, Meta(description="A tag.", extra_json_schema=_grammar(r"[A-Za-z0-9_][A-Za-z0-9._-]*", 128))
]
Digest: TypeAlias = Annotated[
    str,
    Meta(description="A digest: `sha256:…`.", extra_json_schema=_grammar("sha256:[0-9a-f]{64}", 71, 71)),
]
Reference: TypeAlias = Annotated[
    str,
    Meta(
        description="A tag, or a digest.",
        extra_json_schema=_grammar(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*|sha256:[0-9a-f]{64})", 128),
    ),
]
Role: TypeAlias = Literal["puller", "pusher", "maintainer", "owner"]
ActionWord: TypeAlias = Literal["pull", "push", "delete", "manage", "review"]
OutcomeWord: TypeAlias = Literal["allowed", "denied", "failed"]
Password: TypeAlias = Annotated[
    str, Meta(description="A password; left away, one is made and shown, this once.", min_length=1, max_length=1024)
]
TagPatterns: TypeAlias = Annotated[
    list[Annotated[str, Meta(extra_json_schema={"pattern": "^[A-Za-z0-9_][A-Za-z0-9._-]{0,126}\\*?$"})]],
    Meta(max_length=32),
]
Statement: TypeAlias = Annotated[
    dict[str, Any],
    Meta(
        description="A signed statement, as it was made.",
        extra_json_schema={"required": ["type", "seq", "hash", "time", "key", "signature"]},
    ),
]
Number: TypeAlias = Annotated[int, Meta(ge=1, le=2**53 - 1)]
Lasts: TypeAlias = Annotated[int, Meta(ge=1, le=3650 * 86400, description="How long it lasts, in seconds.")]
Moment: TypeAlias = Annotated[datetime, Meta(tz=True, description="A time with its offset, as in RFC 3339.")]
Remark: TypeAlias = Annotated[str, Meta(max_length=500, description="A note of at most 500 characters.")]
PageSize: TypeAlias = Annotated[int, Meta(ge=1, le=1000, description="The most items of one page.")]
Cursor: TypeAlias = Annotated[
    str, Meta(max_length=2048, description="The `next` of the page before, of the very same query.")
]
Event: TypeAlias = Annotated[
    dict[str, Any],
    Meta(
        description="An event of the trail: some fields are always there, others where they say something.",
        extra_json_schema={
            "required": ["id", "time", "kind", "outcome", "principal", "address", "request_id", "hash"],
        },
    ),
]

#: What stands between braces in a path.
IN_PATHS: Final[dict[str, Any]] = {
    "user": Principal,
    "principal": Principal,
    "project": Project,
    "robot": RobotName,
    "reach": Reach,
    "repository": Repository,
    "tag": Tag,
    "reference": Reference,
    "kid": Annotated[str, Meta(max_length=128, description="The id of a signing key.")],
    "id": Number,
    "finding": Number,
    "search": Annotated[str, Meta(max_length=100, description="The name of a saved search.")],
}
