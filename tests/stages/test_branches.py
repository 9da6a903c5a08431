"""Dialogues that go on from one answer in two ways, by hand."""

from collections import Counter
from random import Random

import numpy as np
import pytest
import torch

from turnsmith.data.batch import pack
from turnsmith.data.prepare import prepare
from turnsmith.data.render import Renderer
from turnsmith.errors import UsageError
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.objectives.pairs import refuel
from turnsmith.sample.chat import LocalChat
from turnsmith.sample.engine import LocalEngine
from turnsmith.stages.branches import refuel_pairs
from turnsmith.testing import STAGE, chat, conversations, model, tokenizer
from turnsmith.train.reference import precompute
from turnsmith.types import Example, Failure, Message, Reply, Usage


class Counting:
    """A chat whose n-th call says `a`, `b`, ... and how many messages it saw; what `said` maps a call to is
    said instead, a Failure for None."""

    def __init__(self, said=None, finish="stop"):
        self.said, self.finish, self.asked = said or {}, finish, []

    def __call__(self, conversations, *, sampling=None, seed=0):
        self.asked.append(list(conversations))
        self.sampling = sampling
        letter = "abcdefghijklmnop"[len(self.asked) - 1]
        return [self._reply(self.said.get(letter, f"{letter}{len(one.messages)}")) for one in conversations]

    def _reply(self, text):
        if text is None:
            return Failure("the prompt has 12 tokens")
        return Reply(Message("assistant", text), self.finish, Usage(1, 1))


class Fixed(Random):
    """Draws the scored and the parting turn that it is told, over and over."""

    def __init__(self, scored, parted):
        super().__init__(0)
        self.scored, self.parted = scored, parted

    def randrange(self, stop):
        return self.scored if stop < 2**32 else super().randrange(stop)

    def randint(self, low, high):
        assert (low, high) == (0, self.scored)
        return self.parted


def example(name, *said, **meta):
    return Example({"text": chat(*said)}, {"rating": 3.0}, {"id": name, **meta})


ONE = example("one", "s: Be kind.", "u: Hi", "a: Hello", "u: Bye", "a: So long", wish="tea")


def lengths(conversations, examples):
    """The number of messages, and of letters in the last one a hundredth each."""
    lengths.seen = [texts(one) for one in conversations]
    return [len(one.messages) + len(one.messages[-1].content) / 100 for one in conversations]


def texts(conversation):
    return [f"{message.role[0]}: {message.content}" for message in conversation.messages]


def paired(by, user, rng, data=(ONE,), reward=lengths, **options):
    counts = Counter()
    made = refuel_pairs(list(data), by=by, user=user, reward=reward, rng=rng, counts=counts, **options)
    return list(made), counts


def test_the_second_dialogue_keeps_what_stood_before_the_answer_and_is_scored_at_the_same_turn():
    by, user = Counting(), Counting(dict.fromkeys("abcdef", "go on"))
    (pair,), counts = paired(by, user, Fixed(scored=2, parted=1))
    start = ["s: Be kind.", "u: Hi", "a: a2", "u: go on"]
    assert texts(pair.parts["first"]) == [*start, "a: b4"]
    assert texts(pair.parts["second"]) == [*start, "a: d4"]  # by was asked three times for the first
    assert lengths.seen == [
        [*start, "a: b4", "u: go on", "a: c6"],
        [*start, "a: d4", "u: go on", "a: e6"],
    ]
    assert pair.values == {"rating": 3.0, "return_first": 7.02, "return_second": 7.02}
    assert (pair.id, pair.meta["parted"], pair.meta["scored"]) == ("one", 2, 3)
    assert not counts


def test_only_the_answer_where_they_part_learns():
    (pair,), _ = paired(Counting(), Counting(), Fixed(2, 1), turns=3)
    for part in ("first", "second"):
        assert [message.weight for message in pair.parts[part].messages] == [0.0, 0.0, 0.0, 0.0, 1.0]


def test_parted_and_scored_at_the_first_turn_it_is_a_pair_of_single_answers():
    """With one turn REFUEL is REBEL."""
    user = Counting()
    (pair,), _ = paired(Counting(), user, Fixed(0, 0))
    assert texts(pair.parts["first"]) == ["s: Be kind.", "u: Hi", "a: a2"]
    assert texts(pair.parts["second"]) == ["s: Be kind.", "u: Hi", "a: b2"]
    assert user.asked == []


