"""Requests that perplex, and pairs of fragments, by a small real model and by given answers."""

from collections import Counter
from math import exp

import pytest

from turnsmith.data.render import Renderer
from turnsmith.errors import UsageError
from turnsmith.sample.chat import LocalChat
from turnsmith.sample.engine import LocalEngine
from turnsmith.scorers.fragments import pieces_right
from turnsmith.scorers.likelihood import Likelihood
from turnsmith.stages.fragments import fragment_pairs, perplexing
from turnsmith.testing import chat, directory, model, tokenizer
from turnsmith.types import Example, Message, Reply, Usage

TRUTH = "[f(a=1)]"


def example(id, said=TRUTH, asked="Go"):
    return Example({"text": chat(f"u: {asked}", f"a: {said}")}, {}, {"id": id})


# -------------------------------------------------------------------------------------- perplexity


def kept(scores, said, **options):
    data = [example(f"{at}", one) for at, one in enumerate(said)]
    counts: Counter[str] = Counter()
    found = perplexing(data, by=lambda *_: scores, counts=counts, **options)
    return {one.id: one.values["perplexity"] for one in found}, counts


def test_of_those_with_a_call_and_those_without_the_same_share_is_kept():
    """Of 7 calls floor(0.3 * 7) = 2, of 4 refusals 1: the least likely of each."""
    scores = [-0.1, -0.7, -0.3, -0.9, -0.2, -0.4, -0.5, -2.0, -1.0, -1.5, -1.1]
    found, _ = kept(scores, ["f()"] * 7 + ["No."] * 4)
    assert found == {"1": exp(0.7), "3": exp(0.9), "7": exp(2.0)}


def test_what_cannot_be_judged_is_counted():
    found, counts = kept([None, -1.0], ["f()", "f()"], share=1.0)
    assert list(found) == ["1"]
    assert counts == {"could not be judged": 1}
    with pytest.raises(UsageError, match="share is 0"):
        kept([-1.0], ["f()"], share=0.0)


