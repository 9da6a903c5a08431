"""The loop: one normalisation however a window is cut, and the same run whether it is interrupted or not."""

import functools
import os
import signal
import time
from dataclasses import replace

import pytest
import torch

from turnsmith.data.batch import pack, pad
from turnsmith.data.prepare import prepare
from turnsmith.data.render import Renderer
from turnsmith.data.stream import Stream
from turnsmith.errors import TrainingError
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.objectives.likelihood import sft
from turnsmith.objectives.pairs import dpo
from turnsmith.testing import Figures, chat, examples, model, tokenizer, tokens
from turnsmith.train.loop import fit
from turnsmith.train.method import Method
from turnsmith.train.options import Fit
from turnsmith.train.place import Place
from turnsmith.train.stop import Interrupted
from turnsmith.trainables.install import install, learning
from turnsmith.trainables.lora import Lora
from turnsmith.types import Example, Loss, Rendered, Scores

SFT = Method(sft, "token", linear=True)
DPO = Method(functools.partial(dpo, beta=0.5), "example", reference=True)


def adapted(*, dropout=0.0):
    """A scoring of the tiny model with a fresh adapter, which can have packed rows."""
    whole = model()
    forest.attach(whole)
    return Scoring(install(whole, Lora, {"rank": 4, "dropout": dropout}, seed=0))


def run(
    directory,
    data,
    *,
    method=SFT,
    recorder=None,
    scoring=None,
    dropout=0.0,
    layout=pack,
    validate=None,
    watch=None,
    **options,
):
    """One `fit`; gives the scoring, the recorded rows and the totals."""
    chosen = Fit(**{"steps": 4, "batch": 3, "lr": 1e-2, **options})
    scoring = scoring or adapted(dropout=dropout)
    stream = Stream(data, batch=chosen.batch, order=chosen.order, seed=0)
    figures = recorder or Figures()
    totals = fit(
        scoring,
        stream,
        method,
        chosen,
        directory=directory,
        recorder=figures,
        place=Place(device="cpu"),
        seed=0,
        layout=layout,
        validate=validate,
        watch=watch,
    )
    return scoring, figures.rows, totals


def weights(scoring):
    return torch.cat([p.detach().flatten() for p in learning(scoring).values()])


def unclocked(rows):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def with_reference(data):
    """The examples with reference log-probs that are no model's: -2, -3 ... by the token."""

    def extended(one):
        return type(one)(
            one.inputs,
            one.targets,
            one.weights,
            one.turns,
            {"reference": -2.0 - one.inputs % 3 * one.weights},
        )

    return [
        Rendered(x.id, {name: tuple(map(extended, ones)) for name, ones in x.parts.items()}) for x in data
    ]


# ---------------------------------------------------------------------- against plain transformers

CHATS = [
    chat("u: Hello there", "a: I am fine, thank you.", "u: What is two plus two?", "a: four"),
    chat("s: Tell me", "u: a story about the sea", "a: The cat sat on the mat while the dog slept."),
    chat("u: Hi", "a: Yes"),
]


def by_hand(words):
    """Ids and labels of CHATS, piece by piece: labels are the assistant's words and the mark after them."""
    rows = []
    for conversation in CHATS:
        ids, labels = [], []
        for message in conversation.messages:
            start = words(f"<|im_start|>{message.role}\n")["input_ids"]
            said = words(message.content)["input_ids"] + words("<|im_end|>")["input_ids"]
            end = words("\n")["input_ids"]
            learns = said if message.role == "assistant" else [-100] * len(said)
            ids += start + said + end
            labels += [-100] * len(start) + learns + [-100] * len(end)
        rows.append((ids, labels))
    return rows


