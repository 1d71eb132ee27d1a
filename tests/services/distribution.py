"""Debian's own registry, in every way people run it: it proves the clients, and the gateway stands in front of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from uuid import uuid4

import bcrypt

from tests.services.authority import Authority, Pair
from tests.services.daemon import Daemon, accepts_connections, free_port
from tests.services.tokens import ISSUER, running_signer

USER, PASSWORD = "tester", "correct-horse"


class Way(StrEnum):
    """How a registry is reached."""

    HTTP = "http"
    TLS = "tls"
    HTPASSWD = "htpasswd"
    TOKEN = "token"


@dataclass(frozen=True, slots=True)
class Registry:
    """A running registry: where it listens, what it wants (`username` is "" for nobody), and where its content is."""

    port: int
    url: str
    content: Path
    daemon: Daemon
    username: str = ""
    password: str = ""
    ca_file: Path | None = None

    def forget(self) -> None:
        """Empties it, while it runs: without a cache, what is on the disk is all it knows."""
        with suppress(FileNotFoundError):
            # Removing the files takes longer, and whoever made the directory removes it whole.
            self.content.rename(self.content.with_name(f"forgotten-{uuid4().hex}"))


@contextmanager
def running_distribution(directory: Path, pair: Pair) -> Iterator[int]:
    """A registry on 127.0.0.1 for as long as the block lasts; gives its port. USER signs in with PASSWORD."""
    with _running(directory, _htpasswd(directory), pair) as (port, _):
        yield port


@contextmanager
def running_registry(
    directory: Path, way: Way = Way.HTTP, *, bind: str = "127.0.0.1", deletes: bool = True, caches: bool = False
) -> Iterator[Registry]:
    """
    A registry on 127.0.0.1, or all that *bind* covers, to be reached in that way for as long as the block lasts.

    One that *caches* what it knows of blobs, as that of the image registry:2 does, cannot be emptied.
    """
    authority = Authority(directory)
    pair = authority.issue("127.0.0.1", "localhost") if way is Way.TLS else None
    with ExitStack() as stack:
        auth: Mapping[str, object] | None = None
        match way:
            case Way.HTTP | Way.TLS:
                pass
            case Way.HTPASSWD:
                auth = _htpasswd(directory)
            case Way.TOKEN:
                realm = stack.enter_context(running_signer(authority.issue("signer.test"), USER, PASSWORD))
                auth = _token(realm, authority)
        port, daemon = stack.enter_context(_running(directory, auth, pair, bind, deletes, caches))
        signs_in = auth is not None
        yield Registry(
            port,
            f"{'http' if pair is None else 'https'}://127.0.0.1:{port}",
            directory / "content",
            daemon,
            USER if signs_in else "",
            PASSWORD if signs_in else "",
            None if pair is None else authority.certificate,
        )


def _htpasswd(directory: Path) -> Mapping[str, object]:
    passwords = directory / "htpasswd"
    passwords.write_text(f"{USER}:{bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()}\n")
    return {"htpasswd": {"realm": "tests", "path": str(passwords)}}


def _token(realm: str, authority: Authority) -> Mapping[str, object]:
    bundle = str(authority.certificate)
    return {"token": {"realm": realm, "service": ISSUER, "issuer": ISSUER, "rootcertbundle": bundle}}


@contextmanager
def _running(
    directory: Path,
    auth: Mapping[str, object] | None,
    pair: Pair | None,
    bind: str = "127.0.0.1",
    deletes: bool = True,
    caches: bool = False,
) -> Iterator[tuple[int, Daemon]]:
    port = free_port()
    http: dict[str, object] = {"addr": f"{bind}:{port}"}
    if pair is not None:
        http["tls"] = {"certificate": str(pair.certificate), "key": str(pair.key)}
    configuration = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(directory / "content")},
            "delete": {"enabled": deletes},
            **({"cache": {"blobdescriptor": "inmemory"}} if caches else {}),
        },
        "http": http,
    }
    if auth is not None:
        configuration["auth"] = auth
    written = directory / "config.yml"
    written.write_text(json.dumps(configuration))
    # Every REGISTRY_* variable overrides its configuration, and skopeo's REGISTRY_AUTH_FILE has just such a name.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    daemon = Daemon(["docker-registry", "serve", str(written)], directory / "log", environment=environment)
    daemon.start(lambda: accepts_connections(port, "127.0.0.1" if bind == "0.0.0.0" else bind))
    try:
        yield port, daemon
    finally:
        daemon.stop()
