"""The page without a pointer."""

import pytest

from turnsmith.testing.server import streams

expect = pytest.importorskip("playwright.sync_api").expect


def _tab_to(page, name):
    """Go on by Tab until what has this name is reached."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("(document.activeElement.ariaLabel || document.activeElement.innerText)") == name:
            return
    raise AssertionError(f"Tab does not lead to {name}")


def _vote(site):
    (reply,) = site.trees()[0]["messages"][0]["replies"]
    return [one["value"] for one in reply["judgements"]]


def test_one_can_talk_and_vote_by_tab_and_enter_alone(tab, site):
    page = tab()
    expect(page.get_by_label("Write a message")).to_be_focused()
    page.keyboard.type("Hi.")
    page.keyboard.press("Enter")
    expect(page.get_by_role("article", name="fjord")).to_contain_text("So it is.")
    page.reload()
    expect(page.get_by_role("article", name="fjord")).to_contain_text("So it is.")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    _tab_to(page, "Bad reply")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Bad reply")).to_have_attribute("aria-pressed", "true")
    page.wait_for_load_state("networkidle")
    assert _vote(site) == [-1]


def test_single_keys_do_what_their_list_says(tab, site, up):
    up.behaviours += [streams("One."), streams("Two.")]
    page = tab()
    expect(page.get_by_label("Write a message")).to_be_focused()
    page.keyboard.type("Count.")
    page.keyboard.press("Enter")
    reply = page.get_by_role("article", name="fjord")
    expect(reply).to_contain_text("One.")
    page.keyboard.press("Escape")
    page.keyboard.press("r")
    expect(reply).to_contain_text("Two.")
    expect(page.get_by_role("button", name="Good reply")).to_be_visible()
    page.keyboard.press("+")
    expect(page.get_by_role("button", name="Good reply")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("[")
    expect(reply).to_contain_text("One.")
    page.keyboard.press("?")
    listed = page.get_by_role("dialog", name="Keys")
    expect(listed).to_contain_text("The last reply is good")
    listed.get_by_label("Single keys are on").press("Space")
    page.keyboard.press("Escape")
    expect(listed).to_have_count(0)
    page.keyboard.press("]")
    page.keyboard.press("?")
    expect(listed).to_have_count(0)
    expect(reply).to_contain_text("One.")


def test_keys_mean_letters_where_one_writes(tab):
    page = tab()
    page.get_by_label("Write a message").press_sequentially("n?/s")
    expect(page.get_by_label("Write a message")).to_have_value("n?/s")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_dialog_gives_the_focus_back(tab):
    page = tab()
    button = page.get_by_role("button", name="Settings")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="How replies are made")).to_be_visible()
    page.keyboard.press("Escape")
    expect(button).to_be_focused()


def test_g_and_a_letter_lead_to_a_view(tab):
    page = tab()
    expect(page.get_by_label("Write a message")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("y")
    expect(page.get_by_role("heading", name="You and your words")).to_be_visible()
    page.keyboard.press("g")
    page.keyboard.press("c")
    expect(page.get_by_label("Write a message")).to_be_focused()
