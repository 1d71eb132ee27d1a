"""The plan of the house: which room may import which, and how every module begins."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "gateway").rglob("*.py"))
LOCKS = sorted(ROOT.glob("requirements*.lock"))
MOST_LINES = 400
#: What is copied alone to machines without a gateway is one file, signatures included.
COPIED_ALONE = {"gateway.audit.offline": 450}
EMPTY_WORDS = {
    "manager",
    "helper",
    "helpers",
    "util",
    "utils",
    "common",
    "base",
    "handler",
    "service",
    "context",
    "data",
    "info",
}

_CORE = "audit access oci errors"
_EDGE = f"gate {_CORE}"
_ENGINES = "engine.port engine.source engine.sweeping engine.embedded engine.upstream engine.stores"

# room: (rooms of ours it may import, packages of others). A room that needs a new arrow is a decision.
TABLE = {
    "errors": ("", ""),
    "oci": ("errors", ""),
    # What a sign-in leaves behind (a renewed hash, an offline token) is prepared like any other change.
    "access": ("change oci errors", "jwt bcrypt cryptography"),
    # msgspec spells the canonical form five times as fast as the standard library does.
    "audit": ("access oci errors", "cryptography msgspec"),
    # What engines and administration prepare, the gate hands over and the ledger commits.
    "change": ("oci errors", ""),
    "gate": (f"change {_CORE}", ""),
    # What may be wrong with what is kept, and how it is mended: found by records and engine, mended by administration.
    "flaws": ("change", ""),
    "records": (f"flaws meters change {_EDGE}", "sqlalchemy alembic psycopg"),
    "engine.port": ("change oci errors", ""),
    # What an import reads, and what it counts: two engines' rooms implement it, administration passes it on.
    "engine.source": ("engine.port change oci errors", ""),
    # What a sweep counts: as above.
    "engine.sweeping": ("", ""),
    "engine.embedded": (
        "engine.port engine.source engine.sweeping engine.stores records flaws change oci errors",
        "",
    ),
    # yarl spells the addresses that aiohttp takes. Files of the registry behind that can be read from here are streamed
    # as those of a store.
    "engine.upstream": ("engine.port engine.source engine.stores records change oci errors", "aiohttp yarl"),
    # What is streamed out of a store is what the port says.
    "engine.stores": ("engine.port oci errors", ""),
    "administration": (f"engine.port engine.source engine.sweeping records flaws change {_EDGE}", ""),
    "registry": (f"engine.port change {_EDGE}", "starlette"),
    "api": (f"administration {_EDGE}", "starlette msgspec jinja2"),
    # What a request that is repeated under its key is answered again, sealed.
    "answers": ("errors", "cryptography"),
    # markupsafe is jinja2's own word for text that is markup already; segno says where the dots of a QR code are.
    "console": (f"administration {_EDGE}", "starlette jinja2 markupsafe segno"),
    # `gateway up` and `gateway serve` make what is missing and start the server.
    # `gateway doctor` asks from outside, as a stranger would, whether something answers around the gateway.
    "cli": (
        f"administration {_EDGE} app settings engine_section certificates initialisation serving probes backup "
        f"folder surroundings",
        "typer rich",
    ),
    "__main__": ("cli", ""),
    "settings": (
        "audit_section database_section engine_section metrics_section upkeep_section sources oci errors",
        "msgspec",
    ),
    "metrics_section": ("sources errors", "msgspec"),
    # Counted where the work is, told where it is asked for.
    "meters": ("", ""),
    # Whoever asks while the database is away is told so.
    "metrics": ("meters errors", "starlette prometheus_client"),
    "metering": (f"app front certificates metrics meters records {_EDGE}", ""),
    "tracing": ("front errors", "opentelemetry"),
    "audit_section": ("sources errors", "msgspec"),
    "database_section": ("sources errors", "msgspec"),
    "engine_section": ("sources errors", "msgspec"),
    "upkeep_section": ("", "msgspec"),
    "sources": ("errors", "msgspec"),
    "folder": ("errors", ""),
    # What operators are told on the command line and administrators by the console.
    "surroundings": ("administration certificates folder settings errors", ""),
    "probes": ("", ""),
    # The server's room is in parts: how requests are framed, the protocol around the parser, the certificates.
    "framing": ("errors", ""),
    "protocol": ("framing errors", "uvicorn httptools"),
    "certificates": ("errors", "trustme cryptography"),
    # The parent of several workers knows of none what it does.
    "fleet": ("", ""),
    "server": ("protocol certificates framing fleet errors", "uvicorn trustme cryptography"),
    # What the gateway says of itself; the registry is handed to it.
    "front": ("errors", "starlette"),
    "logs": ("settings", "structlog"),
    "app": (
        f"{_ENGINES} records meters administration registry api answers console settings engine_section settlement "
        f"folder front surroundings change {_EDGE}",
        "starlette",
    ),
    # What became of acts elsewhere is asked by the engine and recorded by the ledger.
    "settlement": (f"engine.upstream records change {_EDGE}", ""),
    # What is backed up is all there is: records, blobs where the embedded engine keeps them, keys, settings.
    "backup": (f"engine.port engine.embedded records settings engine_section sources folder change {_EDGE}", ""),
    "initialisation": (f"app settings folder records change {_EDGE}", ""),
    # It asks the whole application, on every row of the table, and stands in for content and policy of its own.
    "canary": (f"app front initialisation registry engine.port change {_EDGE}", ""),
    # Whatever a worker does unasked is begun again when it fails.
    "supervision": ("errors", ""),
    # What a worker does unasked to find damage.
    "scrubbing": (f"administration {_EDGE}", ""),
    # What a worker does unasked so that there is evidence elsewhere: the trail is read, sinks are fed.
    "delivery": (f"records change {_EDGE}", ""),
    "witnessing": (f"app administration audit_section delivery supervision records sources change {_EDGE}", ""),
    "serving": (
        f"app settings engine_section settlement supervision scrubbing witnessing metering metrics tracing canary "
        f"initialisation logs front framing certificates server records change {_EDGE}",
        "uvicorn",
    ),
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    """`engine` is a corridor with rooms of its own; everywhere else the first component names the room."""
    _, *parts = module.split(".")
    return ".".join(parts[: 2 if parts[:1] == ["engine"] else 1])


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere in it, by full name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module_name(path).split(".")[: len(path.relative_to(ROOT).parts) - node.level]
            origin = ".".join([*(package if node.level else []), *([node.module] if node.module else [])])
            # A name taken from a corridor may be a room.
            yield from (f"{origin}.{each.name}" if origin in CORRIDORS else origin for each in node.names)


CORRIDORS = {"gateway", "gateway.engine"}


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_room_imports_only_what_the_table_allows(path: Path) -> None:
    module = module_name(path)
    if module in CORRIDORS:
        assert list(imports(path)) == [], f"{module} is a corridor: it holds nothing but its sentence"
        return
    room = room_of(module)
    assert room in TABLE, f"{room} is no room of this house: decide its arrows, and write them into the table"
    ours, others = (set(names.split()) for names in TABLE[room])
    for imported in imports(path):
        package = imported.split(".")[0]
        if package == "gateway":
            assert room_of(imported) in ours | {room}, f"{room} may not import {imported}"
        else:
            assert package in others | sys.stdlib_module_names, f"{room} may not import {imported}"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_opens_with_its_sentence_and_fits_on_a_few_pages(path: Path) -> None:
    sentence = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0]
    assert re.search(r"[.:]$", sentence), f"{module_name(path)} does not open with one sentence"
    assert len(path.read_text().splitlines()) <= COPIED_ALONE.get(module_name(path), MOST_LINES)


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_nothing_bears_a_name_that_says_nothing(path: Path) -> None:
    classes = [node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)]
    for name in [path.stem, *classes]:
        words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}
        assert not words & EMPTY_WORDS, f"{name} in {module_name(path)}: name what it is"


@pytest.mark.parametrize("path", sorted({path.parent for path in MODULES}), ids=lambda path: path.name)
def test_every_folder_of_the_house_is_a_package(path: Path) -> None:
    assert (path / "__init__.py").is_file()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_names_hashes_and_no_place(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--index|--extra-index|--find-links|--trusted)", text, re.MULTILINE)
    pins = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
    assert pins, "the lock is empty"
    assert [pin.split()[0] for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {
        "requirements.lock": project["dependencies"],
        "requirements-dev.lock": project["optional-dependencies"]["dev"],
    }
    for lock, requirements in wanted.items():
        locked = set(re.findall(r"^([\w.-]+)==", (ROOT / lock).read_text(), re.MULTILINE))
        assert {re.split(r"[^\w.-]", each)[0].lower() for each in requirements} <= locked, f"run `make lock`: {lock}"
