"""What `gateway up` says before it serves: where it is, how to trust it, how to begin."""

from __future__ import annotations

import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from gateway.settings import LOCAL_NAMES, Settings

_LOCAL = frozenset(LOCAL_NAMES)


@dataclass(frozen=True, slots=True)
class Authority:
    """The authority that signed a development certificate: its file, and its SHA-256 as colon hex."""

    certificate: Path
    fingerprint: str


def command_path() -> str:
    """The full path of the `gateway` command that is running."""
    found = shutil.which(sys.argv[0]) or sys.argv[0]
    return str(Path(found).absolute())


def addresses(settings: Settings) -> list[str]:
    """The URLs worth telling people: those of names, not of addresses."""
    named = [
        address
        for name, address in zip(settings.server.names, settings.addresses, strict=True)
        if name not in ("127.0.0.1", "::1")
    ]
    return [f"https://{address}" for address in named or settings.addresses]


def main_address(settings: Settings) -> str:
    """Host and port to use in commands: the first name given, or `registry.local`, which others can be told."""
    pairs = dict(zip(settings.server.names, settings.addresses, strict=True))
    first = settings.server.names[0]
    if first in _LOCAL and "registry.local" in pairs:
        return pairs["registry.local"]
    return pairs[first]


def short(settings: Settings, authority: Authority | None, command: str) -> str:
    """The block of every later run: three lines."""
    if authority is not None:
        trust = f"Authority   {authority.certificate}  SHA-256 {authority.fingerprint}"
    else:
        trust = f"Certificate {settings.server.certificate}"
    return f"Gateway     {'  '.join(addresses(settings))}\n{trust}\nCommands    {command} …\n"


def first(
    settings: Settings, administrator: str, password: str | None, authority: Authority | None, command: str
) -> str:
    """The block of the first run, at most forty lines; *password* is shown here and nowhere else."""
    lines = [
        "",
        f"Gateway        {'  '.join(addresses(settings))}",
        f"Administrator  {administrator}",
    ]
    if password is not None:
        lines.append(f"Password       {password}      (shown this once)")
    if authority is not None:
        lines += _trust(settings, authority)
    lines += _begin(settings, administrator, command)
    return "\n".join(lines) + "\n"


def _trust(settings: Settings, authority: Authority) -> list[str]:
    address = main_address(settings)
    host = address.partition(":")[0]
    folder = shlex.quote(f"/etc/docker/certs.d/{address}")
    ca = shlex.quote(str(authority.certificate))
    lines = [
        "",
        "The gateway signs its certificate with an authority of its own:",
        f"  {authority.certificate}",
        f"  SHA-256 {authority.fingerprint}",
        "Make docker trust it (podman and skopeo read the same folder):",
        f"  sudo mkdir -p {folder} && sudo cp {ca} {folder}/ca.crt",
        "Make this whole system trust it:",
        f"  sudo cp {ca} /usr/local/share/ca-certificates/registry-gateway.crt && sudo update-ca-certificates",
        f"On a colleague's machine: fetch it, compare the SHA-256, then trust it as above{_reach(settings)}:",
        f"  curl -k https://{address}/ca.crt -o ca.crt",
        "  openssl x509 -in ca.crt -noout -fingerprint -sha256",
    ]
    if host == "registry.local":
        lines += ["Make its name known here:", '  echo "127.0.0.1 registry.local" | sudo tee -a /etc/hosts']
    return lines


def _reach(settings: Settings) -> str:
    local = settings.server.bind in ("127.0.0.1", "::1")
    return " (needs --bind 0.0.0.0: now only this machine is served)" if local else ""


def _begin(settings: Settings, administrator: str, command: str) -> list[str]:
    address = main_address(settings)
    return [
        "",
        "Begin:",
        f"  docker login {address} -u {administrator}",
        f"  docker tag IMAGE {address}/gallery/ui:v1",
        f"  docker push {address}/gallery/ui:v1",
        "Users, projects, grants and the audit trail, from another terminal:",
        f"  {command} --help",
    ]
