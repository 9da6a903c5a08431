"""Talking on the page."""

import math
import re

import pytest

from turnsmith.testing.server import chunk, streams

expect = pytest.importorskip("playwright.sync_api").expect


def _tree(site):
    """The newest conversation as nested pairs of what was said and the replies."""

    def said(message):
        return (message["content"], [said(one) for one in message["replies"]])

    return [said(one) for one in site.trees()[0]["messages"]]


def test_a_reply_is_seen_as_it_comes_and_is_there_after_a_reload(tab, site, up, say, held):
    gate, behave = held("A fjord is a long inlet.", after=3)
    up.behaviours.append(behave)
    page = tab()
    say(page, "What is a fjord?")
    reply = page.get_by_role("article", name="fjord")
    expect(reply).to_have_text(re.compile(r"A fjord is\s*$"))
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    gate.set()
    expect(reply).to_contain_text("A fjord is a long inlet.")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    assert up.asked[-1]["messages"] == [{"role": "user", "content": "What is a fjord?"}]
    page.reload()
    expect(page.get_by_role("article", name="fjord")).to_contain_text("A fjord is a long inlet.")
    assert _tree(site) == [("What is a fjord?", [("A fjord is a long inlet.", [])])]


def test_who_stops_a_reply_has_the_server_draw_no_more_of_it(tab, site, up, say, held):
    # Who is left is noticed at the second piece that nobody takes, as soon as the connection is closed.
    gate, behave = held("One two" + 600 * " more", after=2, pause=0.05)
    up.behaviours.append(behave)
    up.left.clear()
    page = tab()
    say(page, "Count.")
    expect(page.get_by_role("article", name="fjord")).to_contain_text("One two")
    page.keyboard.press("Escape")
    expect(page.get_by_text("Stopped here.")).to_be_visible()
    gate.set()
    assert up.left.wait(30)
    ((asked, [(came, _)]),) = _tree(site)
    assert (asked, came) == ("Count.", "One two ")
    say(page, "Go on.")
    expect(page.get_by_role("article", name="fjord").nth(1)).to_contain_text("So it is.")
    assert _tree(site) == [("Count.", [("One two ", [("Go on.", [("So it is.", [])])])])]


def test_another_reply_and_an_edited_message_are_branches_that_one_goes_between(tab, site, up, say):
    up.behaviours += [streams("Hello."), streams("Warm."), streams("Mild."), streams("Wet.")]
    page = tab()
    say(page, "Hi.")
    expect(page.get_by_text("Hello.")).to_be_visible()
    say(page, "How is Bergen?")
    last = page.get_by_role("listitem").filter(has=page.get_by_role("article", name="fjord")).last
    expect(last).to_contain_text("Warm.")
    last.get_by_role("button", name="Another reply").click()
    expect(last).to_contain_text("Mild.")
    expect(last.get_by_text("2/2")).to_be_visible()
    last.get_by_role("button", name="The one before").click()
    expect(last).to_contain_text("Warm.")
    asked = page.get_by_role("article", name="You").last
    asked.hover()
    asked.get_by_role("button", name="Edit and ask again").click()
    field = page.get_by_label("Your message, in other words")
    expect(field).to_be_focused()
    field.fill("How is Bergen in autumn?")
    field.press("Enter")
    expect(last).to_contain_text("Wet.")
    expect(asked.get_by_text("2/2")).to_be_visible()
    bergen = ("How is Bergen?", [("Warm.", []), ("Mild.", [])])
    autumn = ("How is Bergen in autumn?", [("Wet.", [])])
    assert _tree(site) == [("Hi.", [("Hello.", [bergen, autumn])])]
    asked.get_by_role("button", name="The one before").click()
    expect(last).to_contain_text("Warm.")
    expect(page.get_by_text("Wet.")).to_have_count(0)


def test_an_edited_first_message_stays_in_its_conversation(tab, site, up, say):
    page = tab()
    say(page, "First.")
    expect(page.get_by_text("So it is.")).to_be_visible()
    asked = page.get_by_role("article", name="You")
    asked.hover()
    asked.get_by_role("button", name="Edit and ask again").click()
    page.get_by_label("Your message, in other words").fill("Second.")
    page.get_by_role("button", name="Ask again", exact=True).click()
    expect(asked).to_contain_text("Second.")
    expect(page.get_by_role("button", name="Another reply")).to_be_visible()
    page.reload()
    expect(asked).to_contain_text("Second.")
    asked.get_by_role("button", name="The one before").click()
    expect(asked).to_contain_text("First.")
    names = page.get_by_role("complementary", name="Conversations").get_by_role("link").all_text_contents()
    assert sum("First." in name or "Second." in name for name in names) == 1