@pytest.mark.parametrize("row", [1, 4096])
@pytest.mark.parametrize("layout", [pack, pad])
def test_the_first_loss_and_gradient_are_those_of_plain_transformers_on_the_same_conversations(
    tmp_path, row, layout
):
    words = tokenizer()
    rows = by_hand(words)
    width = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in rows])
    labels = torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in rows])
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in rows])
    plain = adapted()
    loss = plain.model(
        input_ids=ids, attention_mask=mask, labels=labels
    ).loss  # mean over labels that are not -100
    loss.backward()
    expected = [p.grad for p in learning(plain).values()]

    given = [Example({"text": said}, meta={"id": str(number)}) for number, said in enumerate(CHATS)]
    data, _ = prepare(given, Renderer(words), ["text"], length=999)
    _, figures, _ = run(tmp_path, data, steps=1, row=row, layout=layout, clip=0.0)
    assert figures[0]["loss"] == pytest.approx(loss.item(), abs=1e-5)
    assert figures[0]["supervised"] == int((labels >= 0).sum())
    norm = torch.cat([g.flatten() for g in expected]).norm()
    assert figures[0]["gradient"] == pytest.approx(norm.item(), rel=1e-4)
    kept = torch.load(tmp_path / "step-0000001" / "optimizer.pt")["state"]
    for index, gradient in enumerate(
        expected
    ):  # Adam's first moment after one step is 0.1 times the gradient
        torch.testing.assert_close(kept[index]["exp_avg"] * 10, gradient, rtol=1e-4, atol=1e-5)


def test_a_token_counts_the_same_in_a_long_answer_as_in_a_short_one(tmp_path):
    data = [
        Rendered("short", {"text": (tokens([5, 6, 7, 8], 1),)}),
        Rendered("long", {"text": (tokens(list(range(9, 29)), 9),)}),
    ]
    whole = model()
    nats = [
        -whole(input_ids=torch.tensor([list(x.parts["text"][0].inputs)]).long()).logits[0].log_softmax(-1)
        for x in data
    ]
    one = nats[0][2, 8]
    nine = sum(nats[1][at - 1, 9 + at] for at in range(11, 20))
    _, figures, _ = run(tmp_path, data, steps=1, batch=2, row=1)
    assert figures[0]["loss"] == pytest.approx(((one + nine) / 10).item(), abs=1e-5)


def weighted(s: Scores) -> Loss:
    """Log-probs scaled by what the data say each token is worth."""
    return Loss(-s.logprobs * s.extras["advantage"])


def test_an_advantage_scales_the_loss_and_is_not_counted(tmp_path):
    """A loss weight counts in the denominator; an advantage of 3 triples the loss of its tokens."""
    plain = examples(2)
    scaled = [
        Rendered(
            x.id, {"text": tuple(replace(t, extras={"advantage": 3 * t.weights}) for t in x.parts["text"])}
        )
        for x in plain
    ]
    _, ones, _ = run(tmp_path / "a", plain, steps=1, batch=2)
    _, threes, _ = run(tmp_path / "b", scaled, steps=1, batch=2, method=Method(weighted, "token"))
    assert threes[0]["loss"] == pytest.approx(3 * ones[0]["loss"], rel=1e-6)
    assert threes[0]["gradient"] == pytest.approx(3 * ones[0]["gradient"], rel=1e-5)


# --------------------------------------------------------------------------- windows and their cuts


@pytest.mark.parametrize(("method", "parts"), [(SFT, ("text",)), (DPO, ("chosen", "rejected"))])
def test_a_run_is_the_same_however_its_windows_are_cut(tmp_path, method, parts):
    data = examples(7, parts=parts)
    data = with_reference(data) if method.reference else data
    whole, rows, _ = run(tmp_path / "whole", data, method=method, row=10**6)
    for name, options in {
        "tiny": {"row": 1},
        "some": {"row": 60},
        "padded": {"row": 60, "layout": pad},
    }.items():
        cut, found, _ = run(tmp_path / name, data, method=method, **options)
        for one, other in zip(rows, found, strict=True):
            for figure in set(one) - {"seconds", "tokens", "slots", "flops"}:
                assert other[figure] == pytest.approx(one[figure], abs=1e-4), figure
        torch.testing.assert_close(
            weights(cut), weights(whole), rtol=0, atol=2e-4
        )  # Adam divides small gradients


def test_an_example_without_a_trained_token_in_a_window_changes_nothing_but_itself(tmp_path):
    data = [*examples(2), Rendered("empty", {"text": (tokens(list(range(3, 30)), 0),)})]
    _, with_empty, _ = run(tmp_path / "a", data, steps=1, batch=3, row=1)
    _, without, _ = run(tmp_path / "b", data[:2], steps=1, batch=2, row=1)
    assert with_empty[0]["loss"] == pytest.approx(without[0]["loss"], abs=1e-6)
    assert with_empty[0]["gradient"] == pytest.approx(without[0]["gradient"], abs=1e-5)


