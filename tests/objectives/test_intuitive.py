"""Intuitive fine-tuning, by hand, and through the real passes of a tiny model. Numbers: the card's checks."""

import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from turnsmith.data.batch import pack, pad
from turnsmith.data.prepare import prepare
from turnsmith.data.render import Renderer
from turnsmith.data.stream import Stream
from turnsmith.errors import DataError
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.objectives.intuitive import ift, mixed, propagated
from turnsmith.testing import Figures, chat, examples, model, scores, tokenizer, tokens
from turnsmith.train.loop import fit
from turnsmith.train.method import Method
from turnsmith.train.options import Fit
from turnsmith.train.passes import Passes
from turnsmith.train.place import Place
from turnsmith.types import Example, Loss, Rendered, Run

LAYOUTS = pytest.mark.parametrize("layout", [pad, pack])
PLAIN = partial(ift, mix=0.0, discount=0.0)


class Made:
    """A run with given losses (of each sequence those of its trained tokens) at given positions, which
    guesses id 1 everywhere where 0 is read; ids are embedded as (id, 10)."""

    def __init__(self, *losses, position=None):
        self.scores = scores({"text": [[-loss for loss in one] for one in losses]})
        count = len(self.scores.path)
        self.inputs = torch.zeros(1, count + 1, dtype=torch.long)
        self.place = torch.arange(1, count + 1)
        self.position = torch.tensor(position or list(itertools.chain(*(range(len(one)) for one in losses))))
        self.passes = []

    def __call__(self, embeds=None, *, needs=(), gradients=True):
        self.passes.append((embeds, needs, gradients))
        found = self.scores if gradients else replace(self.scores, logprobs=self.scores.logprobs.detach())
        return replace(found, reduced={name: torch.ones(len(self.place)) for name in needs})

    def table(self, ids):
        return torch.stack([ids.double(), torch.full(ids.shape, 10.0, dtype=torch.float64)], -1)


def slope(run, **options):
    """Of the losses with respect to the tokens' own losses."""
    ift(run, **options).values.sum().backward()
    return (-run.scores.logprobs.grad).tolist()


# ------------------------------------------------------------------- weights and losses, by hand (2, 3, 6)


def test_check_3_the_worked_example():
    """c = (2.25, 2.5, 1.0), which sum to 5.75; (2.25 * 1 + 2.5 * 2 + 1.0 * 1) / 5.75."""
    loss = ift(Made([1.0, 2.0, 1.0]), discount=0.5)
    assert loss.values.tolist() == [pytest.approx(8.25 / 5.75, abs=1e-12)]
    assert loss.values.tolist() == [pytest.approx(1.4348, abs=1e-4)]
    assert loss.metrics["nats"].tolist() == [pytest.approx(4 / 3)]


def test_tokens_between_two_turns_discount_too():
    """c = (1 + 0.5 * 2.0625, 2 + 0.5^4 * 1, 1) at the positions 4, 5 and 9."""
    c = (2.03125, 2.0625, 1.0)
    loss = ift(Made([1.0, 2.0, 1.0], position=[4, 5, 9]), discount=0.5)
    assert loss.values.tolist() == [pytest.approx((c[0] + 2 * c[1] + c[2]) / sum(c), abs=1e-12)]


def test_check_2_weights_are_not_negative_and_sum_to_the_number_of_tokens():
    """The slope of the loss with held weights is w / n: n of it sums to n."""
    found = slope(Made([1.0, 0.0, 3.0], [2.0]), discount=0.7, detach_weights=True)
    assert min(found) >= 0
    assert sum(found[:3]) == pytest.approx(1)
    assert found[3] == pytest.approx(1)
    c = (1 + 0.49 * 3, 0.7 * 3, 3.0)
    assert found[:3] == pytest.approx([one / sum(c) for one in c])


