"""Which settings a restored directory gets: those of the backup, if they fit where they are now."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.backup.copying import keep_text
from gateway.backup.inventory import DATABASE
from gateway.backup.taking import named_files
from gateway.errors import Refusal
from gateway.settings import FILE_NAME, Settings

#: What settings are called that would lead to another directory or database than the restored ones.
ASIDE: Final = f"{FILE_NAME}.from-backup"


@dataclass(frozen=True, slots=True)
class Settled:
    """*aside* says why the settings of the backup do not count, or is empty; *missing* files they name are not here."""

    aside: str = ""
    missing: tuple[str, ...] = ()


def settle(staging: Path, folder: Path, url: str, url_file: Path | None) -> Settled:
    """
    Looks at the settings in *staging*, which are going to be those of *folder*, and sets them aside if they do not fit.

    With a *url*, that of a database, the settings in force name it by *url_file* in any case.
    """
    path = staging / FILE_NAME
    settled = Settled()
    if path.exists():
        settled = _judged(path, staging, folder, url)
        if settled.aside:
            path.rename(staging / ASIDE)
    if url and url_file is not None and not path.exists():
        named = json.dumps(os.path.abspath(url_file), ensure_ascii=False)
        keep_text(path, f"[database]\nurl_file = {named}\n".encode())
    return settled


def serving_url(staging: Path, url: str) -> str:
    """The URL with which the settings in *staging* serve, if *url* is the one with which they change the schema."""
    try:
        database = Settings.load(staging / FILE_NAME).database
    except Refusal:
        return ""
    return database.url if database.migrate_url == url else ""


def _judged(path: Path, staging: Path, folder: Path, url: str) -> Settled:
    try:
        settings = Settings.load(path)
    except Refusal as refusal:
        # It names the file by where it is now, which it will not be when this is read.
        return Settled(aside=refusal.message.replace(str(staging), str(folder)).rstrip("."))
    if settings.data not in (staging, folder):
        return Settled(aside=f"they name another data directory, {settings.data}")
    named = {settings.database.url, settings.database.migrate_url}
    if not named & ({url} if url else {_file_url(staging), _file_url(folder)}):
        return Settled(aside="they name another database")
    return Settled(missing=tuple(_missing(settings, staging, folder)))


def _missing(settings: Settings, staging: Path, folder: Path) -> Iterator[str]:
    for path in named_files(settings):
        inside = next((path.relative_to(root) for root in (staging, folder) if path.is_relative_to(root)), None)
        if not (path if inside is None else staging / inside).exists():
            yield str(path if inside is None else folder / inside)


def _file_url(folder: Path) -> str:
    return f"sqlite:///{folder / DATABASE}"
