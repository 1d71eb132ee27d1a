"""Looking at pages as people do: a real browser, light, dark and narrow, and what a checker of accessibility finds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
AXE = (Path(__file__).parent / "axe-4.14.1.min.js").read_text()
#: Where pictures of the pages are kept, if anywhere.
PICTURES = os.environ.get("CONSOLE_PICTURES", "")
WIDE, NARROW = {"width": 1200, "height": 800}, {"width": 360, "height": 780}
_WATCH = "document.addEventListener('securitypolicyviolation', e => console.error('POLICY ' + e.blockedURI));"
#: What is wider than the box that it is shown in, and so is cut off, or out of sight until somebody moves it.
_CUT = """[...document.querySelectorAll("main *")].filter(each =>
    getComputedStyle(each).overflowX !== "visible" && !each.matches("input, select, textarea, .unseen, thead")
    && each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 1
).map(each => `${each.tagName}.${each.className}: ${each.innerText.slice(0, 80)}`)"""


@contextmanager
def running_browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass(slots=True)
class Looker:
    """One window; whatever the browser complains of fails the test at the end."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def open(self, path: str) -> None:
        self.page.goto(self.address + path)

    def fill(self, **fields: str) -> None:
        for name, value in fields.items():
            field = self.page.locator(f"#{name}")
            if field.evaluate("element => element.tagName") == "SELECT":
                field.select_option(value)
            else:
                field.fill(value)

    def press(self, words: str) -> None:
        """Presses the button, or follows the link, that says *words*."""
        role = self.page.get_by_role("button", name=words, exact=True)
        (role if role.count() else self.page.get_by_role("link", name=words, exact=True)).first.click()
        self.page.wait_for_load_state()

    def says(self, words: str) -> bool:
        return self.page.get_by_text(words).first.is_visible()

    def look(self, name: str) -> None:
        """Checks the page as it stands, light, dark and narrow."""
        self.seen.add(name)
        for scheme, size in (("light", WIDE), ("dark", WIDE), ("light", NARROW)):
            self.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            self.page.set_viewport_size({"width": size["width"], "height": size["height"]})
            self._check(f"{name}-{scheme}-{size['width']}")
        self.page.emulate_media(color_scheme="light")
        self.page.set_viewport_size({"width": WIDE["width"], "height": WIDE["height"]})

    def picture(self, name: str) -> None:
        """Keeps what the window shows, for the pages that tell people of it."""
        if PICTURES:
            self.page.screenshot(path=f"{PICTURES}/{name}.png")

    def _check(self, name: str) -> None:
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE)
        found: list[dict[str, Any]] = self.page.evaluate("async () => (await axe.run()).violations")
        told = [f"{each['id']}: {node['html'][:200]}" for each in found for node in each["nodes"]]
        wide = self.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        cut = self.page.evaluate(_CUT)
        if PICTURES:
            self.page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)
        assert told == [], f"{name}: {told}"
        assert not wide, f"{name} is wider than its window"
        assert cut == [], f"{name} shows only a part of {cut}"


@contextmanager
def looking(browser: Browser, address: str, *, scripts: bool = True) -> Iterator[Looker]:
    """A window of its own, with or without scripts; nothing may complain in it."""
    context = browser.new_context(ignore_https_errors=True, java_script_enabled=scripts, reduced_motion="reduce")
    context.set_default_timeout(15_000)
    looker = Looker(context.new_page(), address)
    if scripts:
        context.add_init_script(_WATCH)
    looker.page.on("console", lambda message: _heard(looker, message.type, message.text))
    looker.page.on("pageerror", lambda error: looker.complaints.append(str(error)))
    try:
        yield looker
    finally:
        context.close()
    assert looker.complaints == []


def _heard(looker: Looker, kind: str, text: str) -> None:
    # A page that tells a refusal has its status: the browser says so, and that is no complaint.
    if kind == "error" and "Failed to load resource" not in text:
        looker.complaints.append(text)