def test_a_window_without_a_trained_token_is_an_error_that_names_its_examples(tmp_path):
    data = [Rendered(name, {"text": (tokens(list(range(3, 30)), 0),)}) for name in ("a", "b")]
    with pytest.raises(TrainingError, match="a step without a trained token: a, b"):
        run(tmp_path, data, batch=2, order="given")


def test_counts_add_up(tmp_path):
    data = examples(4)
    _, rows, totals = run(tmp_path, data, steps=2, batch=2, row=1, order="given")
    assert [row["tokens"] for row in rows] == [
        sum(len(x.parts["text"][0]) for x in data[:2]), sum(len(x.parts["text"][0]) for x in data[2:])
    ]  # fmt: skip
    assert totals["supervised"] == sum(int(x.parts["text"][0].weights.sum()) for x in data)
    assert totals["step"] == 2


def test_the_loss_falls(tmp_path):
    _, rows, _ = run(tmp_path, examples(3), steps=15)
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]


@pytest.mark.parametrize("clip", [1e-3, 0.0])
def test_the_gradient_is_clipped_to_the_norm_asked_for_and_recorded_as_it_was(tmp_path, clip):
    _, rows, _ = run(tmp_path, examples(3), steps=1, clip=clip)
    kept = torch.load(tmp_path / "step-0000001" / "optimizer.pt")["state"].values()
    norm = 10 * torch.cat([each["exp_avg"].flatten() for each in kept]).norm().item()
    assert rows[0]["gradient"] > 0.1
    assert norm == pytest.approx(clip or rows[0]["gradient"], rel=1e-3)


# -------------------------------------------------------------------- interruption, resume, failure


class Until(Figures):
    """A recorder that does something at one step."""

    def __init__(self, step, act):
        super().__init__()
        self.when, self.act = step, act

    def step(self, values):
        super().step(values)
        if values["step"] == self.when:
            self.act()


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def crash():
    raise RuntimeError("the machine went down")


def final(directory):
    """The last checkpoint's files without its clock."""
    path = max(directory.glob("step-*"))
    return {name: (path / name).read_bytes() for name in ("learning.safetensors", "optimizer.pt")}


@pytest.mark.parametrize(
    ("act", "raised", "goes_on"), [(interrupt, Interrupted, 5), (crash, RuntimeError, 4)]
)
def test_a_run_that_was_stopped_goes_on_to_the_same_bits_as_one_that_was_not(tmp_path, act, raised, goes_on):
    data = examples(5)  # windows of 3 reach over the ends of epochs, so the order matters
    options = {"dropout": 0.1, "steps": 8, "checkpoint": 4, "weight_decay": 0.1}
    whole, rows, totals = run(tmp_path / "whole", data, **options)
    recorder = Until(5, act)
    with pytest.raises(raised):
        run(tmp_path / "cut", data, recorder=recorder, **options)
    recorder.when = None
    left = max((tmp_path / "cut").glob("step-*")).name
    assert left == f"step-{goes_on:07d}"
    resumed, again, others = run(tmp_path / "cut", data, recorder=recorder, **options)
    assert torch.equal(weights(resumed), weights(whole))
    assert final(tmp_path / "cut") == final(tmp_path / "whole")
    assert unclocked(again) == unclocked(rows)
    assert {**others, "seconds": 0} == {**totals, "seconds": 0}


def test_dropout_is_on_in_training_and_differs_between_steps(tmp_path):
    still = {"steps": 2, "batch": 3, "lr": 0.0, "order": "given"}
    _, dry, _ = run(tmp_path / "a", examples(3), **still, dropout=0.0, scoring=_moved(adapted()))
    _, wet, _ = run(tmp_path / "b", examples(3), **still, scoring=_moved(adapted(dropout=0.5)))
    assert dry[0]["loss"] == dry[1]["loss"]
    assert len({dry[0]["loss"], wet[0]["loss"], wet[1]["loss"]}) == 3


def _moved(scoring):
    with torch.no_grad():
        for name, parameter in learning(scoring).items():
            if "lora_B" in name:
                parameter.fill_(0.05)
    return scoring


def test_after_a_torn_checkpoint_the_run_goes_on_from_the_one_before_to_the_same_end(tmp_path, capsys):
    data, options = examples(5), {"steps": 6, "checkpoint": 2}
    whole, _, _ = run(tmp_path / "whole", data, **options)
    with pytest.raises(RuntimeError):
        run(tmp_path / "cut", data, recorder=Until(5, crash), **options)
    torn = tmp_path / "cut" / "step-0000004" / "optimizer.pt"
    torn.write_bytes(torn.read_bytes()[:100])
    resumed, _, _ = run(tmp_path / "cut", data, **options)
    assert "step-0000004 is broken" in capsys.readouterr().err
    assert torch.equal(weights(resumed), weights(whole))


