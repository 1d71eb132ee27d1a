"""A private certificate authority, as a company has one, and the certificates it gives out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate (with its chain) and its key, as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A CA that has just been made; `certificate` is the PEM file that clients are told to trust."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ca = trustme.CA(organization_name="Tests")
        self._issued = 0
        self.certificate = directory / "ca.crt"
        self._ca.cert_pem.write_to_path(self.certificate)

    def issue(self, *names: str, days: float = 30) -> Pair:
        """Issue a certificate for names and addresses, valid from yesterday for `days` (negative: expired)."""
        now = datetime.now(UTC)
        since = min(now, now + timedelta(days=days)) - timedelta(days=1)
        leaf = self._ca.issue_cert(*names, not_before=since, not_after=now + timedelta(days=days))
        self._issued += 1
        pair = Pair(self._directory / f"leaf{self._issued}.crt", self._directory / f"leaf{self._issued}.key")
        for number, blob in enumerate(leaf.cert_chain_pems):
            blob.write_to_path(pair.certificate, append=number > 0)
        leaf.private_key_pem.write_to_path(pair.key)
        pair.key.chmod(0o600)
        return pair
