"""Two models side by side, whose names are hidden until one has voted."""

import json
import threading

import pytest

from turnsmith.cli.main import call
from turnsmith.testing.server import chunk, says, streams

expect = pytest.importorskip("playwright.sync_api").expect
SAYS = {"fjord": "An inlet.", "geyser": "A hot spring."}
MODELS = {text: model for model, text in SAYS.items()}
# Chance as the page draws it: two numbers for which models take part, two for their sides; the lesser is
# first.
CHANCE = "let at = 0; crypto.getRandomValues = (into) => { into[0] = %s[at++ %% 4]; return into; };"


def _says(handler, asked):
    """What a model says is its own."""
    streams(SAYS[asked["model"]], chunk(finish="stop"))(handler, asked)


@pytest.fixture
def pair(tab, own, up, say):
    """Opens the view at a server of its own, where each model says what is its own; and asks something."""
    sites = []

    def open_(text="What is it?", **more):
        up.usual = _says
        sites[:] = sites or [own()]
        page = tab("#/pair", at=sites[0], **more)
        if text:
            say(page, text)
            expect(page.get_by_role("group", name="Which reply is better?")).to_be_visible()
        return page, sites[0]

    yield open_
    up.usual = streams("So it is.")


def _sides(page):
    """What A and B say."""
    return [
        page.get_by_role("article", name=f"Reply {letter}").locator(".said").inner_text() for letter in "AB"
    ]


def _kept(site):
    """What was asked first, with the two replies by what they say, and its ranking."""
    (tree,) = site.trees()
    (asked,) = tree["messages"]
    replies = {one["content"]: one for one in asked["replies"]}
    names = {one["id"]: text for text, one in replies.items()}
    orders = [
        ([[names[id] for id in place] for place in one["order"]], one["blind"]) for one in asked["rankings"]
    ]
    return replies, orders


def test_both_replies_are_drawn_at_once_and_their_names_are_hidden_until_the_vote_is_kept(pair, up, say):
    page, site = pair(text=None)
    both = threading.Barrier(2, timeout=20)

    def together(handler, asked):  # neither goes on before both have begun
        both.wait()
        _says(handler, asked)

    up.behaviours += [together, together]
    say(page, "What is it?")
    expect(page.get_by_role("group", name="Which reply is better?")).to_be_focused()
    a, b = _sides(page)
    assert {a, b} == set(SAYS.values())
    shown = page.locator("body").inner_text()
    assert "fjord" not in shown
    assert "geyser" not in shown
    page.keyboard.press("2")
    expect(page.get_by_role("article", name=f"Reply B, {MODELS[b]}")).to_contain_text(
        "You preferred this one"
    )
    expect(page.get_by_text(f"You preferred {MODELS[b]} to {MODELS[a]}.")).to_be_visible()
    expect(page.get_by_role("status").filter(has_text=f"A is {MODELS[a]} B is {MODELS[b]}")).to_have_count(1)
    expect(page.get_by_label("Write a message")).to_be_focused()
    replies, orders = _kept(site)
    assert {text: one["model"] for text, one in replies.items()} == MODELS
    assert orders == [([[b], [a]], True)]


def test_a_vote_becomes_a_pair_and_a_tie_none(pair, tmp_path, say):
    page, site = pair()
    a, b = _sides(page)
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_text("You preferred this one")).to_be_visible()
    page.get_by_role("button", name="Start anew").click()
    say(page, "And what is that?")
    page.get_by_role("button", name="Both are good").click()
    expect(page.get_by_text("equally good")).to_be_visible()
    (asked,) = site.trees()[0]["messages"]
    assert [len(place) for place in asked["rankings"][0]["order"]] == [2]
    assert [one["judgements"][0]["value"] for one in asked["replies"]] == [1, 1]
    pairs = {(one["first"], one["second"]): one for one in site.ask("ratings?blind=true")["pairs"]}
    told = pairs[MODELS[a], MODELS[b]]
    assert (told["wins"], told["ties"], told["losses"]) == (1, 1, 0)
    file = tmp_path / "pairs.jsonl"
    assert call(["feedback", "export", str(file), "--db", site.db, "--consent", "assumed"]) == 0
    (row,) = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert row["prompt"] == [{"role": "user", "content": "What is it?"}]
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"]) == (a, b)


