"""Who answers from a table: what is looked up, and what the chat is asked then."""

import pytest

from turnsmith.agents.rag import Rag, pairs
from turnsmith.errors import DataError, UsageError
from turnsmith.testing import AGENT, chat, directory
from turnsmith.types import Conversation, Example, Failure, Reply, Sampling

ROWS = ["Where are you?", "What is the time?", "Who sat on the mat?"]
ANSWERS = ["Here.", "Noon.", "The cat."]


def row(number):
    text = chat("u: Hello", "a: Hi.", f"u: {ROWS[number]}", f"a: {ANSWERS[number]}")
    return Example({"text": text}, {}, {"id": str(number)})


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    where = tmp_path_factory.mktemp("embedder")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TURNSMITH_HOME", str(where))
        (where / "arithmetic.json").write_text('{"dtype": "float32", "seconds": {}}')
        yield str(directory(where / "m"))


class Heard:
    """A chat that keeps what it is asked, and says how many messages that were."""

    def __init__(self):
        self.asked, self.told = [], []

    def __call__(self, conversations, *, sampling=None, seed=0):
        self.asked += conversations
        self.told.append((sampling, seed))
        return [Reply.scripted(f"{len(one.messages)}") for one in conversations]


def rag(embedder, by, **options):
    return Rag(table=[row(0), row(1), row(2)], by=by, embedder=embedder, **options)


@pytest.mark.parametrize("similarity", ["cosine", "euclidean", "influence"])
def test_the_row_with_the_same_question_is_told_first(embedder, similarity):
    """A vector is nearest to itself: by the influence too, since its own groups tell all of it."""
    by = Heard()
    asked = chat("s: Be brief.", "u: Good day", "a: Yes?", f"u: {ROWS[1]}")
    rag(embedder, by, similarity=similarity, top_n=1, levels=8)([asked])
    wanted = "Q: What is the time?; A: Noon.\n\nAnswer from what stands above: What is the time?"
    assert by.asked == [chat("s: Be brief.", "u: Good day", "a: Yes?", f"u: {wanted}")]


def test_a_small_table_is_told_as_a_whole(embedder):
    by = Heard()
    rag(embedder, by, top_n=9, similarity="cosine", asked="{question}|{reference}")(
        [chat(f"u: {ROWS[2]}", "a: and so?")]
    )
    (told,) = by.asked
    question, reference = told.messages[-1].content.split("|")
    assert len(told.messages) == 1  # what comes after the question is not asked again
    assert question == ROWS[2]
    lines = reference.split("\n")
    assert lines[0] == "Q: Who sat on the mat?; A: The cat."
    assert sorted(lines) == sorted(f"Q: {q}; A: {a}" for q, a in zip(ROWS, ANSWERS, strict=True))


def test_braces_in_what_is_said_stay_what_they_are(embedder):
    by = Heard()
    rag(embedder, by, top_n=1)([chat("u: {reference} and {x}")])
    assert by.asked[0].messages[-1].content.endswith("above: {reference} and {x}")


def test_sampling_and_seed_are_those_that_were_given(embedder):
    by, greedy = Heard(), Sampling(temperature=0)
    rag(embedder, by)([chat("u: Hi")], sampling=greedy, seed=7)
    assert by.told == [(greedy, 7)]


def test_who_is_asked_nothing_fails_alone(embedder):
    first, second = rag(embedder, Heard())([chat("s: Be brief."), chat("u: Hi")])
    assert isinstance(first, Failure)
    assert "no user message" in first.reason
    assert second.message.content == "1"


def test_rows_are_the_last_answers_and_what_was_asked_for_them():
    assert pairs([row(0)]) == [("Where are you?", "Here.")]


@pytest.mark.parametrize("said", [("u: Where?",), ("s: Hi", "a: Here.")])
def test_what_is_no_row_is_refused(said):
    with pytest.raises(DataError, match="example 'x' is no row of a table"):
        pairs([Example({"text": chat(*said)}, {}, {"id": "x"})])
    with pytest.raises(DataError, match="example 'x' is no row of a table"):
        pairs([Example({"prompt": Conversation(())}, {}, {"id": "x"})])


def test_options_that_make_no_sense_are_refused(embedder):
    with pytest.raises(UsageError, match=r"`asked` needs \{reference\} and \{question\}"):
        rag(embedder, Heard(), asked="{question}")
    with pytest.raises(UsageError, match="top_n is 0"):
        rag(embedder, Heard(), top_n=0)


@pytest.mark.parametrize("check", AGENT, ids=lambda check: check.__name__)
def test_it_keeps_the_contract_of_agents(embedder, check):
    check(rag(embedder, Heard()), [chat("u: Hi"), chat("s: Be brief."), chat("u: a", "a: b", "u: c")])
