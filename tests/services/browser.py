"""Debian's Chromium, driven by playwright: opens pages and remembers everything that a page should not do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    ViewportSize,
    sync_playwright,
)

from tests.services.install import CHROMIUM

PHONE: ViewportSize = {"width": 375, "height": 812}
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
_FLAGS = [
    "--no-sandbox",  # a container's root has no user namespaces
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Visit:
    """A page that is open, and what it did that it should not, or asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    """Errors and warnings of the console (violations of the content security policy among them), and exceptions."""
    requests: list[str] = field(default_factory=list)

    @property
    def hosts(self) -> set[str]:
        """Whom it has sent requests to."""
        return {urlsplit(address).hostname or address for address in self.requests}

    @property
    def overflow_pixels(self) -> int:
        """How far the page is wider than its window."""
        wider: int = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        return wider


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running Chromium, with a profile of its own that goes with it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM.path), args=_FLAGS, headless=True)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(browser: Browser, address: str, **options: Any) -> Iterator[Visit]:
    """Opens a page in a context of its own; `options` are playwright's (`viewport`, `color_scheme`, ...)."""
    context = browser.new_context(**{"viewport": DESKTOP, **options})
    try:
        yield _open(context, address)
    finally:
        context.close()


def _open(context: BrowserContext, address: str) -> Visit:
    seen = Visit(context.new_page())

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            seen.complaints.append(message.text)

    def note(request: Request) -> None:
        seen.requests.append(request.url)

    seen.page.on("console", hear)
    seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    seen.page.on("request", note)
    seen.page.goto(address)
    return seen