def test_the_scored_turn_is_drawn_evenly_and_the_parting_turn_evenly_up_to_it():
    data = [example(str(number), "u: Hi") for number in range(3000)]
    made, _ = paired(Counting(), Counting(), Random(0), data, turns=3)
    found = Counter((one.meta["scored"], one.meta["parted"]) for one in made)
    expected = {(1, 1): 1 / 3, (2, 1): 1 / 6, (2, 2): 1 / 6, (3, 1): 1 / 9, (3, 2): 1 / 9, (3, 3): 1 / 9}
    assert found.keys() == expected.keys()
    for key, share in expected.items():
        # Four standard errors of a share of 3,000.
        assert abs(found[key] / 3000 - share) < 4 * (share * (1 - share) / 3000) ** 0.5, key


def test_scored_at_the_last_turn_where_that_is_asked_for():
    data = [example(str(number), "u: Hi") for number in range(60)]
    made, _ = paired(Counting(), Counting(), Random(0), data, turns=3, scored="last")
    assert Counter(one.meta["scored"] for one in made) == {3: 60}
    assert set(Counter(one.meta["parted"] for one in made)) == {1, 2, 3}


# -------------------------------------------------------------------------------- what is left out


def test_pairs_of_equal_answers_are_left_out_and_counted():
    made, counts = paired(Counting({"b": "same", "d": "same"}), Counting(), Fixed(2, 1))
    assert made == []
    assert counts == {"pairs of equal answers": 1}


def test_what_cannot_be_judged_is_left_out_and_counted():
    def judge(conversations, examples):
        return [None if "d4" in texts(one)[4] else 1.0 for one in conversations]

    made, counts = paired(Counting(), Counting(), Fixed(2, 1), reward=judge)
    assert made == []
    assert counts == {"could not be judged": 1}


@pytest.mark.parametrize(
    ("by", "user", "reason"),
    [
        ({"b": None}, {}, "failed: the prompt has 12 tokens"),
        ({"d": None}, {}, "failed: the prompt has 12 tokens"),
        ({}, {"b": None}, "failed: the prompt has 12 tokens"),
        ({"a": ""}, {}, "ended before they part: empty"),
        ({}, {"a": "bye"}, "ended before they part: closed"),
    ],
)
def test_dialogues_that_fail_or_end_too_soon_are_left_out_and_counted(by, user, reason):
    made, counts = paired(Counting(by), Counting(user), Fixed(2, 1), closing=("bye",))
    assert made == []
    assert counts == {reason: 1}


def test_a_dialogue_that_ends_behind_the_parting_is_scored_at_its_end():
    (pair,), _ = paired(Counting(), Counting({"c": "bye"}), Fixed(2, 1), closing=("bye",))
    assert pair.values["return_first"] == 7.02
    assert pair.values["return_second"] == 5.02  # its user said goodbye behind the answer d4


def test_an_empty_answer_where_they_part_is_valid():
    (pair,), _ = paired(Counting({"b": ""}), Counting(), Fixed(2, 1))
    assert pair.parts["first"].messages[-1] == Message("assistant", "", weight=1.0)
    assert pair.values["return_first"] == 5.0  # it ended there


def test_openings_that_there_are_not_are_counted_and_bad_options_refused():
    _, counts = paired(Counting(), Counting(), Fixed(0, 0), [ONE, example("two", "a: Hi")])
    assert counts == {"have no opening that could be answered": 1}
    with pytest.raises(UsageError, match="turns is 0"):
        paired(Counting(), Counting(), Random(0), turns=0)
    with pytest.raises(UsageError, match="without a `user`"):
        paired(Counting(), None, Random(0), system="You are Ann.")


# ----------------------------------------------------------------------------- logged user turns


def test_without_a_user_the_logged_turns_follow_whatever_is_said():
    data = [example("log", "u: Hi", "a: Hello", "u: And you?", "a: Fine", "u: Bye", "a: So long")]
    (pair,), _ = paired(Counting(), None, Random(0), data, scored="last", turns=9)
    assert pair.meta["scored"] == 3
    for seen in lengths.seen:
        assert [text for text in seen if text.startswith("u: ")] == ["u: Hi", "u: And you?", "u: Bye"]
    (pair,), _ = paired(Counting(), None, Random(0), data, scored="last", turns=2)
    assert pair.meta["scored"] == 2


def test_an_answer_that_was_cut_gets_the_penalty_and_else_what_the_scorer_says():
    cut = Counting(finish="length")
    (pair,), _ = paired(cut, Counting(), Fixed(2, 1), penalty=-4.0)
    assert (pair.values["return_first"], pair.values["return_second"]) == (-4.0, -4.0)
    (pair,), _ = paired(Counting(finish="length"), Counting(), Fixed(2, 1))
    assert pair.values["return_first"] == 7.02
    (pair,), _ = paired(Counting(), Counting(finish="length"), Fixed(2, 1), penalty=-4.0)
    assert pair.values["return_first"] == 7.02  # the user's messages may be cut


