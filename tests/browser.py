"""A headless Chromium that looks at pages as a person does, and keeps what it saw.

Screenshots go to the folder of the test, or to that named by the environment variable G2VLM_SCREENSHOTS.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120_000
"""Milliseconds: scenes are drawn by the processor here."""


@contextmanager
def opened(*, offline: bool = False, width: int = 1280, height: int = 1000) -> Iterator[tuple[Any, list[str]]]:
    """A page, and the addresses beyond this machine that it asked for; skips the test where there is no Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": width, "height": height}, offline=offline).new_page()
        page.set_default_timeout(PATIENCE)
        away: list[str] = []
        page.on("request", lambda request: None if _is_here(request.url) else away.append(request.url))
        try:
            yield page, away
        finally:
            browser.close()


def _is_here(url: str) -> bool:
    return url.startswith(("data:", "blob:", "file:", "http://127.0.0.1:", "ws://127.0.0.1:", "http://localhost:"))


def screenshot(page: Any, name: str, tmp_path: Path, **options: Any) -> bytes:
    """PNG of what the page shows now."""
    folder = Path(os.environ.get("G2VLM_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return page.screenshot(path=folder / f"{name}.png", timeout=PATIENCE, **options)
