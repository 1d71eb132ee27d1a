"""Where a registry may send us: what its redirects, its token realm and its upload locations may name."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address

from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway.errors import Invalid, UpstreamFailed

_PRINTABLE = re.compile(r"[\x21-\x7e]{1,8192}", re.ASCII)
_UPLOAD = re.compile(r"[A-Za-z0-9._~=+-]+", re.ASCII)


def home(text: str) -> URL:
    """The peer's own address, without a slash at its end; raises `Invalid` unless it is a bare http or https URL."""
    url = _parsed(text)
    if url is None or url.scheme not in ("http", "https") or not url.raw_host:
        raise Invalid("A registry has an address like http://127.0.0.1:5001 or https://registry.example:5000.")
    if url.raw_user is not None or url.raw_query_string or url.raw_fragment or "?" in text or "#" in text:
        raise Invalid("The address of a registry holds no credential, no query and no fragment.")
    return URL(text.rstrip("/"), encoded=True)


def same_origin(one: URL, other: URL) -> bool:
    """Whether both have one scheme, one host and one port."""
    return (one.scheme, one.raw_host, one.port) == (other.scheme, other.raw_host, other.port)


def redirected(url: URL, location: str) -> URL:
    """
    Where a redirect from *url* leads.

    Raises `UpstreamFailed` for what is no http or https address, for a step from https to http, and for an address
    that belongs to the link alone, where clouds tell machines their secrets.
    """
    target = _joined(url, location)
    if target is None or target.scheme not in ("http", "https") or not target.raw_host:
        raise UpstreamFailed("The registry behind redirects to what is no address; look at its storage's settings.")
    if target.raw_user is not None:
        raise UpstreamFailed("The registry behind redirects with a credential of its own, which is not followed.")
    if url.scheme == "https" and target.scheme != "https":
        raise UpstreamFailed("The registry behind redirects from https to http, which is not followed.")
    if _is_link_local(target.raw_host):
        raise UpstreamFailed("The registry behind redirects to a link-local address, which is not followed.")
    return target.with_fragment(None) if target.raw_fragment else target


def realm(peer: URL, text: str) -> URL:
    """
    The address that gives tokens for *peer*; raises `UpstreamFailed` unless our credential may be sent there.

    That is the peer's own host, whatever the port, and not in clear if the peer itself is asked over TLS.
    """
    url = _parsed(text)
    if url is None or url.scheme not in ("http", "https") or url.raw_user is not None or url.raw_fragment:
        raise UpstreamFailed("The registry behind names no proper token realm; look at its auth settings.")
    if url.raw_host != peer.raw_host:
        raise UpstreamFailed(
            "The registry behind sends for tokens to another host, where the gateway's credential is not sent; "
            "let its realm be on its own host name."
        )
    if peer.scheme == "https" and url.scheme != "https":
        raise UpstreamFailed(
            "The registry behind sends for tokens in clear, where the gateway's credential is not sent."
        )
    return url


def upload(peer: URL, location: str, repository: str) -> str:
    """
    The path below *peer*, with its query, of a `Location` that is an upload of *repository*.

    Raises `UpstreamFailed` for any other.
    """
    uploads = f"/v2/{repository}/blobs/uploads/"
    beginning = peer.raw_path.rstrip("/") + uploads
    url = _joined(URL(str(peer) + uploads, encoded=True), location)
    if url is None or not same_origin(url, peer) or url.raw_user is not None or url.raw_fragment:
        raise UpstreamFailed(
            "The registry behind places an upload on another host than it was asked on; "
            "set `http.relativeurls: true` in its configuration, or remove `http.host`."
        )
    path = url.raw_path
    name = path.removeprefix(beginning)
    if not path.startswith(beginning) or not _UPLOAD.fullmatch(name) or name in (".", ".."):
        raise UpstreamFailed("The registry behind places an upload where uploads of this repository cannot be.")
    return uploads + name + (f"?{url.raw_query_string}" if url.raw_query_string else "")


class Cautious(AbstractResolver):
    """Resolves names as the system does, and forgets addresses that belong to the link, except for the *peer*'s own."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        allowed = found if host == self._peer else [each for each in found if not _is_link_local(each["host"])]
        if not allowed:
            raise OSError(None, "the name has link-local addresses only")
        return allowed

    async def close(self) -> None:
        await self._resolver.close()


def _parsed(text: str) -> URL | None:
    # What is written into a request line is taken as it is: nothing in it may end the line.
    if _PRINTABLE.fullmatch(text) is None:
        return None
    try:
        url = URL(text, encoded=True)
        _ = url.port, url.raw_host
    except ValueError:
        return None
    return url


def _joined(url: URL, location: str) -> URL | None:
    parsed = _parsed(location)
    if parsed is None or "\\" in location:
        return None
    try:
        return url.join(parsed)
    except ValueError:
        return None


def _is_link_local(host: str) -> bool:
    try:
        address: IPv4Address | IPv6Address = ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_link_local
