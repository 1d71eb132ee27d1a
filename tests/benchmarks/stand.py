"""What is measured: the gateway with its workers, and its peers, each on loopback behind the same certificate.

Stand ─▶ Gateway × 1 worker · Gateway × 2 workers · Distribution (token auth) · nginx (a static file: the ceiling)
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import ssl
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt

from gateway.administration import Administration
from gateway.app import opened
from gateway.cli.session import operator
from gateway.initialisation import initialise
from gateway.settings import Settings
from tests.services.authority import Authority, Pair
from tests.services.daemon import Daemon, accepts_connections, free_port

PROJECT = "bench"
ROBOT = f"{PROJECT}/ci"
ADMINISTRATOR, PASSWORD = "root", "a-long-bench-password"
_SERVICE = "bench"
#: The registry behind the gateway, asked without it.
STRAIGHT = "straight"


@dataclass(slots=True)
class Target:
    """One server that is being measured; `authorization` gives the header its clients send, "" where none is asked."""

    name: str
    port: int
    daemon: Daemon
    ca: Path
    registry: bool = True

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def authorization(self, *repositories: str) -> str:
        return ""

    def path(self, repository: str, digest: str) -> str:
        """Where the blob is pulled from."""
        return f"/v2/{repository}/blobs/{digest}"


@dataclass(slots=True)
class Gateway(Target):
    """The gateway on a data directory of its own."""

    data: Path = field(default_factory=Path)
    secret: str = ""

    def authorization(self, *repositories: str) -> str:
        scopes = [f"repository:{each}:pull,push" for each in repositories]
        return f"Bearer {self.token(f'{PROJECT}+ci', self.secret, scopes)['token']}"

    def token(self, name: str, secret: str, scopes: Sequence[str], **more: str) -> dict[str, Any]:
        """What the token endpoint answers."""
        query = urllib.parse.urlencode([("scope", each) for each in scopes] + list(more.items()))
        request = urllib.request.Request(f"{self.url}/token?{query}", headers={"Authorization": basic(name, secret)})
        with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=str(self.ca))) as answer:
            told: dict[str, Any] = json.load(answer)
        return told


@dataclass(slots=True)
class Distribution(Target):
    """Debian's registry; its tokens are signed here, with the certificate in the token, as it wants them."""

    content: Path = field(default_factory=Path)
    signer: Pair | None = None

    def authorization(self, *repositories: str) -> str:
        access = [{"type": "repository", "name": each, "actions": ["pull", "push"]} for each in repositories]
        return self.bearer([*access, {"type": "registry", "name": "catalog", "actions": ["*"]}])

    def bearer(self, access: Sequence[Mapping[str, object]]) -> str:
        """A token for *access*, good for an hour."""
        if self.signer is None:
            return ""
        now = int(time.time())
        claims = {"iss": _SERVICE, "sub": "ci", "aud": _SERVICE, "nbf": now - 10, "iat": now, "exp": now + 3600}
        leaf = ssl.PEM_cert_to_DER_cert(self.signer.certificate.read_text())
        headers = {"x5c": [base64.b64encode(leaf).decode()]}
        key = self.signer.key.read_text()
        text = jwt.encode({**claims, "jti": uuid4().hex, "access": access}, key, "ES256", headers)
        return f"Bearer {text}"


@dataclass(slots=True)
class Nginx(Target):
    """A web server that sends *files*, or hands on what it is in front of: what this machine can do at all."""

    files: Path | None = None

    def path(self, repository: str, digest: str) -> str:
        return f"/{digest.partition(':')[2]}" if self.files else Target.path(self, repository, digest)


def _in_front(url: str) -> str:
    return f'kind = "upstream"\nurl = "{url}"'