def test_a_finished_run_is_not_run_again(tmp_path):
    first, _, _ = run(tmp_path, examples(3))
    second, rows, totals = run(tmp_path, examples(3))
    assert torch.equal(weights(first), weights(second))
    assert rows == []
    assert totals["step"] == 4


# ------------------------------------------------------------------------------- steps that are refused


def weighed(s: Scores) -> Loss:
    """The likelihood of each example times a number that it brings along."""
    return Loss(-s.sums("text") * s.values["worth"])


def rooted(s: Scores) -> Loss:
    """What is worth nothing adds a root at 0: its loss is 0, and its slope is not a number."""
    return Loss((s.sums("text") * s.values["worth"]).abs().sqrt())


WEIGHED, ROOTED = Method(weighed, "example"), Method(rooted, "example")
INFINITE = float("inf")


def worth(*numbers):
    """Examples with these values."""
    return [
        Rendered(f"x{at}", one.parts, {"worth": numbers[at]}) for at, one in enumerate(examples(len(numbers)))
    ]


def moments(directory):
    path = max(directory.glob("step-*"))
    return torch.load(path / "optimizer.pt")["state"]


def test_a_loss_that_is_no_number_stops_the_run_before_it_reaches_the_weights(tmp_path):
    scoring = adapted()
    before = weights(scoring)
    scoring.base.model.norm.weight.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"step 1: the loss is nan .*Lower the learning rate"):
        run(tmp_path, examples(3), scoring=scoring)
    assert torch.equal(weights(scoring), before)
    assert not list(tmp_path.iterdir())  # nothing had been learnt


@pytest.mark.parametrize("row", [1, 4096])
def test_a_refused_step_names_the_examples_whose_loss_is_no_number(tmp_path, row):
    data = worth(1.0, INFINITE, 1.0, float("nan"))
    with pytest.raises(TrainingError, match=r"Their losses are no number: examples 'x1', 'x3'\. Lower"):
        run(tmp_path, data, method=WEIGHED, batch=4, order="given", row=row)


def test_where_no_loss_is_to_blame_a_handful_of_the_step_is_named_and_how_many_more(tmp_path):
    with pytest.raises(TrainingError, match=r"the gradient norm nan.*alone is a number.*'x4' and 2 more\. L"):
        run(tmp_path, worth(*[0.0] * 7), method=ROOTED, batch=7, order="given")


def test_the_state_before_a_refused_step_is_kept_and_is_that_of_a_run_that_ended_there(tmp_path):
    data = worth(1.0, 1.0, 1.0, 1.0, INFINITE, 1.0)
    options = {"method": WEIGHED, "batch": 2, "order": "given", "schedule": "constant", "warmup": 0.0}
    scoring = adapted()
    with pytest.raises(TrainingError, match=r"step 3: .*the state after step 2 is kept"):
        run(tmp_path / "a", data, scoring=scoring, steps=3, **options)
    ended, _, _ = run(tmp_path / "b", data, steps=2, **options)
    assert torch.equal(weights(scoring), weights(ended))
    assert final(tmp_path / "a") == final(tmp_path / "b")


def test_a_step_may_be_left_out_and_is_counted(tmp_path, capsys):
    data = worth(1.0, 1.0, INFINITE, 1.0, 1.0, 1.0)
    _, rows, totals = run(tmp_path, data, method=WEIGHED, steps=3, batch=2, order="given", nonfinite="skip")
    assert totals["skipped"] == 1
    assert [row.get("skipped") for row in rows] == [None, 1.0, None]
    assert {int(one["step"]) for one in moments(tmp_path).values()} == {2}  # steps that the optimiser took
    assert "example 'x2'. The step is left out" in capsys.readouterr().err


@pytest.mark.parametrize("method", [WEIGHED, ROOTED])
def test_a_step_that_is_left_out_moves_nothing(tmp_path, method):
    scoring = adapted()
    before = weights(scoring)
    bad = worth(*[INFINITE if method is WEIGHED else 0.0] * 2)
    run(tmp_path, bad, method=method, scoring=scoring, steps=2, batch=2, weight_decay=0.5, nonfinite="skip")
    assert torch.equal(weights(scoring), before)
    assert moments(tmp_path) == {}