def test_a_request_says_what_was_set(tab, up, say):
    page = tab()
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("System text").fill("Be brief.")
    for name, value in (("Temperature", "0,5"), ("Top p", "0.9"), ("Most tokens", "7"), ("Seed", "11")):
        page.get_by_label(name).fill(value)
    page.get_by_label("Top p").fill("3")
    expect(page.get_by_text("A number from 0.01 to 1")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_label("Model").select_option("geyser")
    say(page, "Hi.")
    expect(page.get_by_role("article", name="geyser")).to_contain_text("So it is.")
    asked = up.asked[-1]
    system = {"role": "system", "content": "Be brief."}
    assert asked["messages"] == [system, {"role": "user", "content": "Hi."}]
    assert asked["model"] == "geyser"
    assert (asked["temperature"], asked["max_tokens"], asked["seed"]) == (0.5, 7, 11)
    assert "top_p" not in asked
    assert "logprobs" not in asked


def _token(text, chance, **others):
    best = [{"token": one, "logprob": math.log(value), "bytes": None} for one, value in others.items()]
    piece = chunk(text)
    told = {"token": text, "logprob": math.log(chance), "bytes": None, "top_logprobs": best}
    piece["choices"][0]["logprobs"] = {"content": [told]}
    return piece


def test_tokens_are_shown_with_their_probabilities_and_what_else_might_have_come(tab, up, say):
    up.behaviours.append(
        streams(_token("Wet", 0.25, Dry=0.5, Wet=0.25), _token(".", 1.0), chunk(finish="stop"))
    )
    page = tab()
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Token probabilities").check()
    page.keyboard.press("Escape")
    say(page, "How is it?")
    page.get_by_role("button", name="Token probabilities").click()
    assert (up.asked[-1]["logprobs"], up.asked[-1]["top_logprobs"]) == (True, 5)
    first = page.get_by_role("button", name="Wet, 25 %")
    first.hover()
    alternatives = page.locator(".alternatives")
    expect(alternatives.get_by_role("listitem")).to_have_text(["Dry50 %", "Wet25 %"])
    first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("button", name="., 100 %")).to_be_focused()
    expect(alternatives.get_by_role("listitem")).to_have_text([".100 %"])


BAD = """Before. <script>window.hacked = 1</script> In<br>two.

<img src="http://127.0.0.1:9/spy.png" onerror="window.hacked = 2">

![spy](http://127.0.0.1:9/spy2.png)
<iframe srcdoc="<script>parent.hacked = 3</script>"></iframe>
<svg onload="window.hacked = 4"></svg> <style>body { display: none }</style>
<a href="javascript:window.hacked = 5">press</a> [press too](javascript:window.hacked=6)
<form action="http://127.0.0.1:9/"><button class="primary" id="say">Send</button></form>

[outside](http://127.0.0.1:9/page)

```html
<script>window.hacked = 7</script>
```
After."""


def test_what_a_reply_says_neither_runs_nor_fetches_anything(tab, site, up, say):
    up.behaviours.append(streams(BAD))
    page = tab()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    say(page, "Attack me.")
    reply = page.get_by_role("article", name="fjord")
    expect(reply).to_contain_text("After.")
    expect(reply).to_be_visible()
    held = reply.locator(".markdown")
    for link in held.get_by_text("press").all():
        link.click()
    assert "Before. <script>window.hacked = 1</script> In\ntwo." in held.inner_text()
    for bad in ("script", "img", "iframe", "svg", "style", "form", "[onerror]", "[href^=javascript]"):
        expect(held.locator(bad)).to_have_count(0)
    assert page.locator("#say").count() == 1
    outside = held.get_by_role("link", name="outside")
    assert outside.get_attribute("rel") == "noopener noreferrer nofollow"
    assert outside.get_attribute("target") == "_blank"
    assert "window.hacked = 7" in held.locator("pre").inner_text()
    assert page.evaluate("window.hacked") is None
    assert [url for url in asked if not url.startswith(site.url)] == []


def test_code_is_coloured_and_copied(tab, up, say):
    up.behaviours.append(streams("```python\ndef depth():\n    return 1303\n```"))
    page = tab(permissions=["clipboard-read", "clipboard-write"])
    say(page, "Code?")
    expect(page.locator(".hljs-keyword").first).to_have_text("def")
    page.get_by_role("button", name="Copy this code").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "def depth():\n    return 1303\n"


def test_a_reload_in_the_middle_shows_what_was_kept_and_that_it_ended(tab, up, say, held):
    gate, behave = held("One two three four.", after=2)
    up.behaviours.append(behave)
    page = tab()
    say(page, "Count.")
    expect(page.get_by_role("article", name="fjord")).to_contain_text("One two")
    page.get_by_label("Write a message").fill("And then")
    page.reload()
    expect(page.get_by_role("article", name="You")).to_contain_text("Count.")
    expect(page.get_by_role("article", name="fjord")).to_contain_text("One two")
    expect(page.get_by_label("Write a message")).to_have_value("And then")
    gate.set()
    expect(page.get_by_text("Stopped here.")).to_be_visible()


def test_conversations_are_listed_and_opened(tab, say, up):
    up.behaviours += [streams("About whales."), streams("About owls.")]
    page = tab()
    say(page, "Whales?")
    expect(page.get_by_text("About whales.")).to_be_visible()
    page.get_by_role("button", name="New conversation").click()
    say(page, "Owls?")
    expect(page.get_by_text("About owls.")).to_be_visible()
    listed = page.get_by_role("complementary", name="Conversations")
    expect(listed.get_by_role("link").first).to_contain_text("Owls?")
    listed.get_by_role("link", name=re.compile(r"^Whales")).click()
    expect(page.get_by_text("About whales.")).to_be_visible()
    expect(page.get_by_text("About owls.")).to_have_count(0)
    page.go_back()
    expect(page.get_by_text("About owls.")).to_be_visible()


def test_an_error_is_said_and_what_was_typed_comes_back(tab, up, say):
    from turnsmith.testing.server import says

    up.behaviours.append(says({"error": {"message": "the prompt is too long"}}, status=400))
    page = tab()
    say(page, "Much too long")
    expect(page.get_by_role("alert")).to_contain_text("the prompt is too long")
    expect(page.get_by_label("Write a message")).to_have_value("Much too long")
    page.get_by_label("Write a message").press("Enter")
    expect(page.get_by_text("So it is.")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
