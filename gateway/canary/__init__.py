"""The leak probe: a private canary image, asked for on every route by those who may not have it, and an alarm."""

from gateway.canary.alarm import LeakAlarm
from gateway.canary.probe import Finding, LeakProbe

__all__ = ["Finding", "LeakAlarm", "LeakProbe"]