def test_perplexity_is_of_the_answer_whatever_the_length_of_the_prompt(place, home):
    """The mean is over as many tokens, those of the answer, behind a prompt of 2 and one of 40 words."""
    judge = Likelihood(by=str(place), words="mean")
    asked = chat("u: Hi", "a: fine")
    (mean,) = judge([asked], [example("a")])
    whole = Likelihood(by=str(place))
    (total,) = whole([asked], [example("a")])
    long = chat(f"u: {'Hi ' * 40}", "a: fine")
    (longer,), (longer_total,) = judge([long], [example("a")]), whole([long], [example("a")])
    assert total / mean == pytest.approx(longer_total / longer)
    assert 1 < total / mean < 8


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return directory(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TURNSMITH_HOME", str(tmp_path))
    (tmp_path / "arithmetic.json").write_text('{"dtype": "float32", "seconds": {}}')


# ------------------------------------------------------------------------------------------ search


class Scripted:
    """Answers with given texts in turn, a token for each letter, all of the same log-probability."""

    def __init__(self, *texts, finish="stop"):
        self.texts, self.finish, self.asked = list(texts), finish, []

    def __call__(self, conversations, *, sampling=None, seed=0):
        return [self._reply(sampling.prefill) for _ in conversations]

    def _reply(self, begun):
        self.asked.append(begun)
        said = self.texts.pop(0)
        ids = tuple(ord(letter) for letter in begun + said) + ((0,) if self.finish == "stop" else ())
        logprobs = (0.0,) * len(begun) + (-0.5,) * (len(ids) - len(begun))
        message = Message("assistant", begun + said, ids=ids, logprobs=logprobs)
        return Reply(message, self.finish, Usage(1, len(ids) - len(begun)))

    def spelled(self, ids):
        return [chr(one) for one in ids]


def searched(speaker, **options):
    counts: Counter[str] = Counter()
    given = {"rounds": 1, "actions": 2, "pieces": 1, "depth": 9, **options}
    made = list(fragment_pairs([example("x")], by=speaker, reward=pieces_right, counts=counts, **given))
    return made, counts


def test_a_pair_parts_where_two_answers_do():
    """`[f(`, `a=` are common to both; then `1)]` is right and `2)]` wrong."""
    (pair,), _ = searched(Scripted("[f(a=1)]", "[f(a=2)]"), steps=9)
    chosen, rejected = (pair.parts[name].messages[-1] for name in ("chosen", "rejected"))
    assert (chosen.content, rejected.content) == ("[f(a=1)]", "[f(a=2)]")
    assert chosen.ids[:5] == rejected.ids[:5]
    assert chosen.ids[5:] == (ord("1"), ord(")"), ord("]"), 0)  # it ends, and learns to
    # `1)]`: first sight 0.1 + 1 - 0.5, reward 1: (0.6 + 1) / 2. `2)]` was not visited: 0.1 + 0 - 0.5.
    assert pair.values["gap"] == pytest.approx(0.8 - -0.4)


def test_an_answer_that_goes_on_behind_the_fragment_has_no_end():
    (pair,), _ = searched(Scripted("[f(a=1)]", "[g(a=1)]"), steps=1)
    chosen = pair.parts["chosen"].messages[-1]
    assert chosen.content == "[f("
    assert chosen.ids == tuple(map(ord, "[f("))
    assert pair.parts["rejected"].messages[-1].content == "[g("


def test_equal_answers_and_small_gaps_and_bad_bests_make_no_pair():
    made, counts = searched(Scripted("[f(a=1)]", "[f(a=1)]"))
    assert (made, counts["prompts without a pair"]) == ([], 1)
    assert searched(Scripted("[f(a=1)]", "[f(a=2)]"), gap=1.3)[0] == []
    assert searched(Scripted("[f(a=1)]", "[f(a=2)]"), least=0.9)[0] == []
    assert searched(Scripted("b=1)]", "a b=1)]"), alike=0.95, depth=1)[0] == []  # all words of the first


def test_a_second_round_goes_on_from_a_leaf_that_has_not_ended():
    speaker = Scripted("[f(", "[f(", "a=1)]", "a=2)]", finish="length")
    (pair,), _ = searched(speaker, rounds=2)
    assert speaker.asked == ["", "", "[f(", "[f("]
    assert [pair.parts[name].messages[-1].content[-3:] for name in ("chosen", "rejected")] == ["1)]", "2)]"]


def test_an_answer_that_went_on_from_other_tokens_is_left_out_and_counted():
    class Other(Scripted):
        def _reply(self, begun):
            reply = super()._reply(begun)
            if not begun:
                return reply
            ids = (7, *reply.message.ids[1:])
            return Reply(
                Message("assistant", "x", ids=ids, logprobs=reply.message.logprobs), "stop", reply.usage
            )

    _, counts = searched(Other("[f(", "[f(", "a=1)]", "a=2)]", finish="length"), rounds=2)
    assert counts["answers that did not go on from the same tokens"] == 2


def test_a_chat_that_says_no_tokens_is_refused():
    def says(conversations, *, sampling=None, seed=0):
        return [Reply.scripted("x") for _ in conversations]

    with pytest.raises(UsageError, match="goes by single tokens"):
        searched(says)
    with pytest.raises(UsageError, match="have to be 1 or more"):
        searched(says, actions=0)


def test_a_real_model_gives_pairs_that_share_their_tokens_up_to_the_fork():
    renderer = Renderer(tokenizer())
    speaker = LocalChat(LocalEngine(model(vocabulary=len(tokenizer())), stop=renderer.stops), renderer)

    def letters(conversations, examples):
        return [len(one.messages[-1].content) / 10 for one in conversations]

    options = {"rounds": 2, "pieces": 1, "gap": 0.0, "least": -9.0, "max_new": 6}
    made = list(fragment_pairs([example("x")], by=speaker, reward=letters, counts=Counter(), **options))
    assert made
    for one in made:
        chosen, rejected = (one.parts[name].messages[-1] for name in ("chosen", "rejected"))
        assert chosen.ids != rejected.ids
        for message in (chosen, rejected):
            assert renderer.text(message.ids) == message.content
