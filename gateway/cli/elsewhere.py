"""Another registry that a command reads: called by its URL, and what would mend it by the command's own options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.errors import Lack, UpstreamDistrust, UpstreamUnavailable

_CALLED: Final = "registry behind"
_MENDS: Final = {
    Lack.CREDENTIAL: "The {registry} asks for a credential; give --username and {password}.",
    Lack.RIGHT: "The {registry} refuses the credential; check --username and {password}, and what they may do there.",
    Lack.TRUST: "The {registry} shows a certificate that is not trusted; renew it, or give its CA with --ca-file.",
    Lack.TLS: "The {registry} speaks no TLS that can be trusted; check the URL and --ca-file.",
    Lack.AUTHORITY: "The CA file for the {registry} cannot be read; check --ca-file.",
}


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The registry at *url*, which a command was given; *password* is the option that its password comes by."""

    url: str
    password: str

    def words(self, refusal: UpstreamUnavailable) -> str:
        """What to say for a refusal, which speaks of the registry behind the gateway and of its configuration."""
        called = f"registry at {self.url}"
        if isinstance(refusal, UpstreamDistrust):
            return _MENDS[refusal.lack].format(registry=called, password=self.password)
        return refusal.message.replace(_CALLED, called)
