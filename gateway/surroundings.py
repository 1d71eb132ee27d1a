"""What is looked at beside the records: the settings, the data directory, the disk, the certificate."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gateway.administration import Finding, State
from gateway.certificates import LivePair, fingerprint
from gateway.errors import Invalid
from gateway.folder import Weakness, exposed_secret, local_disk, open_to_all, unwritable
from gateway.settings import Settings

#: Less than this part of a file system free is too little.
SPARE = 0.05

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the certificate and its key are; *authority* is the one the gateway made itself, if it did."""

    certificate: Path
    key: Path
    authority: Path | None

    @classmethod
    def of(cls, settings: Settings) -> Paths:
        """The configured pair, or the development one."""
        if settings.server.development:
            folder = settings.tls
            return cls(folder / "leaf.crt", folder / "leaf.key", folder / "ca.crt")
        return cls(settings.server.certificate, settings.server.key, None)


def of_surroundings(settings: Settings, now: datetime) -> tuple[Finding, ...]:
    """What is found of all that this module looks at; *now* is UTC, the data directory must be readable."""
    return (
        _settings_file(settings.file),
        _data_directory(settings.data, settings.database.url),
        _secrets(settings),
        _file_system(settings),
        _disk_space(settings.data),
        _certificate(settings, now),
    )


def listed(things: Iterable[object]) -> str:
    """The first few of *things*, and how many more there are."""
    named = [str(thing) for thing in things]
    more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return f"{', '.join(named[:_SHOWN])}{more}"


def _settings_file(file: Path | None) -> Finding:
    if file is None:
        return Finding("settings", State.OK, "There is no settings file; the defaults are in force.")
    weakness = exposed_secret(file)
    return _weak("settings", weakness) or Finding("settings", State.OK, f"{file} shows nobody a password or token.")


def _data_directory(folder: Path, url: str) -> Finding:
    weak = _weak("data directory", open_to_all(folder))
    if weak is not None:
        return weak
    within = sorted(entry for entry in folder.iterdir() if _mode(entry) & stat.S_IWOTH)
    if within:
        return Finding(
            "data directory", State.BAD, f"Everybody may write to {listed(within)}.", f"Run: chmod -R o-w {folder}"
        )
    withheld = _weak("data directory", unwritable(folder, url))
    return withheld or Finding("data directory", State.OK, f"Only who should may write to {folder}.")


def _secrets(settings: Settings) -> Finding:
    kept = [*(settings.data / "keys").glob("*"), *settings.tls.glob("*.key"), *settings.data.glob("gateway.db*")]
    shown = sorted(file for file in kept if _mode(file) & 0o077)
    if shown:
        return Finding(
            "secrets", State.BAD, f"Others than the owner may read {listed(shown)}.", "Run: chmod 600 on each of them."
        )
    return Finding("secrets", State.OK, "Nobody but the owner may read keys and records.")


def _file_system(settings: Settings) -> Finding:
    places = [settings.data]
    if settings.database.url.startswith("sqlite:///"):
        places.append(Path(settings.database.url.removeprefix("sqlite:///")).parent)
    for place in dict.fromkeys(places):
        reason = local_disk(place)
        if reason:
            return Finding("file system", State.BAD, reason)
    return Finding("file system", State.OK, "The data are on a local file system.")


def _disk_space(folder: Path) -> Finding:
    told = os.statvfs(folder)
    # As df reckons: what is kept for root is neither used nor free.
    of_bytes = told.f_bavail / max(1, told.f_blocks - told.f_bfree + told.f_bavail)
    of_files = told.f_favail / told.f_files if told.f_files else 1.0
    left, what = min((of_bytes, "space"), (of_files, "file entries"))
    if left < SPARE:
        return Finding(
            "disk space",
            State.BAD,
            f"{left:.1%} of the {what} on the data's file system is free.",
            "Free some, or grow it: when it is full nothing can be recorded, and so nothing is served.",
        )
    return Finding("disk space", State.OK, f"{left:.0%} of the {what} on the data's file system is free.")


def _certificate(settings: Settings, now: datetime) -> Finding:
    told = described(settings, now)
    warning = str(told["warning"] or "")
    if not told["usable"]:
        missing = settings.server.development and not Path(str(told["certificate"])).exists()
        return Finding("certificate", State.BAD, warning, "Start the gateway, which makes one." if missing else "")
    if warning:
        mend = "Put one in its place that names them all and lasts; the gateway takes it up by itself."
        return Finding("certificate", State.WARN, warning, mend)
    return Finding("certificate", State.OK, f"The certificate names all it should, for {told['days_left']} more days.")


def described(settings: Settings, now: datetime) -> dict[str, object]:
    """The certificate of *settings* as programs see it; one that the server would refuse is not *usable*."""
    paths = Paths.of(settings)
    where: dict[str, object] = {"certificate": str(paths.certificate), "key": str(paths.key)}
    unknown = dict.fromkeys(("names", "valid_from", "valid_until", "days_left", "fingerprint"))
    try:
        live = LivePair(paths.certificate, paths.key, hosts=settings.server.names)
    except Invalid as refusal:
        return {**where, **unknown, "usable": False, "warning": refusal.message, **_authority(paths)}
    pair = live.pair
    return {
        **where,
        "names": list(pair.names),
        "valid_from": pair.not_before,
        "valid_until": pair.not_after,
        "days_left": pair.days_left(now),
        "fingerprint": pair.fingerprint,
        "usable": True,
        "warning": live.warning,
        **_authority(paths),
    }


def _authority(paths: Paths) -> dict[str, object]:
    if paths.authority is None or not paths.authority.exists():
        return {"authority": None, "authority_fingerprint": None}
    return {
        "authority": str(paths.authority),
        "authority_fingerprint": fingerprint(paths.authority.read_bytes()),
    }


def _weak(name: str, weakness: Weakness | None) -> Finding | None:
    return Finding(name, State.BAD, weakness.text, weakness.mend) if weakness is not None else None


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode) if not path.is_symlink() else 0
