"""Annotators grow a tree on the page, two of them at once."""

import json
import urllib.request

import pytest

from turnsmith.serve.growing import Rules

expect = pytest.importorskip("playwright.sync_api").expect
# A question and its two answers; one review each, one ranking.
SMALL = Rules(goal=3, depth=1, children=2, reviews=1, rankings=1)


@pytest.fixture
def here(own):
    return own(rules=SMALL)


@pytest.fixture
def annotator(tab, here):
    """Opens the view as somebody."""

    def open_(name, **more):
        page = tab("#/annotate", at=here, **more)
        page.get_by_label("Your name").fill(name)
        page.keyboard.press("Enter")
        return page

    return open_


def _post(site, path, method="POST", **body):
    asked = urllib.request.Request(f"{site.url}/v1/{path}", json.dumps(body).encode(), method=method)
    asked.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(asked, timeout=20) as answer:
        return json.load(answer)


def _plant(site, who="ann"):
    return _post(site, "trees", text="What is a fjord?", language="en", user=who)["tree"]


def _heading(page, name):
    heading = page.get_by_role("heading", name=name)
    expect(heading).to_be_visible()
    return heading


def _state(site):
    return site.trees()[0]["state"]


REVIEW, ANSWER, RANK = (
    "How good is the last message?",
    "Answer as the assistant",
    "Put these replies into an order",
)
NOTHING = "There is nothing for you to do just now"


def test_a_tree_is_grown_from_its_first_message_to_its_order_by_three_annotators(annotator, here):
    ann = annotator("ann")
    _heading(ann, NOTHING)
    ann.keyboard.press("n")
    dialog = ann.get_by_role("dialog", name="New conversation")
    dialog.get_by_label("First message").fill("What is a fjord?")
    dialog.get_by_label("Language").fill("en")
    dialog.get_by_role("button", name="Send").click()
    expect(ann.get_by_role("status").filter(has_text="Others will review it.")).to_have_count(1)
    _heading(ann, NOTHING)  # it is her own
    bob, cat = annotator("bob"), annotator("cat")
    expect(_heading(bob, REVIEW)).to_be_focused()
    expect(bob.get_by_role("article", name="User")).to_contain_text("What is a fjord?")
    bob.keyboard.press("4")
    expect(bob.get_by_role("radio", name="Good", exact=True)).to_be_checked()
    bob.keyboard.press("Enter")
    _heading(bob, ANSWER)
    assert (_state(here), here.trees()[0]["messages"][0]["judgements"][0]["value"]) == ("growing", 0.75)
    bob.get_by_label("Your reply").fill("An inlet.")
    bob.get_by_role("button", name="Keep the reply").click()
    _heading(bob, NOTHING)
    expect(bob.get_by_text("2 done")).to_be_visible()
    ann.get_by_role("button", name="Look again").click()
    while not _is_asked_to(ann, ANSWER):  # chance may want her to review first
        ann.get_by_role("button", name="Another task").click()
    ann.get_by_label("Your reply").fill("A fish.")
    ann.get_by_role("button", name="Keep the reply").click()
    for page in (ann, cat):  # each reviews a reply of another; who wrote one is not asked to rank it
        page.reload()
        _heading(page, REVIEW)
        page.get_by_label("Very good").check(force=True)
        page.get_by_role("button", name="Keep the review").click()
    _heading(ann, NOTHING)
    _heading(cat, RANK)
    assert _state(here) == "ranking"
    cat.get_by_role("button", name="Reply B up").press("Enter")
    cat.get_by_role("button", name="Reply B up").press("Enter")
    best = cat.get_by_role("article", name="place 1 of 2").locator(".place-said").inner_text()
    cat.get_by_role("button", name="Keep this order").click()
    _heading(cat, NOTHING)
    (tree,) = here.trees()
    assert tree["state"] == "ready_for_export"
    ranks = {one["content"]: one["rank"] for one in tree["messages"][0]["replies"]}
    assert ranks == {"An inlet.": int(best != "An inlet."), "A fish.": int(best != "A fish.")}


def _is_asked_to(page, what):
    page.locator(".task[aria-busy=false]").wait_for()
    return page.get_by_role("heading", name=what).is_visible()


def test_of_two_who_are_given_the_same_task_the_late_one_is_told_and_goes_on(annotator, here):
    _plant(here)
    bob, cat = annotator("bob"), annotator("cat")
    for page in (bob, cat):
        _heading(page, REVIEW)
    bob.keyboard.press("5")
    bob.keyboard.press("Enter")
    _heading(bob, ANSWER)
    cat.keyboard.press("1")
    cat.keyboard.press("Enter")
    expect(cat.get_by_role("alert")).to_contain_text("This was not kept.")
    expect(cat.get_by_role("alert")).to_contain_text("no longer, to be done")
    expect(cat.get_by_role("button", name="Next task")).to_be_focused()
    expect(cat.get_by_role("button", name="Keep the review")).to_be_disabled()
    cat.keyboard.press("Enter")
    _heading(cat, ANSWER)
    expect(cat.get_by_role("alert")).to_have_count(0)
    reviews = here.trees()[0]["messages"][0]["judgements"]
    assert [one["value"] for one in reviews] == [1]


def test_a_reply_that_comes_too_late_stays_in_sight(annotator, here):
    _plant(here)
    (message,) = (one["id"] for one in here.trees()[0]["messages"])
    _post(here, f"messages/{message}/review", user="bob", score=1)
    eve = annotator("eve")
    _heading(eve, ANSWER)
    eve.get_by_label("Your reply").fill("An inlet of the sea.")
    for who, text in (("bob", "An inlet."), ("cat", "A fish.")):  # two are as many as there may be
        _post(here, f"messages/{message}/replies", user=who, text=text)
    eve.get_by_label("Your reply").press("Control+Enter")
    expect(eve.get_by_role("alert")).to_contain_text("no longer, to be done")
    expect(eve.get_by_label("Your reply")).to_have_value("An inlet of the sea.")
    eve.get_by_role("button", name="Next task").click()
    _heading(eve, REVIEW)


def test_a_name_is_asked_once_and_consent_is_this_annotators(annotator, here):
    page = annotator("bob")
    _heading(page, NOTHING)
    page.get_by_role("switch", name="Models may be trained on what I said").click()
    expect(page.get_by_text("You have allowed it.")).to_be_visible()
    page.reload()
    expect(page.get_by_text("As bob")).to_be_visible()
    assert here.ask("people/me?user=bob")["consent"] is True
    assert here.ask("people/me?user=cat")["consent"] is None
    page.get_by_role("button", name="Somebody else").click()
    expect(page.get_by_label("Your name")).to_be_focused()