def test_check_2_equal_losses_undiscounted_weigh_less_linearly():
    found = slope(Made([2.0, 2.0, 2.0, 2.0]), discount=1.0, detach_weights=True)
    assert found == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_gradients_flow_through_the_weights_unless_they_are_held():
    """l = (1, 2), discount 0.5: c = (2, 2). N = l1^2 + l1 l2 / 2 + l2^2 = 6, D = l1 + 1.5 l2 = 4."""
    assert slope(Made([1.0, 2.0]), discount=0.5) == pytest.approx(
        [(3 * 4 - 6 * 1) / 16, (4.5 * 4 - 6 * 1.5) / 16], abs=1e-12
    )
    held = slope(Made([1.0, 2.0]), discount=0.5, detach_weights=True)
    assert held == pytest.approx([0.5, 0.5], abs=1e-12)


@pytest.mark.parametrize("discount", [0.0, 0.5, 1.0])
def test_check_6_a_single_token_has_the_weight_1(discount):
    assert ift(Made([3.0]), discount=discount).values.tolist() == [3.0]
    assert slope(Made([3.0]), discount=discount) == pytest.approx([1.0])


@pytest.mark.parametrize("discount", [0.0, 0.95])
def test_check_6_a_sequence_that_is_learnt_is_0_and_not_0_by_0(discount):
    run = Made([0.0, 0.0], [1.0, 1.0])
    loss = ift(run, discount=discount)
    assert loss.values.tolist() == [0.0, pytest.approx(1.0)]
    loss.values.sum().backward()
    assert run.scores.logprobs.grad.isfinite().all()


def test_a_discount_of_0_is_the_mean_loss_not_one_weighed_by_itself():
    assert ift(Made([1.0, 2.0, 6.0]), discount=0.0).values.tolist() == [pytest.approx(3.0)]


def test_tokens_count_by_their_weights_in_the_sums_and_in_the_mean():
    """Weights (1, 0.5): c = (1 + 0.5 * 0.5 * 2, 0.5 * 2); (1.5 * 1 + 0.5 * 1 * 2) / (1.5 + 0.5 * 1)."""
    run = Made([1.0, 2.0])
    run.scores = replace(run.scores, weights=torch.tensor([1.0, 0.5], dtype=torch.float64))
    assert ift(run, discount=0.5).values.tolist() == [pytest.approx(2.5 / 2.0)]


def test_sums_to_come_are_those_of_a_loop_over_tokens():
    torch.manual_seed(1)
    path = torch.tensor([0] * 9 + [1] + [3] * 40)  # path 2 has nothing
    position = torch.cat([torch.randint(1, 5, (n,)).cumsum(0) for n in (9, 1, 40)])
    losses = torch.rand(50, dtype=torch.float64)
    expected = [
        sum(
            float(losses[i]) * 0.8 ** float(position[i] - position[t])
            for i in range(t, 50)
            if path[i] == path[t]
        )
        for t in range(50)
    ]
    assert propagated(losses, path, position, discount=0.8).tolist() == pytest.approx(expected, rel=1e-12)


def test_no_tokens_have_no_sums():
    none = torch.zeros(0)
    assert propagated(none, none.long(), none.long(), discount=0.5).tolist() == []


@pytest.mark.parametrize("options", [{"mix": -0.1}, {"mix": 1.1}, {"discount": 1.01}])
def test_mix_and_discount_are_shares(options):
    (name,) = options
    with pytest.raises(ValueError, match=f"ift: {name} is .*between 0 and 1"):
        ift(Made([1.0]), **options)


# ------------------------------------------------------------------------------- inputs (4 and 5), by hand


@pytest.mark.parametrize("mix", [0.0, 0.2, 1.0])
def test_check_4_what_is_not_trained_is_read_as_it_is_and_the_rest_moves_towards_the_guess(mix):
    run = Made([1.0, 1.0])
    ift(run, mix=mix)
    (first, needs, gradients), (second, _, last) = run.passes
    assert (first, needs, gradients, last) == (None, ("argmax",), False, True)
    assert second[0].tolist() == [[0.0, 10.0], [pytest.approx(mix), 10.0], [pytest.approx(mix), 10.0]]


def test_the_share_of_right_guesses_is_told():
    run = Made([1.0, 1.0])
    run.inputs[0, 2] = 1
    assert ift(run).metrics["guessed"].tolist() == [0.5]


