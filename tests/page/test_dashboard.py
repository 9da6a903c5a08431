"""What researchers watch on the page: runs, comparisons, ratings, traffic and data, in a real browser."""

import json
import re
import time

import pytest

from turnsmith.recipes import keeping
from turnsmith.recipes.browsing import Browsing
from turnsmith.report import left, page
from turnsmith.serve.runs import Runs
from turnsmith.serve.store import judging, keys, talks
from turnsmith.serve.store.judging import Judged
from turnsmith.serve.store.tables import Message
from turnsmith.serve.store.talks import Ended, Made, Who
from turnsmith.serve.store.writing import Store
from turnsmith.shelf import write_text
from turnsmith.types import Conversation
from turnsmith.types import Message as Said

expect = pytest.importorskip("playwright.sync_api").expect

HOSTILE = "<img src=x onerror=alert(1)> & sons"
KEY = "0123456789abcdef0123"
DARK = {"color_scheme": "dark", "viewport": {"width": 360, "height": 740}}


def metric(name, before, after, low, high, verdict):
    difference = after - before
    ends = {"difference": difference, "low": low, "high": high, "level": 0.95, "verdict": verdict}
    about = {"name": name, "unit": "nats", "better": "lower", "n": 40}
    return {**about, "before": before, "after": after, **ends}


TOKENS = [("<user>\n", 0.0), ("Hi", 0.0), (" you", 1.0), (" there", 1.0), (" so", 0.5), (" no", -0.5)]
SHOWN = [
    {"id": f"chat-{at}", "tokens": [{"text": text, "weight": weight} for text, weight in TOKENS]}
    for at in (1, 2, 3)
]
TRAIN = {
    "verb": "train", "name": "tuned", "artefact": KEY, "path": "", "steps": 30, "tokens": 900,
    "seconds": 12.0,
    "shown": SHOWN, "fit": {}, "parameters": {"learning": 1, "all": 2},
}  # fmt: skip
TASKS = [
    {"task": "heldout", "title": "Loss on held-out chats", "on": "held", "metrics": [
        metric("loss", 3.5, 3.2, -0.35, -0.25, "better"), metric("drift", 0.0, 0.1, 0.08, 0.12, "worse")]},
]  # fmt: skip
RUN = {
    "recipe": "quickstart", "title": f"Learning to chat {HOSTILE}", "seed": 17, "state": "done",
    "tiny": False,
    "base": {"reference": "smollm2"}, "cost": {"seconds": 75.0}, "next": ["turnsmith chat tuned"],
    "warnings": ["two cores only"], "claim": [{"text": "loss is lower", "difference": -0.3, "low": -0.35,
                                               "high": -0.25, "verdict": "holds"}],
    "steps": [
        TRAIN, {"verb": "evaluate", "model": "tuned", "against": "base", "seconds": 3.0, "tasks": TASKS},
    ],
}  # fmt: skip


def figures(difference):
    ends = {"low": difference - 0.1, "high": difference + 0.1}
    verdict = "better" if difference < 0 else "worse"
    return {"after": 3 + difference, "difference": difference, **ends, "verdict": verdict, "n": 40}


SPENT = {"seconds": 60.0, "tokens": 1000, "flops": 1e12}
COMPARISON = {
    "title": "lora, dpo on chats", "advice": ["Take dpo."], "model": "tiny", "seeds": 1, "failed": {},
    "data": {"read": "chats", "by": "id"}, "budget": {"text": "1 min"},
    "finished": "2026-11-30T10:00:00+00:00",
    "methods": [{"name": name, "dropped": None, "said": [], "spent": SPENT} for name in ("lora", "dpo")],
    "against_best": {"best": "dpo", "others": {}},
    "tasks": [
        {"name": name, "unit": "nats", "better": "lower", "methods": {"lora": figures(a), "dpo": figures(b)}}
        for name, a, b in (("loss", -0.4, -0.6), ("KL from the start model", 0.2, 0.5))
    ],
}  # fmt: skip


def rows(first, last):
    return "".join(
        json.dumps({"step": step, "total": 30, "loss": 4 - step / 20, "lr": 1e-4, "supervised": 4}) + "\n"
        for step in range(first, last + 1)
    )


class Watched:
    """Directories of runs, the shelf, and a site that shows them."""

    def __init__(self, Site, up, where):
        self.root, self.shelf, self.db = where / "runs", where / "shelf", str(where / "talks.db")
        self.runs = Runs(self.root, self.shelf, Browsing(self.shelf))
        (self.shelf / KEY).mkdir(parents=True)
        (self.shelf / KEY / "metrics.jsonl").write_text(rows(1, 30))
        write_text(self.root / "quickstart" / "run.json", json.dumps(RUN))
        page.write(RUN, self.root / "quickstart")
        write_text(self.root / "both" / "comparison.json", json.dumps(COMPARISON))
        store = Store(self.db)
        store.write(fill).result()
        store.close()
        self.site = Site(up, self.db, runs=self.runs)


