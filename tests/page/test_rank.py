"""Several replies to one message, put into an order by keys, by buttons and by dragging."""

import pytest

from turnsmith.testing.server import streams

expect = pytest.importorskip("playwright.sync_api").expect
TEXTS = ["An inlet.", "A bay.", "A fish."]


def several(*texts):
    """A reply of several choices, which come in turn."""
    begun = [
        {"index": at, "delta": {"content": text}, "finish_reason": None} for at, text in enumerate(texts)
    ]
    ended = [{"index": at, "delta": {}, "finish_reason": "stop"} for at in range(len(texts))]
    return streams(*({"choices": [one]} for one in [*begun, *ended]))


@pytest.fixture
def ranked(tab, site, up, say):
    """Opens the view, and asks one model for three replies."""

    def open_(**more):
        up.behaviours.append(several(*TEXTS))
        page = tab("#/rank", **more)
        page.get_by_label("Model").select_option("fjord")
        say(page, "What is a fjord?")
        expect(page.get_by_role("button", name="Keep this order")).to_be_visible()
        return page

    return open_


def _places(page):
    """Each reply with what its label says of its place, from the top down."""
    labels = page.get_by_role("list", name="Replies, the best first").get_by_role("article")
    return [one.get_attribute("aria-label") for one in labels.all()]


def _order(site):
    """The texts of the newest ranking, and whether it was blind."""
    (asked,) = site.trees()[0]["messages"]
    texts = {one["id"]: one["content"] for one in asked["replies"]}
    (ranking,) = asked["rankings"]
    return [[texts[id] for id in place] for place in ranking["order"]], ranking["blind"]


def test_a_reply_is_taken_up_moved_and_put_down_by_keys_and_each_step_is_said(ranked, site, up):
    page = ranked()
    assert (up.asked[-1]["model"], up.asked[-1]["n"]) == ("fjord", 3)
    said = page.get_by_role("status").filter(has_text="Reply C")
    page.get_by_role("button", name="Move Reply C").focus()
    page.keyboard.press("Space")
    expect(said).to_have_text("Reply C is taken up, place 3 of 3.")
    page.keyboard.press("ArrowUp")
    expect(said).to_have_text("Reply C: place 2 of 3, equal to Reply B.")
    expect(page.get_by_role("button", name="Move Reply C")).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(said).to_have_text("Reply C: place 2 of 3.")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")  # further up there is nothing
    page.keyboard.press("Space")
    expect(said).to_have_text("Reply C is put down, place 1 of 3.")
    assert _places(page) == ["Reply C, place 1 of 3", "Reply A, place 2 of 3", "Reply B, place 3 of 3"]
    page.keyboard.press("ArrowDown")  # nothing is taken up: the focus goes on
    expect(page.get_by_role("button", name="Move Reply A")).to_be_focused()
    page.get_by_role("button", name="Keep this order").click()
    expect(page.get_by_label("Write a message")).to_be_visible()
    assert _order(site) == ([["A fish."], ["An inlet."], ["A bay."]], False)


def test_escape_puts_a_reply_back(ranked):
    page = ranked()
    page.get_by_role("button", name="Move Reply A").focus()
    page.keyboard.press("Enter")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    expect(page.get_by_role("article", name="Reply A, place 2 of 3, equal to Reply C")).to_be_visible()
    page.keyboard.press("Escape")
    assert _places(page) == ["Reply A, place 1 of 3", "Reply B, place 2 of 3", "Reply C, place 3 of 3"]
    expect(page.get_by_role("status").filter(has_text="is back where it was, place 1 of 3.")).to_have_count(1)
    expect(page.get_by_role("button", name="Move Reply A")).to_have_attribute("aria-pressed", "false")


def test_buttons_let_replies_share_a_place_and_the_tie_is_kept(ranked, site):
    page = ranked()
    page.get_by_role("button", name="Reply B up").click()
    equal = ["Reply A, place 1 of 3, equal to Reply B", "Reply B, place 1 of 3, equal to Reply A"]
    assert _places(page) == [*equal, "Reply C, place 3 of 3"]
    page.get_by_role("button", name="Keep this order").click()
    expect(page.get_by_label("Write a message")).to_be_visible()
    assert _order(site) == ([["An inlet.", "A bay."], ["A fish."]], False)


def _drag(page, name, onto, share):
    """Drag a reply by its handle to where another one stands: share of its height, 0 at its top."""
    handle = page.get_by_role("button", name=f"Move {name}").bounding_box()
    there = page.get_by_role("article", name=onto).bounding_box()
    page.mouse.move(handle["x"] + 5, handle["y"] + 5)
    page.mouse.down()
    page.mouse.move(handle["x"] + 5, handle["y"] + 20)
    page.mouse.move(handle["x"] + 5, there["y"] + share * there["height"], steps=3)
    page.mouse.up()


def test_a_reply_is_dragged_before_behind_and_into_the_place_of_another(ranked):
    page = ranked()
    _drag(page, "Reply C", "Reply A", 0.1)
    assert _places(page) == ["Reply C, place 1 of 3", "Reply A, place 2 of 3", "Reply B, place 3 of 3"]
    _drag(page, "Reply C", "Reply B", 0.95)
    assert _places(page) == ["Reply A, place 1 of 3", "Reply B, place 2 of 3", "Reply C, place 3 of 3"]
    _drag(page, "Reply A", "Reply B", 0.5)
    equal = ["Reply B, place 1 of 3, equal to Reply A", "Reply A, place 1 of 3, equal to Reply B"]
    assert _places(page) == [*equal, "Reply C, place 3 of 3"]
    expect(page.get_by_role("button", name="Move Reply A")).to_have_attribute("aria-pressed", "false")


def test_replies_of_several_models_are_ranked_blind_and_named_afterwards(tab, site, up, say):
    up.behaviours += [
        lambda handler, asked: several(*[f"{asked['n']} of them."] * asked["n"])(handler, asked)
    ] * 2
    page = tab("#/rank")
    expect(page.get_by_label("Model")).to_have_value("\n")
    page.get_by_label("Replies", exact=True).select_option("3")
    say(page, "What is a fjord?")
    keep = page.get_by_role("button", name="Keep this order")
    expect(keep).to_be_visible()
    listed = page.get_by_role("list", name="Replies, the best first")
    assert sorted(asked["n"] for asked in up.asked[-2:]) == [1, 2]
    assert "geyser" not in listed.inner_text()
    keep.click()
    expect(listed).to_contain_text("geyser")
    expect(listed).to_contain_text("fjord")
    (asked,) = site.trees()[0]["messages"]
    assert [one["blind"] for one in asked["rankings"]] == [True]
    assert len(asked["rankings"][0]["order"]) == 3
