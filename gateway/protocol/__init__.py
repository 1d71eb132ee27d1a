"""The strict HTTP edge around uvicorn's parser: who may connect, what may be said, and how long it may take."""

from gateway.framing import EdgeLimits, Misframed
from gateway.protocol.connection import StrictProtocol, strict_protocol
from gateway.protocol.edge import Edge, OnRefused
from gateway.protocol.exchange import ClientDisconnected
from gateway.protocol.listener import Listener, bind

__all__ = [
    "ClientDisconnected",
    "Edge",
    "EdgeLimits",
    "Listener",
    "Misframed",
    "OnRefused",
    "StrictProtocol",
    "bind",
    "strict_protocol",
]
