"""What axe finds in each view, in both themes and on a narrow screen."""

import pytest

from turnsmith.testing.server import streams

expect = pytest.importorskip("playwright.sync_api").expect
SIZES = {"wide": {"width": 1200, "height": 800}, "narrow": {"width": 360, "height": 740}}
TEXT = """A **fjord** and a [link](https://example.org).

| name | country | depth | length | what else there is to say of it |
|---|---|---|---|---|
| Sognefjord | Norway | 1,303 m | 205 km | it is long |

```python
def depth(name: str) -> float: return {"Sognefjord": 1303.0, "Hardangerfjord": 860.0}[name]
```

Averyveryveryveryveryveryveryveryveryveryveryveryveryveryverylongword."""


def _faults(page):
    """Serious and critical ones; what axe is not sure of counts for nothing."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    return [
        f"{one['id']}: {node['html'][:200]} {node['any'][:1]}"
        for one in found
        for node in one["nodes"]
        if one["impact"] in ("serious", "critical")
    ]


def _still(page):
    """Once nothing moves any more: what is half faded in has other colours."""
    page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished.catch(() => 0)))")
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert page.evaluate("document.getElementById('content').scrollWidth") <= page.viewport_size["width"]
    return page


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_view_has_serious_faults_or_scrolls_sideways(tab, up, say, theme, size):
    told = {"color_scheme": theme, "viewport": SIZES[size], "reduced_motion": "reduce"}
    page = tab(**told)
    expect(page.get_by_label("Model")).to_be_visible()
    faults = {"empty": _faults(_still(page))}
    up.behaviours.append(streams(TEXT))
    say(page, "What is a fjord, and what is a Averyveryveryveryveryveryveryverylongword?")
    page.get_by_role("button", name="Good reply").click()
    page.get_by_role("button", name="Say more").click()
    page.get_by_role("group", name="helpful").get_by_label("4").check(force=True)
    faults["talk"] = _faults(_still(page))
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Temperature").fill("9")
    faults["settings"] = _faults(_still(page))
    page.keyboard.press("Escape")
    page.goto(page.url.split("#")[0] + "#/people")
    expect(page.get_by_role("heading", name="Delete what I said")).to_be_visible()
    faults["people"] = _faults(_still(page))
    page.get_by_role("button", name="Delete what I said").click()
    faults["sure"] = _faults(_still(page))
    page.keyboard.press("Escape")
    page.goto(page.url.split("#")[0] + "#/nowhere")
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    faults["nowhere"] = _faults(_still(page))
    assert {name: found for name, found in faults.items() if found} == {}


def test_a_fault_that_is_planted_is_found(tab):
    page = tab()
    page.evaluate("document.getElementById('content').append(document.createElement('img'))")
    assert ["image-alt" in one for one in _faults(page)] == [True]


def test_a_narrow_screen_has_menus_for_what_is_beside_on_a_wide_one(tab, say):
    page = tab(viewport=SIZES["narrow"])
    say(page, "Hi.")
    expect(page.get_by_role("article", name="fjord")).to_contain_text("So it is.")
    page.get_by_role("button", name="Conversations").click()
    listed = page.get_by_role("dialog", name="Conversations")
    listed.get_by_role("button", name="New conversation").click()
    expect(listed).to_have_count(0)
    expect(page.get_by_role("heading", name="What would you like to talk about?")).to_be_visible()
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("link", name="Your words").click()
    expect(page.get_by_role("heading", name="You and your words")).to_be_visible()


def test_the_theme_is_chosen_and_remembered(tab):
    page = tab(color_scheme="light")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Dark").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != before
    page.reload()
    expect(page.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