def basic(name: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()


@dataclass(slots=True)
class Stand:
    """Makes targets in a scratch directory; whatever it starts has ended when its block ends."""

    directory: Path
    authority: Authority = field(init=False)
    pair: Pair = field(init=False)
    _template: Path | None = None
    _secret: str = ""

    def __post_init__(self) -> None:
        self.authority = Authority(self.directory)
        self.pair = self.authority.issue("127.0.0.1", "localhost")

    @contextmanager
    def gateway(
        self, workers: int = 1, *, name: str = "", data: Path | None = None, audited: bool = True, engine: str = ""
    ) -> Iterator[Gateway]:
        """The gateway, on a fresh copy of an initialised directory unless *data* is one."""
        data = data or self.fresh_data()
        port = free_port()
        configure(data, port, workers, self.pair, engine)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("GATEWAY_")}
        if not audited:
            paths = [str(Path(__file__).parent / "unaudited"), environment.get("PYTHONPATH", "")]
            environment |= {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
        name = name or f"gateway, {workers} worker{'s' if workers > 1 else ''}"
        daemon = Daemon([*program(), "--data", str(data), "up"], data.with_suffix(".log"), environment=environment)
        gateway = Gateway(name, port, daemon, self.authority.certificate, data=data, secret=self._secret)
        daemon.start(lambda: is_ready(gateway))
        try:
            yield gateway
        finally:
            daemon.stop()

    def fresh_data(self) -> Path:
        """A data directory of an initialised gateway with a project, its robot and an administrator."""
        if self._template is None:
            self._template = self.directory / "template"
            self._initialise(self._template)
        made = self.directory / f"gateway-{uuid4().hex[:8]}"
        shutil.copytree(self._template, made)
        return made

    def _initialise(self, data: Path) -> None:
        data.mkdir()
        configure(data, free_port(), 1, self.pair)
        settings = Settings.for_data(data)
        initialise(settings)
        with opened(settings) as rooms:
            self._secret = asyncio.run(_populate(rooms.administration))

    @contextmanager
    def behind(self, workers: int = 1) -> Iterator[tuple[Gateway, Distribution]]:
        """
        The gateway in front of a registry in clear, and another process of that registry over TLS of its own.

        Both processes of the registry share what they hold; neither asks for a credential.
        """
        content = self.directory / f"shared-{uuid4().hex[:8]}"
        content.mkdir()
        with self._registry(content, tls=False) as inner, self._registry(content, tls=True) as straight:
            data = self.fresh_data()
            with self.gateway(
                workers, name="gateway in front", data=data, engine=_in_front(f"http://127.0.0.1:{inner.port}")
            ) as gateway:
                yield gateway, straight

    @contextmanager
    def reading(self, url: str, volume: Path) -> Iterator[Gateway]:
        """A gateway in front of the registry at *url* that reads blobs from its *volume*."""
        engine = f'{_in_front(url)}\nvolume = "{volume}"'
        with self.gateway(name="gateway in front, with its volume", engine=engine) as gateway:
            yield gateway

    @contextmanager
    def _registry(self, content: Path, *, tls: bool) -> Iterator[Distribution]:
        """Distribution on *content*, open to all of this machine; asked for by everybody as it comes."""
        directory = self.directory / f"open-{uuid4().hex[:8]}"
        directory.mkdir()
        port = free_port()
        http: dict[str, object] = {"addr": f"127.0.0.1:{port}", "secret": "known to both"}
        if tls:
            http["tls"] = {"certificate": str(self.pair.certificate), "key": str(self.pair.key)}
        storage = {"filesystem": {"rootdirectory": str(content)}, "cache": _CACHE}
        with self._running(directory, {"storage": storage, "http": http}) as daemon:
            yield Distribution(STRAIGHT, port, daemon, self.authority.certificate, content=content)

    @contextmanager
    def _running(self, directory: Path, configuration: Mapping[str, Any]) -> Iterator[Daemon]:
        quiet = {"version": "0.1", "log": {"level": "error", "accesslog": {"disabled": True}}}
        written = directory / "config.yml"
        written.write_text(json.dumps({**quiet, **configuration}))
        # Every REGISTRY_* variable overrides its configuration, and skopeo's REGISTRY_AUTH_FILE has just such a name.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("REGISTRY_")}
        daemon = Daemon(["docker-registry", "serve", str(written)], directory / "log", environment=environment)
        port = int(str(configuration["http"]["addr"]).rpartition(":")[2])
        daemon.start(lambda: accepts_connections(port))
        try:
            yield daemon
        finally:
            daemon.stop()

    @contextmanager
    def distribution(self) -> Iterator[Distribution]:
        directory = self.directory / f"distribution-{uuid4().hex[:8]}"
        directory.mkdir()
        port = free_port()
        token = {
            "realm": "https://127.0.0.1/token",
            "service": _SERVICE,
            "issuer": _SERVICE,
            "rootcertbundle": str(self.authority.certificate),
        }
        configuration = {
            "storage": {"filesystem": {"rootdirectory": str(directory / "content")}, "cache": _CACHE},
            "auth": {"token": token},
            "http": {
                "addr": f"127.0.0.1:{port}",
                "tls": {"certificate": str(self.pair.certificate), "key": str(self.pair.key)},
            },
        }
        signer = self.authority.issue("signer.test")
        with self._running(directory, configuration) as daemon:
            yield Distribution(
                "Distribution", port, daemon, self.authority.certificate, content=directory / "content", signer=signer
            )

    @contextmanager
    def nginx(self, files: Path | None = None, front_of: str = "") -> Iterator[Nginx]:
        """nginx with *files*, or in front of the registry at *front_of*, an URL, checking and recording nothing."""
        directory = self.directory / f"nginx-{uuid4().hex[:8]}"
        directory.mkdir()
        port = free_port()
        written = directory / "nginx.conf"
        source = f"root {files};" if files else _PROXY.format(url=front_of)
        written.write_text(_NGINX.format(directory=directory, port=port, pair=self.pair, source=source))
        daemon = Daemon(["nginx", "-c", str(written), "-e", str(directory / "error.log")], directory / "log")
        name = "nginx, static" if files else "nginx in front"
        ceiling = Nginx(name, port, daemon, self.authority.certificate, registry=False, files=files)
        daemon.start(lambda: accepts_connections(port))
        try:
            yield ceiling
        finally:
            daemon.stop()


# As its packages and images set it up.
_CACHE = {"blobdescriptor": "inmemory"}
_NGINX = """\
daemon off;
user root;
worker_processes auto;
pid {directory}/pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  sendfile on;
  keepalive_requests 1000000;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port} ssl;
    ssl_certificate {pair.certificate};
    ssl_certificate_key {pair.key};
    {source}
  }}
}}
"""
_PROXY = """\
location / {{
      proxy_pass {url};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffers 16 64k;
      proxy_buffer_size 64k;
      proxy_max_temp_file_size 0;
    }}"""


def program() -> tuple[str, ...]:
    """The `gateway` command beside the Python that runs this."""
    return (str(Path(sys.executable).parent / "gateway"),)


def command(data: Path, *arguments: str, stdin: str = "") -> str:
    """Runs a command of the gateway's on *data*; gives what it printed."""
    argv = [*program(), "--data", str(data), *arguments]
    ended = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=120)
    if ended.returncode:
        raise RuntimeError(f"{' '.join(argv)} ended with {ended.returncode}: {ended.stderr}")
    return ended.stdout


def is_ready(gateway: Target) -> bool:
    """Whether the gateway says that it is ready."""
    trusted = ssl.create_default_context(cafile=str(gateway.ca))
    try:
        with urllib.request.urlopen(f"{gateway.url}/health/ready", context=trusted, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


async def _populate(administration: Administration) -> str:
    """A project, its robot, whose secret it gives, and an administrator."""
    caller = operator()
    await administration.projects.add_project(caller, PROJECT)
    await administration.accounts.add_user(caller, ADMINISTRATOR, administrator=True, password=PASSWORD)
    robot = await administration.robots.add_robot(caller, ROBOT, "owner")
    return robot.secret or ""


def configure(data: Path, port: int, workers: int, pair: Pair, engine: str = "") -> None:
    (data / "gateway.toml").write_text(f"""\
[server]
names = ["127.0.0.1", "localhost"]
port = {port}
workers = {workers}
certificate = "{pair.certificate}"
key = "{pair.key}"
[engine]
{engine}
[tokens]
lifetime_seconds = 900
[limits]
connections_per_address = 4096
[logging]
level = "warning"
""")
