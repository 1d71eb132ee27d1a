"""Operational logs: what a gateway says of itself while it runs; the trail is something else."""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog

from gateway.settings import LogFormat, Settings


def configure_logging(settings: Settings) -> None:
    """One line an entry on standard output, as text or JSON; no secret is ever handed to it."""
    steps: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = structlog.processors.LogfmtRenderer(
        key_order=["timestamp", "level", "logger", "event"]
    )
    if settings.logging.format is LogFormat.JSON:
        renderer = structlog.processors.JSONRenderer()
    handler = _Lines(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=steps,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.logging.level.upper())
    for noisy in ("alembic", "uvicorn", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _Lines(logging.StreamHandler[TextIO]):
    """Lines for whoever reads them: when nobody does any more, nobody is told at length that a line was lost."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], BrokenPipeError):
            super().handleError(record)