# ---------------------------------------------------------------------------------------- a real model


def chats():
    """Two conversations of two trained turns, the turns parted by what is not trained."""
    said = [
        ["u: Hello there", "a: I am fine.", "u: And you?", "a: It is four."],
        ["u: Hello there", "a: I am fine, thank you.", "u: And then?", "a: The cat sat on the mat."],
    ]
    given = [Example({"text": chat(*one)}, {}, {"id": str(n)}) for n, one in enumerate(said)]
    return prepare(given, Renderer(tokenizer()), ("text",), length=500)[0]


def scored(layout, *, tied=True):
    whole = model()
    if not tied:
        whole.lm_head.weight = nn.Parameter(whole.lm_head.weight.detach().clone())
    if layout is pack:
        forest.attach(whole)
    return Scoring(whole)


def run_of(scoring, batch, objective=ift) -> Run:
    return Passes(scoring, scoring, batch, Method(objective, "sequence", forward=True), 1.0)


def gradients(scoring, value):
    scoring.zero_grad()
    value.backward()
    return {name: p.grad.clone() for name, p in scoring.named_parameters() if p.grad is not None}


def means(scoring, batch):
    """The sequence-mean of plain fine-tuning."""
    found = scoring(batch)
    return torch.stack([-found.logprobs[found.path == n].mean() for n in range(len(found.paths))])


@LAYOUTS
def test_check_1_unmixed_and_undiscounted_is_plain_fine_tuning(layout):
    scoring = scored(layout, tied=False)
    batch = layout(chats())
    loss, expected = run_of(scoring, batch, PLAIN).loss().values, means(scoring, batch)
    torch.testing.assert_close(loss, expected)
    found, plain = gradients(scoring, loss.sum()), gradients(scoring, expected.sum())
    table = "model.model.embed_tokens.weight"
    assert plain.pop(table).abs().max() > 0
    assert found.keys() == plain.keys()  # none goes into the table
    for name, slope in plain.items():
        torch.testing.assert_close(found[name], slope, msg=name)


@LAYOUTS
def test_check_1_a_tied_table_learns_through_the_head_alone(layout):
    tied, apart = scored(layout), scored(layout, tied=False)
    batch = layout(chats())
    found = gradients(tied, run_of(tied, batch).loss().values.sum())
    expected = gradients(apart, run_of(apart, batch).loss().values.sum())
    torch.testing.assert_close(found["model.model.embed_tokens.weight"], expected["model.lm_head.weight"])


@LAYOUTS
@pytest.mark.parametrize("mix", [0.2, 1.0])
def test_the_loss_is_that_of_the_paper_s_steps_row_by_row(layout, mix):
    """Steps 1 to 6 of the card, one conversation after the other, with transformers and loops."""
    scoring, rendered = scored(layout), chats()
    found = run_of(scoring, layout(rendered), partial(ift, mix=mix, discount=0.9)).loss().values.tolist()
    whole = model()
    table = whole.get_input_embeddings().weight
    for value, example in zip(found, rendered, strict=True):
        [one] = example.parts["text"]
        x, trained = torch.tensor(one.inputs).long(), one.weights > 0
        guess = whole(input_ids=x[None]).logits[0].argmax(-1)
        u = torch.tensor([int(guess[t - 1]) if trained[t] else int(x[t]) for t in range(len(x))])
        e = (1 - mix) * table[x] + mix * table[u]
        logits = whole(inputs_embeds=e[None]).logits[0].log_softmax(-1).detach()
        nats = [-float(logits[t - 1, x[t]]) if trained[t] else 0.0 for t in range(len(x))]
        c = [
            sum(0.9 ** (i - t) * nats[i] for i in range(t, len(x))) if trained[t] else 0.0
            for t in range(len(x))
        ]
        assert value == pytest.approx(sum(a * b for a, b in zip(c, nats, strict=True)) / sum(c), rel=1e-4)


