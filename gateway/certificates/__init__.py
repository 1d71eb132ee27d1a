"""TLS material: pairs and how they are judged, the pair that is live, and the development authority.

    ensure_development_pair ─▶ DATA/tls/{ca,leaf}.{crt,key} ─▶ load_pair ─▶ Pair ─▶ server_context
                                  production's own files ─────────┘             └▶ LivePair: swapped while serving

A pair is judged from the very bytes that are then used, so a file that changes in between changes nothing.
"""

from gateway.certificates.development import LOCAL_NAMES, ensure_development_pair
from gateway.certificates.live import LivePair, Reload, ReloadOutcome
from gateway.certificates.pair import Pair, covers, fingerprint, load_pair, server_context

__all__ = [
    "LOCAL_NAMES",
    "LivePair",
    "Pair",
    "Reload",
    "ReloadOutcome",
    "covers",
    "ensure_development_pair",
    "fingerprint",
    "load_pair",
    "server_context",
]