def fill(session):
    """Sixty questions, half an hour apart, with a reply of each of two models. The first eight are ranked,
    six of them for `new`, two of these by two people; the replies to the last 16 are cut."""
    now = time.time()
    for at in range(60):
        asked, ids = Conversation((Said("user", f"Question {at}?"),)), {}
        for model in ("old", "new"):
            ids[model] = f"{at} {model}"
            finish = "length" if at >= 44 else "stop"
            talks.begun(session, Who("", "ann"), asked, Made(model), ids=[ids[model]], writer=None)
            talks.ended(session, ids[model], Ended(Said("assistant", "So it is."), finish, 1.0))
            session.get_one(Message, ids[model]).since = now - (60 - at) * 3600 / 2
        if at >= 8:
            continue
        order = ["new", "old"] if at < 6 else ["old", "new"]
        for who in ("ann", "bob") if at < 2 else ("ann",):
            person, parent = talks.person(session, Who("", who)), session.get_one(Message, ids["old"]).parent
            judging.rank(session, person, parent, [[ids[one]] for one in order], blind=True, all_trees=True)
            judging.judge(session, person, ids["old"], [Judged("vote", value=1)], all_trees=True)


@pytest.fixture(scope="module")
def watched(site, up, tmp_path_factory):
    made = Watched(type(site), up, tmp_path_factory.mktemp("watched"))
    yield made
    made.site.stop()


@pytest.fixture
def look(tab, watched):
    """Opens a view of what is watched."""
    return lambda path, **more: tab(path, at=watched.site, **more)


VIEWS = [
    "#/runs",
    "#/runs/quickstart",
    "#/compared",
    "#/compared/both",
    "#/ratings",
    "#/traffic",
    "#/data/quickstart",
]


def settled(shown):
    """Wait until a view has come."""
    shown.locator("main h1").first.wait_for()
    shown.locator("main .loading").wait_for(state="detached")
    return shown


@pytest.mark.parametrize("more", [{}, DARK], ids=["light, wide", "dark, narrow"])
def test_every_view_is_open_to_all_and_fits(look, more):
    from axe_playwright_python.sync_playwright import Axe

    shown, axe = settled(look(VIEWS[0], **more)), Axe()
    for view in VIEWS:
        shown.evaluate("view => { location.hash = view }", view)
        settled(shown)
        shown.wait_for_timeout(150)
        found = axe.run(shown, context={"exclude": ["iframe"]}).response["violations"]
        assert [(one["id"], one["nodes"][0]["html"]) for one in found] == [], view
        over = "document.querySelector('main').scrollWidth - document.querySelector('main').clientWidth"
        assert shown.evaluate(over) <= 0, view


def test_where_nothing_is_the_page_says_what_to_do(tab, own, tmp_path):
    runs = Runs(tmp_path / "runs", tmp_path / "shelf", Browsing(tmp_path / "shelf"))
    shown = settled(tab("#/runs", at=own(runs=runs)))
    told = {
        "#/runs": "turnsmith run quickstart",
        "#/compared": "turnsmith compare lora dpo",
        "#/ratings": "Nobody has compared models yet",
        "#/traffic": "Nothing has been served yet",
        "#/data": "turnsmith run quickstart",
    }
    for view, text in told.items():
        shown.evaluate("view => { location.hash = view }", view)
        shown.get_by_text(text).wait_for()


def test_a_run_shows_what_it_found_and_its_report_which_can_do_nothing(look):
    shown = look("#/runs")
    shown.get_by_role("link", name="Learning to chat").click()
    shown.get_by_role("heading", level=1, name=HOSTILE).wait_for()
    assert shown.locator("main img").count() == 0
    row = shown.get_by_role("row", name=re.compile("^loss"))
    assert re.search(r"3\.500.*3\.200.*0\.300.*better", row.inner_text().replace("\n", " "))
    assert "worse" in shown.get_by_role("row", name=re.compile("^drift")).inner_text()
    frame = shown.locator("iframe")
    assert frame.get_attribute("sandbox") == "allow-popups"
    frame.scroll_into_view_if_needed()
    assert "Learning to chat" in shown.frame_locator("iframe").locator("h1").inner_text()
    curve = shown.get_by_role("img", name=re.compile("^Loss")).locator("visible=true")
    assert curve.locator("polyline").count() == 2  # each step, and their mean


def test_the_curves_of_a_run_at_work_grow_and_its_end_is_said(look, watched):
    from playwright.sync_api import expect

    key, where = "f" * 20, watched.root / "live"
    metrics = watched.shelf / f"{key}.partial" / "metrics.jsonl"
    metrics.parent.mkdir()
    metrics.write_text(rows(1, 3))
    hold = keeping.hold(where)
    at = {"verb": "train", "name": "tuned", "artefact": key}
    write_text(where / left.NOW, json.dumps({"title": "Under way", "steps": [], "at_work": at}))
    shown = look("#/runs")
    shown.get_by_role("link", name="Under way").click()
    shown.get_by_text("Step 3 of 30").wait_for()
    curve = shown.locator("figure.chart", has_text="Learning rate").locator("polyline")
    before = curve.get_attribute("points")
    with metrics.open("a") as opened:
        opened.write(rows(4, 7))
    shown.get_by_text("Step 7 of 30").wait_for()
    expect(curve).not_to_have_attribute("points", before)
    assert shown.get_by_role("progressbar").get_attribute("value") == "7"
    write_text(where / left.RUN, json.dumps({**RUN, "title": "Under way"}))
    hold.release()
    shown.get_by_role("status").get_by_text("The run is done now.").wait_for()
    shown.get_by_role("row", name=re.compile("^loss")).wait_for()


