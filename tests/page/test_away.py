"""A server that goes away and comes back, one that keeps nothing, and one that asks for keys."""

import pytest

from turnsmith.serve.store.keys import made
from turnsmith.serve.store.writing import Store

expect = pytest.importorskip("playwright.sync_api").expect


def test_a_server_that_goes_in_the_middle_is_waited_for_and_asked_again(tab, up, own, say, held):
    _, behave = held("One two three four.", after=2)
    up.behaviours.append(behave)
    here = own()
    page = tab(at=here)
    say(page, "Count.")
    reply = page.get_by_role("article", name="fjord")
    expect(reply).to_contain_text("One two")
    page.get_by_label("Write a message").fill("And then?")
    here.stop()
    expect(page.get_by_text("The server does not answer")).to_be_visible()
    expect(reply).to_contain_text("One two")
    page.get_by_label("Write a message").press("Enter")
    expect(page.get_by_label("Write a message")).to_have_value("And then?")
    here.start()
    expect(page.get_by_text("The server is back.")).to_be_visible(timeout=30_000)
    expect(reply).to_contain_text("The server broke off here.")
    reply.get_by_role("button", name="Try again").click()
    expect(reply).to_contain_text("So it is.")
    expect(page.get_by_label("Write a message")).to_have_value("And then?")
    page.get_by_label("Write a message").press("Enter")
    expect(reply.nth(1)).to_contain_text("So it is.")
    (tree,) = here.trees()
    (asked,) = tree["messages"]
    assert [one["content"] for one in asked["replies"]] == ["One two ", "So it is."]


def test_without_a_store_one_can_talk_and_is_told_that_nothing_is_kept(tab, own, say):
    page = tab(at=own(None))
    say(page, "Hi.")
    expect(page.get_by_text("So it is.")).to_be_visible()
    expect(page.get_by_text("This server keeps nothing")).to_be_visible()
    expect(page.get_by_role("button", name="Another reply")).to_be_visible()
    expect(page.get_by_role("button", name="Good reply")).to_have_count(0)
    page.get_by_role("link", name="Your words").click()
    expect(page.get_by_text("nothing to delete")).to_be_visible()
    page.reload()
    page.get_by_role("link", name="Chat").click()
    expect(page.get_by_text("What would you like to talk about?")).to_be_visible()


def test_a_key_is_asked_for_and_kept_until_the_tab_is_closed(tab, own, say):
    here = own(alone=True)
    store = Store(here.db)
    key = store.write(lambda session: made(session, "ann", "user")).result()
    store.close()
    here.stop()
    here.start()  # keys are looked up anew at once
    page = tab(at=here)
    page.get_by_role("textbox", name="Key").fill("wrong")
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("This key is not known here.")).to_be_visible()
    page.get_by_role("textbox", name="Key").fill(key)
    page.keyboard.press("Enter")
    say(page, "Hi.")
    expect(page.get_by_text("So it is.")).to_be_visible()
    page.reload()
    expect(page.get_by_text("So it is.")).to_be_visible()
    page.get_by_role("button", name="Leave with this key").click()
    expect(page.get_by_role("dialog")).to_contain_text("This server asks for a key")
