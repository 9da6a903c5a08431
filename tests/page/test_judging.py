"""What people think of replies, and what they allow."""

import pytest

expect = pytest.importorskip("playwright.sync_api").expect


def _judgements(site):
    (reply,) = site.trees()[0]["messages"][0]["replies"]
    kept = reply["judgements"]
    return {(one["kind"], one.get("name", "")): one.get("value", one.get("text")) for one in kept}


def test_a_vote_can_be_changed_and_taken_back(tab, site, say):
    page = tab()
    say(page, "Hi.")
    good, bad = (page.get_by_role("button", name=name) for name in ("Good reply", "Bad reply"))
    good.click()
    expect(good).to_have_attribute("aria-pressed", "true")
    bad.click()
    expect(good).to_have_attribute("aria-pressed", "false")
    page.wait_for_load_state("networkidle")
    assert _judgements(site) == {("vote", ""): -1}
    bad.click()
    expect(bad).to_have_attribute("aria-pressed", "false")
    page.wait_for_load_state("networkidle")
    assert _judgements(site) == {}


def test_scales_a_better_reply_and_a_comment_are_kept_and_shown_again(tab, site, say):
    page = tab()
    say(page, "Hi.")
    page.get_by_role("button", name="Say more about this reply").click()
    panel = page.get_by_role("region", name="What you think of this reply")
    helpful = panel.get_by_role("group", name="helpful")
    helpful.get_by_label("4").check(force=True)
    panel.get_by_label("A better reply").fill("It is so indeed.")
    panel.get_by_role("button", name="Keep the better reply").click()
    expect(panel.get_by_text("Kept.")).to_be_visible()
    panel.get_by_label("Comment").fill("Too short.")
    panel.get_by_role("button", name="Add").click()
    expect(panel.get_by_text("Too short.")).to_be_visible()
    expect(panel.get_by_label("Comment")).to_have_value("")
    wanted = {("scale", "helpful"): 4, ("correction", ""): "It is so indeed.", ("comment", ""): "Too short."}
    assert _judgements(site) == wanted
    page.reload()
    page.get_by_role("button", name="Say more about this reply").click()
    expect(helpful.get_by_label("4")).to_be_checked()
    expect(panel.get_by_label("A better reply")).to_have_value("It is so indeed.")
    expect(panel.get_by_text("Too short.")).to_be_visible()


def test_a_vote_that_is_not_kept_is_not_shown_as_kept(tab, site, say):
    page = tab()
    say(page, "Hi.")
    expect(page.get_by_role("button", name="Good reply")).to_be_visible()
    # The reply is deleted behind the page's back, so that its vote has nowhere to go.
    assert page.evaluate("fetch('/v1/people/me', {method: 'DELETE'}).then((answer) => answer.status)") == 200
    page.get_by_role("button", name="Good reply").click()
    expect(page.get_by_role("alert")).to_contain_text("is there")
    expect(page.get_by_role("button", name="Good reply")).to_have_attribute("aria-pressed", "false")


def test_consent_is_given_and_taken_back_and_words_are_deleted_with_a_receipt(tab, own, say):
    site = own()
    page = tab(at=site)
    say(page, "Remember me.")
    expect(page.get_by_text("So it is.")).to_be_visible()
    page.get_by_role("link", name="Your words").click()
    allow = page.get_by_role("switch", name="Models may be trained on what I said")
    expect(page.get_by_text("You have not been asked yet.")).to_be_visible()
    allow.click()
    expect(page.get_by_text("You have allowed it.")).to_be_visible()
    assert site.ask("people/me")["consent"] is True
    allow.click()
    expect(page.get_by_text("You have not allowed it.")).to_be_visible()
    assert site.ask("people/me")["consent"] is False
    page.get_by_role("button", name="Delete what I said").click()
    page.get_by_role("button", name="Keep it").click()
    assert site.trees()
    page.get_by_role("button", name="Delete what I said").click()
    page.get_by_role("button", name="Delete everything").click()
    receipt = page.get_by_role("status").filter(has_text="It is deleted")
    expect(receipt.get_by_role("row", name="Messages 2")).to_be_visible()
    expect(receipt).to_contain_text("No file with your words was taken before.")
    assert site.trees() == []
    page.get_by_role("link", name="Chat").click()
    expect(page.get_by_text("Remember me.")).to_have_count(0)