def test_what_was_cut_before_they_part_is_nobodys_fault():
    class First(Counting):
        def _reply(self, text):
            self.finish = "length" if len(self.asked) == 1 else "stop"
            return super()._reply(text)

    (pair,), _ = paired(First(), Counting(), Fixed(2, 1), penalty=-4.0)
    assert (pair.values["return_first"], pair.values["return_second"]) == (7.02, 7.02)


# ------------------------------------------------------------------------------------ with a model


@pytest.fixture(scope="module")
def local():
    small, renderer = model(), Renderer(tokenizer())
    forest.attach(small)
    return LocalChat(LocalEngine(small, stop=renderer.stops), renderer)


def rolled(local, **options):
    data = conversations(6)
    return paired(local, Counting(), Random(1), data, **{"turns": 3, "max_new": 12, **options})[0]


def test_the_answers_tokens_and_their_end_learn_alone_and_the_prefix_is_packed_once(local):
    made = rolled(local)
    kept, _ = prepare(made, local.renderer, ("first", "second"), length=400)
    assert len(kept) > 2
    for example, one in zip(made, kept, strict=True):
        sides = [one.parts[part][0] for part in ("first", "second")]
        for part, tokens in zip(("first", "second"), sides, strict=True):
            message = example.parts[part].messages[-1]
            ended = message.ids[-1] in local.renderer.stops
            assert tokens.weights.sum() == len(message.ids)  # the drawn tokens, the end among them
            assert tokens.targets[tokens.weights > 0].tolist() == list(message.ids)
            assert ended or len(message.ids) == 12
        same = sides[0].inputs[: min(map(len, sides))] == sides[1].inputs[: min(map(len, sides))]
        shared = len(same) if same.all() else int(np.argmin(same))
        # What both have in common is in the batch once.
        assert pack([one]).tokens == len(sides[0]) + len(sides[1]) - shared
        assert shared >= len(local.renderer.prompt(example.parts["first"].upto(-1)))


def test_reference_log_probs_at_the_temperature_of_the_draws_are_those_of_the_draws(local, tmp_path):
    """Else log-ratios would be 0 at the start all the same, and the target one of another policy."""
    made = rolled(local, temperature=0.8)
    kept, _ = prepare(made, local.renderer, ("first", "second"), length=400)
    scoring = Scoring(local.engine.model)
    drawn = [one.parts[part].messages[-1].logprobs for one in made for part in ("first", "second")]
    for temperature, close in ((0.8, True), (1.0, False)):
        file = tmp_path / f"{temperature}.npy"
        precompute(scoring, kept, pack, row=4000, temperature=temperature, file=file)
        found = torch.from_numpy(np.load(file))
        assert torch.allclose(found, torch.tensor([p for one in drawn for p in one]), atol=1e-4) is close


def test_the_loss_before_the_first_step_is_the_square_of_the_difference_of_returns(local, tmp_path):
    made = rolled(local, temperature=0.8)
    kept, _ = prepare(made, local.renderer, ("first", "second"), length=400)
    scoring = Scoring(local.engine.model)
    known = precompute(scoring, kept, pack, row=4000, temperature=0.8, file=tmp_path / "known.npy")
    batch = pack([known[number] for number in range(len(kept))])
    scores = scoring(batch, temperature=0.8)
    found = refuel(replaced(scores, batch), eta=3.0).values
    gaps = [one.values["return_first"] - one.values["return_second"] for one in made]
    assert any(gaps)
    torch.testing.assert_close(found, torch.tensor([(3 * gap) ** 2 for gap in gaps]), rtol=1e-4, atol=1e-4)


def replaced(scores, batch):
    from dataclasses import replace

    return replace(scores, reference=batch.extras["reference"], values=batch.values)


def test_what_stands_before_the_branch_is_not_read_again_for_the_second_dialogue(local, monkeypatch):
    """Tokens that go through the model, with and without remembering."""

    def read(chat):
        counted = 0
        whole = local.engine.model

        def count(module, inputs, output):
            nonlocal counted
            counted += output.shape[0] * output.shape[1]

        hook = whole.get_input_embeddings().register_forward_hook(count)
        rolled(chat, scored="last")
        hook.remove()
        return counted

    class Forgetful:
        def __call__(self, *given, **options):
            return local(*given, **options)

        def by_seeds(self, *given, **options):
            return local.by_seeds(*given, **options)

    assert read(local) < 0.7 * read(Forgetful())


@pytest.mark.parametrize("check", STAGE, ids=lambda check: check.__name__)
def test_the_contract_of_stages_holds(check, local):
    check(lambda given: paired(local, Counting(), Random(1), given, turns=2, max_new=6)[0], conversations(4))