def test_a_run_that_leaves_steps_out_goes_on_to_the_same_bits(tmp_path):
    data = worth(1.0, INFINITE, 1.0, 1.0, 1.0)
    options = {
        "method": WEIGHED,
        "steps": 8,
        "batch": 1,
        "checkpoint": 4,
        "nonfinite": "skip",
        "dropout": 0.1,
    }
    whole, rows, totals = run(tmp_path / "whole", data, **options)
    assert totals["skipped"] > 0
    recorder = Until(5, crash)
    with pytest.raises(RuntimeError):
        run(tmp_path / "cut", data, recorder=recorder, **options)
    recorder.when = None
    resumed, again, others = run(tmp_path / "cut", data, recorder=recorder, **options)
    assert torch.equal(weights(resumed), weights(whole))
    assert final(tmp_path / "cut") == final(tmp_path / "whole")
    assert [row.get("skipped") for row in again] == [row.get("skipped") for row in rows]
    assert {**others, "seconds": 0} == {**totals, "seconds": 0}


def test_a_run_that_was_stopped_goes_on_where_the_step_may_be_left_out(tmp_path):
    data = worth(1.0, 1.0, INFINITE, 1.0)
    options = {"method": WEIGHED, "steps": 4, "batch": 1, "order": "given"}
    with pytest.raises(TrainingError, match="example 'x2'"):
        run(tmp_path / "a", data, **options)
    on, rows, totals = run(tmp_path / "a", data, nonfinite="skip", **options)
    whole, _, _ = run(tmp_path / "b", data, nonfinite="skip", **options)
    assert [row["step"] for row in rows] == [3, 4]
    assert totals["skipped"] == 1
    assert torch.equal(weights(on), weights(whole))


def test_a_model_that_gives_nothing_but_nonsense_is_not_left_to_go_on(tmp_path):
    options = {"method": WEIGHED, "steps": 20, "batch": 1, "order": "given", "nonfinite": "skip"}
    with pytest.raises(TrainingError, match=r"step 11: .*10 steps before it were no better"):
        run(tmp_path, worth(INFINITE), **options)


# -------------------------------------------------------------------------------------- validation


def scripted(values, seen=None):
    left = iter(values)

    def validate():
        if seen is not None:
            seen.append(1)
        return next(left)

    return validate


def test_the_model_is_left_with_its_best_state(tmp_path):
    data, steady = examples(5), {"schedule": "constant", "warmup": 0.0}
    best, rows, totals = run(
        tmp_path / "a", data, steps=4, evaluate=1, validate=scripted([9.0, 3.0, 1.0, 2.0, 1.5]), **steady
    )
    two, _, _ = run(tmp_path / "b", data, steps=2, **steady)
    assert torch.equal(weights(best), weights(two))
    assert [row["validation"] for row in rows] == [3.0, 1.0, 2.0, 1.5]
    assert totals["best_step"] == 2


def test_a_run_that_only_gets_worse_is_left_as_it_began(tmp_path):
    start = weights(adapted())
    left, _, totals = run(tmp_path, examples(5), steps=2, evaluate=1, validate=scripted([1.0, 2.0, 3.0]))
    assert torch.equal(weights(left), start)
    assert totals["best_step"] == 0


def test_the_best_state_survives_an_interruption(tmp_path):
    data, steady = examples(5), {"schedule": "constant", "warmup": 0.0, "steps": 4, "evaluate": 1}
    first = scripted([9.0, 3.0, 1.0, 2.0])
    with pytest.raises(Interrupted):
        run(tmp_path / "a", data, recorder=Until(3, interrupt), validate=first, **steady)
    resumed, _, totals = run(tmp_path / "a", data, validate=scripted([1.5]), **steady)
    two, _, _ = run(tmp_path / "b", data, **{**steady, "steps": 2, "evaluate": 0})
    assert torch.equal(weights(resumed), weights(two))
    assert totals["best_step"] == 2


WORSE = [9.0, 3.0, 1.0, 2.0, 1.5, 0.5]  # before the first step and after each


