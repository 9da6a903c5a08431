"""Replies as they are asked for, by hand."""

from dataclasses import replace

from turnsmith.agents.examiner import Examiner
from turnsmith.evaluation.tasks.steered import Steered
from turnsmith.testing import TinyBench, chat, subject
from turnsmith.types import Example, Failure, Reply

ASKED = "Tell me about tea in one sentence of at most 5 words that has the word 'hot' in it."
BENCH = TinyBench({"asked": [Example({"text": chat(f"u: {ASKED}")}, {}, {"id": "tea"})]})
ANSWERS = {"4 of 4": "Tea is wet.", "3 of 4": "Hot tea.", "2 of 4": "Wet", "1 of 4": ""}


def obeys(heard):
    """A chat that says what it is asked for, and is hot once it is advised to be."""

    def reply(asked, *, sampling=None, seed=0):
        heard.extend(asked)
        return [Reply.scripted(_said(one)) for one in asked]

    return reply


def _said(conversation):
    last = conversation.messages[-1].content
    if "Use the word" in last:
        return "Tea is hot."
    return next((said for key, said in ANSWERS.items() if key in last), "Hot. Tea.")


def measured(chat, **options):
    return Steered(on="asked", critic=Examiner(), **options).measure(replace(subject(), chat=chat), BENCH)


def test_figures_by_hand():
    # "Tea is wet." lacks the word: 3. "Hot tea.": all, 4. "Wet": no sentence, no word: 2. "": 1.
    # "Hot. Tea.", without a condition: two sentences, 3. With the advice "Tea is hot.": 4.
    heard = []
    (item,) = measured(obeys(heard), critiques={"4": "Good."})
    found = {
        name: item.values[name] for name in ("under 1", "under 2", "under 3", "under 4", "unasked", "second")
    }
    assert found == {"under 1": 1, "under 2": 2, "under 3": 4, "under 4": 3, "unasked": 3, "second": 4}
    assert (item.values["gap"], item.values["gain"]) == (2, 1)
    assert item.values["as asked"] == 0.5  # under 1 and 2
    assert [one.messages[-1].content for one in heard][3:] == [
        f"{ASKED}\n(The next reply is rated 4 of 4: Good.)",
        ASKED,
        "Use the word 'hot'.\n(The next reply is rated 4 of 4: Good.)",
    ]
    assert heard[-1].messages[0].content == ASKED  # what was asked before has no condition


def test_a_first_reply_that_needs_no_advice_stands_for_the_second():
    (item,) = measured(lambda asked, sampling=None, seed=0: [Reply.scripted("Tea is hot.") for _ in asked])
    assert (item.values["second"], item.values["gain"], item.values["gap"]) == (4, 0, 0)


def test_what_could_not_be_answered_or_judged_fails():
    (item,) = measured(lambda asked, sampling=None, seed=0: [Failure("closed") for _ in asked])
    assert (item.failed, item.values) == ("closed", {})
    mute = lambda asked, sampling=None, seed=0: [Failure("away") for _ in asked]  # noqa: E731
    (item,) = Steered(on="asked", critic=mute).measure(replace(subject(), chat=obeys([])), BENCH)
    assert item.failed == "could not be judged"
