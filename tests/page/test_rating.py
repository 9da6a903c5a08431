"""What axe finds in the views of raters and annotators, in both themes and on a narrow screen."""

import pytest

from turnsmith.serve.growing import Rules
from turnsmith.testing.server import chunk, streams

expect = pytest.importorskip("playwright.sync_api").expect
SIZES = {"wide": {"width": 1200, "height": 800}, "narrow": {"width": 360, "height": 740}}
TEXT = "A **fjord**, [see](https://example.org).\n\n```python\ndepth = 1303\n```\n\nAverylong" + "long" * 30


@pytest.fixture
def look(tab, up, own):
    """Opens a view; gives the page and what axe finds there, once nothing moves any more."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    up.usual = streams(TEXT, chunk(finish="stop"))
    here = own(rules=Rules(goal=1, depth=1, children=2, reviews=1, rankings=1))

    def open_(path, **more):
        page = tab(path, at=here, reduced_motion="reduce", **more)

        def faults():
            page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished.catch(() => 0)))")
            for place in ("document.documentElement", "document.getElementById('content')"):
                assert page.evaluate(f"{place}.scrollWidth") <= page.viewport_size["width"]
            found = axe.run(page).response["violations"]
            return [
                f"{one['id']}: {node['html'][:200]} {node['any'][:1]}"
                for one in found
                for node in one["nodes"]
                if one["impact"] in ("serious", "critical")
            ]

        return page, faults

    yield open_
    up.usual = streams("So it is.")


@pytest.mark.parametrize(
    ("theme", "size"), [("light", "narrow"), pytest.param("dark", "wide", marks=pytest.mark.slow)]
)
def test_no_view_of_raters_has_serious_faults_or_scrolls_sideways(look, up, say, theme, size):
    page, faults = look("#/pair", color_scheme=theme, viewport=SIZES[size])
    found = {}
    expect(page.get_by_label("Write a message")).to_be_visible()
    found["pair"] = faults()
    say(page, "What is a fjord?")
    expect(page.get_by_role("group", name="Which reply is better?")).to_be_visible()
    found["votes"] = faults()
    page.keyboard.press("1")
    expect(page.get_by_text("You preferred this one")).to_be_visible()
    found["voted"] = faults()
    page.goto(page.url.split("#")[0] + "#/rank")
    say(page, "What is a fjord?")
    page.get_by_label("Replies", exact=True).wait_for()
    page.get_by_role("button", name="Move Reply B").press("Space")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_text("equal", exact=True).first).to_be_visible()
    found["rank"] = faults()
    page.goto(page.url.split("#")[0] + "#/annotate")
    page.get_by_label("Your name").fill("bob")
    found["name"] = faults()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="There is nothing")).to_be_visible()
    found["nothing"] = faults()
    page.keyboard.press("n")
    page.get_by_label("First message").fill(TEXT)
    found["plant"] = faults()
    page.get_by_role("button", name="Send").click()
    page.get_by_role("button", name="Somebody else").click()
    page.get_by_label("Your name").fill("cat")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="How good is the last message?")).to_be_visible()
    page.keyboard.press("4")
    found["review"] = faults()
    assert {name: one for name, one in found.items() if one} == {}


def test_where_a_server_keeps_nothing_there_is_nothing_to_rate(tab, own):
    page = tab("#/pair", at=own(None))
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    expect(page.get_by_role("link", name="Side by side")).to_have_count(0)


def test_with_one_model_the_page_says_that_two_are_needed(tab, own, up):
    page = tab("#/pair", at=own(names={"fjord": f"{up.url}#fjord"}))
    expect(page.get_by_role("heading", name="It takes two models")).to_be_visible()


def test_of_more_than_two_models_one_chooses_which_take_part(tab, own, up, say):
    names = {name: f"{up.url}#{name}" for name in ("fjord", "geyser", "glacier")}
    page = tab("#/pair", at=own(names=names))
    page.get_by_role("button", name="Models 3").click()
    dialog = page.get_by_role("dialog", name="Models")
    dialog.get_by_label("geyser").uncheck()
    expect(dialog.get_by_label("fjord")).to_be_disabled()
    page.keyboard.press("Escape")
    say(page, "What is it?")
    expect(page.get_by_role("article", name="Reply B")).to_contain_text("So it is.")
    assert {asked["model"] for asked in up.asked[-2:]} == {"fjord", "glacier"}
    page.reload()
    expect(page.get_by_role("button", name="Models 2")).to_be_visible()
