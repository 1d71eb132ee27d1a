"""Pictures that the server draws itself, as SVG with no style in it."""

from __future__ import annotations

import segno
from markupsafe import Markup

#: What scanners want around a code, in its own dots.
_QUIET = 4


def qr_code(text: str) -> Markup:
    """*text* as a QR code, dark on white whatever the page looks like: phones expect that."""
    rows = [list(row) for row in segno.make(text, error="m", micro=False).matrix]
    size = len(rows) + 2 * _QUIET
    dots = "".join(
        f"M{x + _QUIET} {y + _QUIET}h1v1h-1z" for y, row in enumerate(rows) for x, dark in enumerate(row) if dark
    )
    return Markup(
        '<svg class="qr" role="img" aria-label="QR code of the key" viewBox="0 0 {0} {0}" shape-rendering="crispEdges">'
        '<rect width="{0}" height="{0}" fill="#fff"/><path d="{1}" fill="#000"/></svg>'
    ).format(size, dots)