def test_which_model_is_on_which_side_is_left_to_chance(pair, say):
    sides = []
    for numbers in ([0, 1, 0, 1], [0, 1, 1, 0]):
        page, _ = pair(text=None)
        page.context.add_init_script(CHANCE % json.dumps(numbers))
        page.reload()
        say(page, "What is it?")
        expect(page.get_by_role("group", name="Which reply is better?")).to_be_visible()
        sides.append([MODELS[text] for text in _sides(page)])
    assert sides == [["fjord", "geyser"], ["geyser", "fjord"]]


def test_the_conversation_goes_on_from_the_preferred_reply_or_the_other(pair, up, say):
    page, site = pair()
    a, _ = _sides(page)
    page.get_by_role("button", name="B is better").click()
    expect(page.get_by_text("The conversation goes on from reply B.")).to_be_visible()
    on = page.get_by_role("button", name="Go on from here")
    expect(on.nth(1)).to_have_attribute("aria-pressed", "true")
    on.nth(0).click()
    expect(page.get_by_text("The conversation goes on from reply A.")).to_be_visible()
    say(page, "Go on.")
    expect(page.get_by_role("group", name="Which reply is better?")).to_be_visible()
    for asked in up.asked[-2:]:
        assert [one["content"] for one in asked["messages"]] == ["What is it?", a, "Go on."]
    assert {asked["model"] for asked in up.asked[-2:]} == set(SAYS)
    page.get_by_role("button", name="Both are bad").click()
    expect(page.get_by_text("equally bad")).to_be_visible()
    (tree,) = site.trees()
    (first,) = (one for one in tree["messages"][0]["replies"] if one["content"] == a)
    assert len(first["replies"][0]["replies"]) == 2


def test_what_was_not_voted_on_is_still_hidden_after_a_reload_and_what_was_is_still_shown(pair):
    page, site = pair()
    page.reload()
    expect(page.get_by_role("group", name="Which reply is better?")).to_be_visible()
    a, b = _sides(page)
    page.keyboard.press("1")
    expect(page.get_by_role("article", name=f"Reply A, {MODELS[a]}")).to_contain_text(
        "You preferred this one"
    )
    page.reload()
    expect(page.get_by_role("article", name=f"Reply A, {MODELS[a]}")).to_contain_text(
        "You preferred this one"
    )
    expect(page.get_by_role("group", name="Which reply is better?")).to_have_count(0)
    assert _kept(site)[1] == [([[a], [b]], True)]


def test_a_vote_that_is_not_kept_shows_no_name(pair):
    page, _ = pair()
    # The conversation is deleted behind the page's back, so that the vote has nowhere to go.
    assert page.evaluate("fetch('/v1/people/me', {method: 'DELETE'}).then((answer) => answer.status)") == 200
    page.get_by_role("button", name="A is better").click()
    expect(page.get_by_role("alert")).to_contain_text("is there")
    expect(page.get_by_role("article", name="Reply A", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="A is better")).to_be_enabled()


def test_where_one_model_fails_what_was_typed_comes_back(pair, up, say):
    page, _ = pair(text=None)
    up.behaviours += [says({"error": {"message": "it is too hot"}}, status=400)]
    say(page, "What is it?")
    expect(page.get_by_role("alert")).to_contain_text("it is too hot")
    expect(page.get_by_label("Write a message")).to_have_value("What is it?")
    page.get_by_label("Write a message").press("Enter")
    expect(page.get_by_role("group", name="Which reply is better?")).to_be_visible()