def test_check_4_where_every_guess_is_right_nothing_is_mixed():
    scoring = scored(pad)
    prompt = list(range(5, 15))
    for _ in range(6):  # a sequence that the model continues greedily
        prompt.append(int(scoring.base(torch.tensor([prompt])).logits[0, -1].argmax()))
    batch = pad([Rendered("own", {"text": (tokens(prompt, 6),)})])
    run = run_of(scoring, batch)
    guesses = run(needs=("argmax",), gradients=False).reduced["argmax"].long()
    assert torch.equal(guesses, torch.tensor(prompt[-6:]))
    torch.testing.assert_close(mixed(run, guesses, mix=0.7), run.table(batch.inputs))
    loss = run_of(scoring, batch, partial(ift, mix=0.7, discount=0.0)).loss()
    torch.testing.assert_close(loss.values, means(scoring, batch))
    assert loss.metrics["guessed"].tolist() == [1.0]


def test_check_5_wholly_mixed_inputs_are_guesses_from_the_data_s_prefix():
    """Not what the model would go on to say after its own guess: the token before is the data's."""
    scoring = scored(pad)
    batch = pad(examples(1))
    run = run_of(scoring, batch)
    guesses = run(needs=("argmax",), gradients=False).reduced["argmax"].long()
    read = mixed(run, guesses, mix=1.0)[0]
    with torch.no_grad():
        for at in range(batch.inputs.shape[1]):
            id = batch.inputs[0, at]
            if at in batch.place.tolist():
                id = scoring.base(batch.inputs[:, :at]).logits[0, -1].argmax()
            assert torch.equal(read[at], scoring.base.get_input_embeddings().weight[id])


def test_check_6_an_example_without_assistant_text_is_refused():
    with pytest.raises(DataError, match="no assistant text to learn from"):
        prepare(
            [Example({"text": chat("u: Hello there")}, {}, {"id": "odd"})],
            Renderer(tokenizer()),
            ("text",),
            length=99,
        )


def test_check_6_the_table_is_the_model_s_own_at_every_step_also_after_it_grew():
    scoring = scored(pad)
    batch = pad(chats())
    rows = scoring.base.resize_token_embeddings(330)
    with torch.no_grad():
        rows.weight.mul_(0.0)
        rows.weight[325] = 1.0  # the table is the head, too: a new id, which is now guessed or nothing is
    run = run_of(scoring, batch)
    assert run.table(torch.tensor([325])).tolist() == [[1.0] * 32]
    assert mixed(run, torch.full_like(batch.place, 325), mix=1.0)[0, batch.place[0]].tolist() == [1.0] * 32
    assert run.loss().values.isfinite().all()


@LAYOUTS
def test_check_1_the_loop_learns_the_same_as_plain_fine_tuning(layout, tmp_path):
    """Three steps, the table frozen, sequences of equally many trained tokens."""
    window = [
        Rendered(f"x{n}", {"text": (tokens([n + 3, *range(9, 30), n + 5, n + 9], 5),)}) for n in range(6)
    ]
    ends = []
    for name, method in (
        ("sft", Method(lambda s: Loss(-s.logprobs), "token")),
        ("ift", Method(PLAIN, "sequence", forward=True)),
    ):
        scoring = scored(layout, tied=False)
        scoring.base.get_input_embeddings().weight.requires_grad_(False)
        options = Fit(steps=3, batch=3, lr=1e-3, row=90, checkpoint=9)
        fit(
            scoring,
            Stream(window, batch=3, order="shuffled", seed=0),
            method,
            options,
            directory=tmp_path / name,
            recorder=Figures(),
            place=Place(device="cpu"),
            seed=0,
            layout=layout,
        )
        ends.append({name: p.detach() for name, p in scoring.named_parameters()})
    start = dict(scored(layout, tied=False).named_parameters())
    moved = 0.0
    for name, learnt in ends[0].items():
        torch.testing.assert_close(ends[1][name], learnt, rtol=1e-3, atol=1e-5, msg=name)  # Adam's divisions
        moved = max(moved, float((learnt - start[name]).detach().abs().max()))
    assert moved > 1e-3
