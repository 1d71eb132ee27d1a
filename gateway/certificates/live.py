"""The pair that is live: watched on disk, judged when it changes, swapped without dropping a connection."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from gateway.certificates.development import LOCAL_NAMES
from gateway.certificates.pair import Pair, covers, load_pair, server_context
from gateway.errors import Invalid

WARN_DAYS: Final = 14


class ReloadOutcome(StrEnum):
    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Reload:
    """
    What became of a changed pair: the new `Pair` when accepted, else the old one.

    *reason* is why the old one stays; of an accepted one, what an operator should know of it, "" for nothing.
    """

    outcome: ReloadOutcome
    reason: str
    pair: Pair


Signature = tuple[tuple[int, int, int, int], ...]


class LivePair:
    """
    The pair new connections are served with; `context` stays the same object while the pair behind it is replaced.

    It begins with what is on disk, or else with *fallback*, a pair that was live elsewhere; without one it raises
    `Invalid` when what is on disk is not fit to serve. Established connections never notice a change.

    *hosts* are the names clients use, or else all that the live pair names; local ones are missed only where there are
    no others. A pair that covers none of them is not fit to take the place of one that covers some (among others, of
    the local ones only those count that the live one covers), nor one with a flaw that of one without: it begins with
    such a pair, and warns.
    """

    CHECK_SECONDS = 1.0
    #: A pair that was refused may have become fit where it lies: its day has come, or the fault was not its own.
    AGAIN_SECONDS = 60.0

    def __init__(
        self,
        certificate: Path,
        key: Path,
        *,
        hosts: Iterable[str] = (),
        fallback: Pair | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._now = now or (lambda: datetime.now(UTC))
        self._paths = (certificate, key)
        self._hosts = tuple(hosts)
        self._own = tuple(host for host in self._hosts if host not in LOCAL_NAMES) or self._hosts
        self._seen: Signature | None = self._signature()
        self._doubted: Signature | None = None
        self._rejection: str | None = None
        self._looked = self._refused = time.monotonic()
        try:
            self.pair, self._current = self._judged(fallback)
        except Invalid:
            if fallback is None:
                raise
            # The first looks will refuse what is on disk, and tell.
            self._seen, self.pair, self._current = None, fallback, server_context(fallback)
        self.context = server_context(self.pair)
        # A context keeps one certificate per kind of key, so loading an RSA pair over an elliptic-curve one would
        # leave the old one in use: each handshake is moved to a context that holds the current pair alone.
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._current

    def _signature(self) -> Signature:
        found = []
        for path in self._paths:
            try:
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size))
            except OSError:
                found.append((0, 0, 0, 0))
        return tuple(found)

    def refresh(self) -> Reload | None:
        """
        Look for a changed pair, at most once a second; None when there is nothing to tell.

        A good pair is live when this returns. A bad one is reported once, after two looks found the same files, so
        that a certificate and key replaced one after the other are not mistaken for a mismatch; each minute it is
        judged again, and reported again only for another reason.
        """
        if time.monotonic() - self._looked < self.CHECK_SECONDS:
            return None
        self._looked = time.monotonic()
        signature = self._signature()
        if signature == self._seen and not self._is_due():
            return None
        try:
            pair, self._current = self._judged(self.pair)
        except Invalid as refusal:
            return self._reject(signature, refusal.message)
        same = self._rejection is None and (pair.chain_pem, pair.key_pem) == (self.pair.chain_pem, self.pair.key_pem)
        self._seen, self._doubted, self._rejection, self.pair = signature, None, None, pair
        return None if same else Reload(ReloadOutcome.ACCEPTED, self._remark(), pair)

    def _is_due(self) -> bool:
        """Whether files that were refused are judged again."""
        return self._rejection is not None and time.monotonic() - self._refused >= self.AGAIN_SECONDS

    def _judged(self, before: Pair | None) -> tuple[Pair, ssl.SSLContext]:
        """The pair on disk, fit to take the place of *before*, and what serves it; raises `Invalid` else."""
        pair = load_pair(*self._paths, self._now())
        if before is not None:
            self._check_fit(pair, before)
        try:
            return pair, server_context(pair)
        except OSError as problem:
            raise Invalid(f"{self._paths[0]} cannot be judged: {problem}.") from problem

    def _check_fit(self, pair: Pair, before: Pair) -> None:
        if pair.flaw and not before.flaw:
            raise Invalid(pair.flaw)
        hosts = self._hosts or before.names
        kept = [host for host in hosts if covers(before, host)]
        if kept and not any(covers(pair, host) for host in (*kept, *self._own)):
            wanted = ", ".join(self._own or kept)
            raise Invalid(f"{pair.certificate} names none of {wanted}: put one of this gateway in its place.")

    def _remark(self) -> str:
        """What an operator should know of the live pair, whatever the time; "" for nothing."""
        lacking = [host for host in self._own if not covers(self.pair, host)]
        names = f"The certificate does not name {', '.join(lacking)}." if lacking else ""
        return " ".join(filter(None, (self.pair.flaw, names)))

    def _reject(self, signature: Signature, reason: str) -> Reload | None:
        known = signature == self._seen
        if not known and self._doubted != signature:
            self._doubted = signature
            return None
        same = known and reason == self._rejection
        self._seen, self._doubted, self._rejection, self._refused = signature, None, reason, time.monotonic()
        return None if same else Reload(ReloadOutcome.REJECTED, reason, self.pair)

    @property
    def warning(self) -> str | None:
        """What an operator should know about the certificate now, in a sentence or two; None when all is well."""
        return " ".join(filter(None, (self._trouble(), self._remark()))) or None

    def _trouble(self) -> str:
        left = self.pair.days_left(self._now())
        if self._rejection is not None:
            return f"The new certificate was refused and the old one stays: {self._rejection}"
        if left < 0:
            return f"The certificate expired on {self.pair.not_after:%Y-%m-%d}."
        if left < WARN_DAYS:
            return f"The certificate expires in {left} days, on {self.pair.not_after:%Y-%m-%d}."
        return ""
