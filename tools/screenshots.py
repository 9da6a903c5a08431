"""Takes the pictures of docs/guides/page.md anew, of the page in Chromium over a real server.

    python tools/screenshots.py

What the model says is scripted, so that the pictures show the page and not a model's luck.
"""

from __future__ import annotations

import math
import os
import re
import socket
import threading
import time
from collections.abc import Generator
from contextlib import chdir, contextmanager
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from turnsmith.testing.server import Server, chunk, serving, streams

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PLACE = Path(__file__).resolve().parent.parent / "docs" / "guides"
CHROMIUM = "/usr/bin/chromium"
MOST = 150_000  # bytes of a picture
WIDE, NARROW = (1200, 720), (360, 640)
SAID = """A **fjord** is a long, narrow inlet with steep sides, carved by a glacier and filled by the sea.

| name | country | greatest depth |
|---|---|---|
| Sognefjord | Norway | 1,303 m |
| Milford Sound | New Zealand | 290 m |

```python
deepest = max(fjords, key=lambda one: one.depth)
```"""
OTHER = "Fjords are a kind of bay. People like to visit them in summer, because of the light."
RUN = {  # carried out in earnest, in some seconds
    "title": "A small model learns to add",
    "base": {"llama": {"layers": 2, "hidden": 64, "wide": 128}},
    "forgetting": False,
    "steps": [
        {"data": {"name": {"asks": 0.9, "held": 0.1}, "stages": [{"sums": {"count": 400, "most": 20}}]}},
        {
            "train": {
                "name": "tuned",
                "data": "asks",
                "trainable": "full",
                "validate_on": "held",
                "fit": {
                    "steps": 120,
                    "batch": 16,
                    "lr": 4e-3,
                    "length": 64,
                    "evaluate": 20,
                    "dtype": "float32",
                },
            }
        },
        {"evaluate": {"model": "tuned", "suite": [{"heldout": {"on": "held"}}]}},
    ],
}
AGAIN = "A glacier cut a valley down to the sea, and the sea came in when the ice went."


def said(text: str) -> list[dict[str, Any]]:
    """A reply in pieces, each with probabilities that were drawn once and for all."""
    rng = Random(4)
    pieces = [chunk(piece) for piece in re.findall(r"\s*\S+", text)]
    for piece in pieces:
        choice = piece["choices"][0]
        token, chance = choice["delta"]["content"], 1 - rng.random() ** 3
        others = {token: chance, " deep": (1 - chance) * 0.6, " steep": (1 - chance) * 0.3}
        best = [
            {"token": one, "logprob": math.log(value + 1e-9), "bytes": None} for one, value in others.items()
        ]
        choice["logprobs"] = {"content": [{**best[0], "top_logprobs": best}]}
    return [*pieces, chunk(finish="stop")]


@contextmanager
def running(place: Path) -> Generator[tuple[str, Server]]:
    """A server with a store and a run in `place`, over models that say what they are told to: its address,
    and what tells them."""
    import uvicorn

    from turnsmith.recipes.browsing import Browsing
    from turnsmith.recipes.serving import opened
    from turnsmith.serve.app import app
    from turnsmith.serve.growing import Rules
    from turnsmith.serve.runs import Runs
    from turnsmith.serve.store.writing import Store

    with serving() as behind:
        models = opened({"tuned": f"{behind.url}#tuned", "start": f"{behind.url}#start"})
        listening = socket.create_server(("127.0.0.1", 0))
        shelf = place / "home" / "shelf"
        made = app(
            models,
            store=Store(str(place / "talks.db")),
            rules=Rules(goal=3, depth=1, children=2, reviews=1),
            runs=Runs(place / "runs", shelf, Browsing(shelf)),
        )
        server = uvicorn.Server(uvicorn.Config(made, log_level="error"))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", behind
        server.should_exit = True
        thread.join()


def learnt(place: Path) -> None:
    """A run in `place`, of a model that learns to add."""
    os.environ["TURNSMITH_HOME"] = str(place / "home")
    import turnsmith

    with chdir(place):
        turnsmith.run(RUN, name="adding")


def opened_in(browser: Browser, url: str, size: tuple[int, int], theme: Any) -> Page:
    """A tab of this size."""
    view = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=view, color_scheme=theme, reduced_motion="reduce")  # pyright: ignore[reportArgumentType]
    page = context.new_page()
    page.goto(url)
    return page


def ask(page: Page) -> None:
    field = page.get_by_label("Write a message")
    field.fill("What is a fjord?")
    field.press("Enter")


def talk(page: Page) -> None:
    """A talk of one question and two replies to it."""
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Token probabilities").check()
    page.keyboard.press("Escape")
    ask(page)
    page.get_by_role("button", name="Good reply").click()
    shot(page, "page-chat")
    page.get_by_role("button", name="Another reply").click()
    page.get_by_text("2/2").wait_for()
    page.get_by_role("button", name="Token probabilities").click()
    page.locator(".token").nth(6).focus()
    page.get_by_role("button", name="Say more").click()
    shot(page, "page-judging")


def compare(page: Page) -> None:
    """Two replies side by side, before the vote."""
    ask(page)
    page.get_by_role("button", name="A is better").wait_for()
    shot(page, "page-pair")


def annotate(page: Page) -> None:
    """A first message that an annotator is to review."""
    page.get_by_label("Your name").fill("ann")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="New conversation").click()
    page.get_by_label("First message").fill("What is a fjord, and how does it come to be?")
    page.get_by_role("dialog").get_by_role("button", name="Send").click()
    page.get_by_text("It is kept").wait_for()
    page.get_by_role("button", name="Somebody else").click()
    page.get_by_label("Your name").fill("bob")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="How good").wait_for()
    page.keyboard.press("4")
    shot(page, "page-annotate")


def shot(page: Page, name: str) -> None:
    """Keep a picture. Raises SystemExit where it is too large to be committed."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)
    file = PLACE / f"{name}.png"
    page.screenshot(path=file)
    if file.stat().st_size > MOST:
        raise SystemExit(f"{file} has {file.stat().st_size:,} bytes, more than {MOST:,}: show less on it")
    print(file)


def main() -> None:
    """Take them."""
    from playwright.sync_api import sync_playwright

    with TemporaryDirectory() as place, sync_playwright() as started:
        learnt(Path(place))
        with running(Path(place)) as (url, behind):
            browser = started.chromium.launch(executable_path=CHROMIUM)
            behind.behaviours += [streams(*said(SAID)), streams(*said(AGAIN))]
            page = opened_in(browser, url, WIDE, "light")
            talk(page)
            page = opened_in(browser, page.url, NARROW, "dark")
            page.get_by_text("2/2").wait_for()
            page.get_by_role("button", name="The one before").click()
            shot(page, "page-narrow")
            behind.behaviours += [streams(*said(AGAIN)), streams(*said(OTHER))]
            compare(opened_in(browser, f"{url}/#/pair", WIDE, "light"))
            annotate(opened_in(browser, f"{url}/#/annotate", WIDE, "dark"))
            page = opened_in(browser, f"{url}/#/runs/adding", WIDE, "light")
            page.get_by_text("Gradient norm").first.wait_for()
            shot(page, "page-run")
            page = opened_in(browser, f"{url}/#/data/adding", WIDE, "light")
            page.wait_for_timeout(1000)
            shot(page, "page-data")
            browser.close()


if __name__ == "__main__":
    main()