def test_a_run_ends_where_its_patience_does_and_is_left_with_its_best_state(tmp_path):
    data, steady = examples(5), {"schedule": "constant", "warmup": 0.0, "evaluate": 1}
    told = []
    ended, rows, totals = run(
        tmp_path / "a",
        data,
        steps=8,
        patience=2,
        validate=scripted(WORSE),
        watch=lambda done, total: told.append((done, total)),
        **steady,
    )
    two, _, _ = run(tmp_path / "b", data, steps=2, **{**steady, "evaluate": 0})
    assert [row["validation"] for row in rows] == [3.0, 1.0, 2.0, 1.5]  # 2 and 1.5 are no better than 1
    assert (totals["step"], totals["best_step"]) == (4, 2)
    assert torch.equal(weights(ended), weights(two))
    assert told[-2:] == [(3, 8), (4, 4)]  # whoever watches the last step is told that it is


def test_an_evaluation_that_is_better_begins_the_patience_anew(tmp_path):
    script = scripted([9.0, 10.0, 8.0, 9.0, 7.0, 8.0, 9.0])
    _, rows, totals = run(tmp_path, examples(5), steps=8, evaluate=1, patience=2, validate=script)
    assert len(rows) == 6
    assert totals["best_step"] == 4


def test_a_run_that_ended_by_its_patience_does_not_go_on(tmp_path):
    options = {"steps": 8, "evaluate": 1, "patience": 2}
    first, _, _ = run(tmp_path, examples(5), validate=scripted(WORSE), **options)
    again, rows, totals = run(tmp_path, examples(5), validate=scripted([]), **options)
    assert rows == []
    assert totals["step"] == 4
    assert torch.equal(weights(again), weights(first))


def test_validation_happens_at_its_steps_and_at_the_end_in_eval_mode(tmp_path):
    scoring, modes = adapted(dropout=0.1), []

    def validate():
        modes.append(scoring.training)
        return 1.0

    _, rows, _ = run(tmp_path, examples(3), scoring=scoring, steps=5, evaluate=2, validate=validate)
    assert [row["step"] for row in rows if "validation" in row] == [2, 4, 5]
    assert modes == [False] * 4  # the start counts too
    assert not scoring.training


def test_whoever_watches_is_told_of_the_start_and_every_step_and_its_time_is_not_counted(tmp_path):
    told = []

    def watch(done, total):
        told.append((done, total))
        time.sleep(0.05)

    _, rows, totals = run(tmp_path, examples(3), steps=2, watch=watch)
    assert told == [(0, 2), (1, 2), (2, 2)]
    assert totals["seconds"] == pytest.approx(sum(row["seconds"] for row in rows))
    again, _, _ = run(tmp_path / "b", examples(3), steps=2)
    first, _, _ = run(tmp_path / "c", examples(3), steps=2, watch=lambda done, total: None)
    assert torch.equal(weights(first), weights(again))


def test_going_on_is_watched_from_the_checkpoint(tmp_path):
    told, data = [], examples(4)

    def watch(done, total):
        told.append(done)
        if len(told) == 4:
            interrupt()

    with pytest.raises(Interrupted):
        run(tmp_path, data, watch=watch)
    run(tmp_path, data, watch=watch)
    assert told == [0, 1, 2, 3, 4]


def test_a_validation_that_is_no_number_is_never_the_best(tmp_path):
    nan = float("nan")
    _, _, totals = run(tmp_path, examples(3), steps=3, evaluate=1, validate=scripted([nan, nan, 2.0, nan]))
    assert totals["best_step"] == 2


# --------------------------------------------------------------- gradients of the head while logits are there


def whole():
    """A scoring of the tiny model, all of which learns."""
    made = model()
    forest.attach(made)
    return Scoring(made)


def squared(s: Scores) -> Loss:
    return Loss(s.logprobs**2)


@pytest.mark.parametrize("objective", [sft, squared])
def test_a_full_model_learns_the_same_whether_the_loss_is_called_linear_or_not(tmp_path, objective):
    ends = []
    for linear in (False, True):  # of the squared loss it is not true: its logits are computed twice
        method = Method(objective, "token", linear=linear)
        scoring, rows, _ = run(tmp_path / str(linear), examples(6), method=method, scoring=whole(), row=60)
        ends.append((weights(scoring), [row["gradient"] for row in rows]))
    torch.testing.assert_close(*[end for end, _ in ends], rtol=0, atol=2e-4)  # of steps of 1e-2
    assert ends[0][1] == pytest.approx(ends[1][1], rel=1e-4)