def test_a_comparison_has_its_intervals_and_its_plot(look):
    shown = look("#/compared")
    shown.get_by_role("link", name="lora, dpo on chats").click()
    row = shown.get_by_role("row", name=re.compile("^dpo"))
    assert "gains most" in row.inner_text()
    assert "\u22120.60 (\u22120.70 to \u22120.50)" in row.inner_text()
    plot = shown.get_by_role("img", name=re.compile("^loss, nats"))
    assert plot.locator("circle.front").count() == 2
    assert plot.locator("path.bar").first.is_visible()


def test_ratings_are_those_worked_out_by_hand(look):
    shown = look("#/ratings")
    cell = (
        shown.get_by_role("region", name="Win rates")
        .get_by_role("row", name=re.compile("^new"))
        .locator("td")
        .last
    )
    # 6 of 8 messages: 0.75 - .361203 = .388797 (tests/serve/test_ratings.py), and 1 at most
    assert cell.inner_text().split("\n") == ["75 %", "39 % to 100 %"]
    assert cell.get_attribute("title") == "8 won, 0 tied, 2 lost"
    agreed = shown.get_by_role("row", name=re.compile("^Which of two"))
    assert "100 %" in agreed.inner_text()  # both agree on the two that both ranked
    shown.get_by_role("switch", name="Blind only").click()
    shown.get_by_text("10 comparisons at 8 messages by 2 people").wait_for()


def test_traffic_tells_what_has_changed_in_words_and_bars(look):
    shown = look("#/traffic")
    shown.get_by_role("button", name="An hour").click()
    shown.get_by_role("button", name="A day").click()
    # The last 24 hours have 48 questions, of which the replies to 16 were cut.
    shown.get_by_text("More replies end at the limit: 33.3% cut replies, 0.0% before.").wait_for()
    bars = shown.locator("figure", has_text="Turns").locator(".column")
    assert bars.count() == 2  # 29.5 hours
    newest, before = bars.last.locator(".fill"), bars.first.locator(".fill")
    assert newest.bounding_box()["height"] > 3 * before.bounding_box()["height"]  # 96 turns and 24
    shown.get_by_text("As a table").click()
    assert shown.get_by_role("region", name="As a table").get_by_role("row").count() == 3


def test_tokens_are_marked_by_colour_line_and_word_and_keys_turn_pages(look):
    shown = look("#/data/quickstart")
    shown.get_by_role("heading", name="chat-1").wait_for()
    stretches = shown.locator(".tokens .stretch")
    looks = "one => [getComputedStyle(one).borderBottomStyle, getComputedStyle(one).backgroundColor]"
    found = [stretches.nth(at).evaluate(looks) for at in range(4)]
    assert [line for line, _ in found] == ["none", "solid", "dotted", "double"]
    assert len({colour for _, colour in found}) == 4
    assert "weight 1 you there" in " ".join(stretches.nth(1).text_content().split())
    assert "weight" not in stretches.nth(0).text_content()
    shown.keyboard.press("ArrowRight")
    shown.get_by_role("heading", name="chat-2").wait_for()
    shown.keyboard.press("End")
    shown.get_by_role("heading", name="chat-3").wait_for()
    shown.keyboard.press("ArrowRight")  # the last one: nothing comes behind it
    shown.keyboard.press("ArrowLeft")
    shown.get_by_role("heading", name="chat-2").wait_for()
    shown.get_by_role("button", name="As a list").click()
    shown.get_by_role("heading", name="chat-3").wait_for()
    assert shown.locator("article").count() == 2


def test_who_may_only_talk_does_not_see_what_is_watched(tab, own, tmp_path):
    store = Store(str(tmp_path / "talks.db"))
    given = {
        role: store.write(lambda s, r=role: keys.made(s, r, r)).result() for role in ("user", "annotator")
    }
    store.close()
    at = own(runs=Runs(tmp_path / "runs", tmp_path / "shelf", Browsing(tmp_path / "shelf")))
    for role, seen in (("user", 0), ("annotator", 1)):
        shown = tab("#/chat", at=at)
        shown.get_by_label("Key", exact=True).fill(given[role])
        shown.get_by_role("button", name="Go on").click()
        shown.get_by_role("link", name="Your words").wait_for()
        expect(shown.get_by_role("link", name="Runs")).to_have_count(seen)
        expect(shown.get_by_role("link", name="Traffic")).to_have_count(0)
