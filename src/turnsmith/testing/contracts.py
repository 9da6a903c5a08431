"""What every objective and every trainable keeps, as checks that raise AssertionError.

Your own components are held to the same: loop over OBJECTIVE or TRAINABLE in a parametrised test.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from turnsmith.data.batch import fill_rows, pack, pad
from turnsmith.models import forest, load
from turnsmith.models.needs import TARGET, count_of, is_own, read_of
from turnsmith.models.needs import others as others_of
from turnsmith.models.score import Scoring
from turnsmith.testing.builders import Told, examples, model, tokenizer
from turnsmith.train.learning import Learning
from turnsmith.train.method import Method, unit_weights, units
from turnsmith.train.optim import adamw
from turnsmith.train.options import Fit
from turnsmith.train.passes import Passes
from turnsmith.trainables.install import Learner, install, learning
from turnsmith.types import Batch, Loss, Rendered, Scores, Size, Value
from turnsmith.types import Path as ForestPath

SIZES = (3, 0, 1, 5)  # trained tokens of the examples' answers: one is empty
SEVERAL = {"replies": 3}  # how many conversations these parts have; the others have one
HUGE = 50.0  # a log-ratio far beyond what exp can take in fp16 and what a sigmoid tells from 0 or 1

Layout = Callable[[Sequence[Rendered]], Batch]
Component = Callable[..., Any]
RECORDED = (  # of every step, beside the metrics of its objective
    "step", "total", "loss", "penalty", "tokens", "supervised", "slots", "flops", "gradient", "lr", "seconds",
)  # fmt: skip

# ------------------------------------------------------------------------------------- objectives


def losses_and_metrics_come_per_unit(method: Method, parts: Sequence[str]) -> None:
    """As many values as there are units, in the losses and in every metric, none of which has a name under
    which a step records something else."""
    scores = given(method, parts, SIZES)
    loss = loss_of(method, scores)
    assert loss.values.shape == unit_weights(method.per, scores).shape
    for name, values in loss.metrics.items():
        assert values.shape == loss.values.shape, name
        assert name not in RECORDED, name


def an_example_has_the_same_loss_in_any_place_and_company(method: Method, parts: Sequence[str]) -> None:
    """Its values sum to the same in any order of the examples, and alone."""
    forth = per_example(method, given(method, parts, SIZES, order=(0, 1, 2, 3)))
    back = per_example(method, given(method, parts, SIZES, order=(3, 2, 1, 0)))
    torch.testing.assert_close(forth, back.flip(0))
    for number in range(len(SIZES)):
        alone = per_example(method, given(method, parts, SIZES, order=(number,)))
        torch.testing.assert_close(alone[0], forth[number])


def everything_is_finite_at_the_edges(method: Method, parts: Sequence[str]) -> None:
    """Losses and gradients, for log-ratios of +-50 and for empty answers."""
    for shift in (HUGE, -HUGE):
        for sizes in (SIZES, (0, 0)):
            scores = given(method, parts, sizes, shift=shift)
            loss = loss_of(method, scores)
            assert loss.values.isfinite().all()
            seen = [scores.logprobs, *scores.reduced.values(), *scores.heads.values(), *scores.read.values()]
            for each in torch.autograd.grad(loss.values.sum(), seen, allow_unused=True):
                assert each is None or each.isfinite().all()


def nothing_is_learned_outside_trained_tokens(method: Method, parts: Sequence[str]) -> None:
    """The gradient reaches the last hidden states at the sources of trained tokens, and there alone."""
    scoring = Scoring(_packable(model()), heads=method.heads, targets=method.targets)
    batch = pack(_pairs(method, parts, scoring, 3))
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        if output.last_hidden_state.requires_grad:  # a first pass may have none
            output.last_hidden_state.retain_grad()
            kept.append(output.last_hidden_state)

    hook = getattr(scoring.base, scoring.base.base_model_prefix).register_forward_hook(keep)
    told = replace(method, others=_others(method))
    Passes(scoring, scoring, batch, told, 1.0).loss().values.sum().backward()
    hook.remove()
    (states,) = kept
    assert states.grad is not None
    reached = states.grad.flatten(0, 1).abs().sum(1) > 0
    allowed = torch.zeros_like(reached)
    allowed[batch.source] = True
    reads = {*method.reads, *scoring.heads.reads}
    if "last" in reads:
        allowed[batch.reads] = True
    if "mean" in reads or any(map(is_own, method.heads.values())):
        allowed[batch.place] = True
    assert reached.any()
    assert not (reached & ~allowed).any()


def the_gradient_is_the_same_however_the_window_is_cut(method: Method, parts: Sequence[str]) -> None:
    """Packed or padded, in one micro-batch or one for each example, forwards or backwards."""
    scoring = Scoring(_packable(model()), heads=method.heads, targets=method.targets)
    window = _pairs(method, parts, scoring, 5)
    expected = _gradient(method, scoring, window, pad, 10**6)
    assert expected.abs().max() > 0
    cuts = [(window, pad, 1), (window, pack, 10**6), (window, pack, 1), (window[::-1], pack, 90)]
    for ones, layout, row in cuts:
        found = _gradient(method, scoring, ones, layout, row)
        # Sums of some thousand products in another order, in fp32.
        near = 1e-5 * max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=near)


def what_is_declared_linear_is_linear(method: Method, parts: Sequence[str]) -> None:
    """The gradient with respect to the log-probs is the same whatever they are, where `linear` says so."""
    if not method.linear:
        return
    scores = given(method, parts, SIZES)
    slopes = []
    for logprobs in (scores.logprobs, 3 * scores.logprobs.detach() - 1):
        moved = replace(scores, logprobs=logprobs.requires_grad_())
        slopes += torch.autograd.grad(method.objective(moved).values.sum(), moved.logprobs)
    torch.testing.assert_close(*slopes)


ObjectiveCheck = Callable[[Method, Sequence[str]], None]
OBJECTIVE: tuple[ObjectiveCheck, ...] = (
    losses_and_metrics_come_per_unit,
    an_example_has_the_same_loss_in_any_place_and_company,
    everything_is_finite_at_the_edges,
    nothing_is_learned_outside_trained_tokens,
    the_gradient_is_the_same_however_the_window_is_cut,
    what_is_declared_linear_is_linear,
)


def given(
    method: Method,
    parts: Sequence[str],
    sizes: Sequence[int],
    *,
    order: Sequence[int] | None = None,
    shift: float = 0.0,
) -> Scores:
    """Scores of examples with so many trained tokens in each part; an example's do not depend on the others.

    shift: the log-ratio of the first part's tokens; the other parts' have its negative.
    """
    paths: list[ForestPath] = []
    rows: list[Tensor] = []
    states: list[Tensor] = []  # of each path, for read-outs and the heads on them
    heads: dict[str, Size] = {**method.heads}
    heads |= {name + TARGET: method.heads[name] for name in method.targets}
    named = (*method.needs, *heads, *method.extras)
    numbered = list(range(len(sizes)) if order is None else order)
    for owner, number in enumerate(numbered):
        for rank, (part, place) in enumerate(_conversations(parts)):
            generator = torch.Generator().manual_seed(100 * number + rank)
            drawn = torch.rand(sizes[number], 2 + len(named), generator=generator, dtype=torch.float64)
            drawn[:, 0] -= 1.5
            ratio = (shift or 1.0 - drawn[:, 1]) * (1 if rank == 0 else -1)
            at = drawn.new_full((len(drawn),), len(paths))
            own = torch.stack([drawn[:, 0], 0.5 + drawn[:, 1], drawn[:, 0] - ratio, at], 1)
            rows.append(torch.cat([own, drawn[:, 2:]], 1))
            states.append(torch.randn(8, generator=generator, dtype=torch.float64))
            paths.append(ForestPath(owner, part, place))
    table = torch.cat(rows)
    numbers = {name: table[:, 4 + index].clone().requires_grad_() for index, name in enumerate(named)}
    read = torch.stack(states).requires_grad_()
    return Scores(
        logprobs=table[:, 0].clone().requires_grad_(),
        weights=table[:, 1],
        turns=torch.zeros(len(table), dtype=torch.long),
        path=table[:, 3].long(),
        paths=tuple(paths),
        examples=len(numbered),
        reference=table[:, 2] if method.reference else None,
        read=dict.fromkeys(method.reads, read),
        extras={name: numbers[name].detach() for name in method.extras},
        values={
            name: torch.tensor([one for number in numbered for one in _outcomes(parts, number)])
            for name in method.values
        },
        heads={name: _said(numbers[name], read, size) for name, size in heads.items()},
        reduced={name: numbers[name] for name in method.needs},
    )


def _conversations(parts: Sequence[str]) -> list[tuple[str, int]]:
    """The part and the number of each conversation of an example."""
    return [(part, number) for part in parts for number in range(SEVERAL.get(part, 1))]


def _outcomes(parts: Sequence[str], number: int) -> tuple[float, ...]:
    """The values of an example, one for each conversation of a part that has several: some are 0, some below
    it, some the same."""
    count = max(SEVERAL.get(part, 1) for part in parts)
    return tuple(number / 2 - 0.5 + at % 2 for at in range(count))


def _said(numbers: Tensor, read: Tensor, size: Size) -> Tensor:
    """What a head says: numbers (N,) or a read-out (P, H) of its own, as many columns as it gives."""
    one, count = read[:, 0] if read_of(size) else numbers, count_of(size)
    return one if count in (1, "vocab") else torch.stack([one * at for at in range(int(count))], 1)


def loss_of(method: Method, scores: Scores) -> Loss:
    """What the objective says of given scores, in as many passes as it asks for."""
    return method.objective(Told(scores) if method.forward else scores)


def per_example(method: Method, scores: Scores) -> Tensor:
    """(E,): the weighted sum of the losses of each example's units."""
    values = loss_of(method, scores).values * unit_weights(method.per, scores)
    owners = torch.tensor([path.example for path in scores.paths])
    of = {"token": owners[scores.path], "sequence": owners, "example": torch.arange(scores.examples)}
    return values.new_zeros(scores.examples).index_add(0, of[method.per], values)


def _pairs(method: Method, parts: Sequence[str], scoring: Scoring, count: int) -> list[Rendered]:
    """Examples with the parts, values and extras, and reference log-probs where they are needed: of another
    model."""
    named = _conversations(parts)
    made: list[Rendered] = []
    for number, one in enumerate(examples(count, parts=[f"{part} {at}" for part, at in named])):
        ones = {
            part: tuple(one.parts[f"{part} {at}"][0] for name, at in named if name == part) for part in parts
        }
        outcomes = _outcomes(parts, number)
        value: Value = outcomes if len(outcomes) > 1 else max(outcomes)
        made.append(Rendered(one.id, ones, dict.fromkeys(method.values, value)))
    extras = (*(["reference"] if method.reference else []), *method.extras)

    def extended(example: Rendered) -> Rendered:
        ones = {
            part: tuple(
                replace(
                    t,
                    extras={name: t.weights * -(2.0 + t.inputs % (7 + at)) for at, name in enumerate(extras)},
                )
                for t in some
            )
            for part, some in example.parts.items()
        }
        return replace(example, parts=ones)

    return [extended(example) for example in made]


def _gradient(
    method: Method, scoring: Scoring, window: Sequence[Rendered], layout: Layout, row: int
) -> Tensor:
    """All gradients of one window, summed over its micro-batches and divided once."""
    batches = [layout(run) for run in fill_rows(window, row, layout=layout, per=method.per)]
    total = sum(units(method.per, batch) for batch in batches)
    scoring.zero_grad()
    told = replace(method, others=_others(method))
    for batch in batches:
        values = Passes(scoring, scoring, batch, told, 1.0).loss().values
        ((values * unit_weights(method.per, batch)).sum() / total).backward()
    return torch.cat([p.grad.flatten() for p in scoring.parameters() if p.grad is not None])


def _others(method: Method) -> dict[str, Scoring]:
    """A model for each name that the objective's needs are against."""
    names = others_of(method.needs)
    return {name: Scoring(_packable(model(seed=seed))) for seed, name in enumerate(names, start=1)}


def _packable(made: nn.Module) -> nn.Module:
    forest.attach(made)
    return made


# ------------------------------------------------------------------------------------- trainables


def what_is_not_selected_stays_bit_identical(component: Component, options: Mapping[str, Any]) -> None:
    """Over three steps with weight decay; all parameters that are selected move, and of those that learn in
    part no element that does not learn."""
    learner = Learner(subject(), component, options, seed=0)
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    _three_steps(learner)
    learns = learning(learner.model)
    for name, parameter in learner.model.named_parameters():
        still = torch.ones_like(parameter, dtype=torch.bool)
        if name in learns:
            assert not torch.equal(parameter, before[name]), f"{name} learns and has not changed"
            still = ~learner.elements.get(name, still)
        assert torch.equal(parameter[still], before[name][still]), f"{name} is frozen and has changed"


def the_optimiser_has_a_state_for_what_learns_alone(component: Component, options: Mapping[str, Any]) -> None:
    """And for all of it: as many numbers as learn."""
    learner = Learner(subject(), component, options, seed=0)
    state = _three_steps(learner).state
    held = sum(one["exp_avg"].numel() for one in state.values())
    elements = learner.elements
    learns = learning(learner.model)
    assert held == sum(int(elements[n].sum()) if n in elements else p.numel() for n, p in learns.items())


def the_same_seed_gives_the_same_start(component: Component, options: Mapping[str, Any]) -> None:
    """The same weights and the same choice, whatever the global generator says."""
    torch.manual_seed(1)
    first = install(subject(), component, options, seed=3)
    torch.manual_seed(2)
    second = install(subject(), component, options, seed=3)
    one, other = dict(first.named_parameters()), dict(second.named_parameters())
    assert one.keys() == other.keys()
    assert learning(first).keys() == learning(second).keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def what_learns_is_fp32(component: Component, options: Mapping[str, Any]) -> None:
    """On a model in bf16 too."""
    whole = install(subject().to(torch.bfloat16), component, options, seed=0)
    assert {parameter.dtype for parameter in learning(whole).values()} == {torch.float32}


def what_is_saved_gives_the_same_logits(component: Component, options: Mapping[str, Any]) -> None:
    """Trained, saved and loaded again: the same bits in fp32."""
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory) / "base"
        words = tokenizer()
        load.save(subject(), words, base, base=None)
        learner = Learner(load.load(str(base))[0], component, options, seed=0)
        _three_steps(learner)
        whole = learner.finished()
        load.save(whole, words, Path(directory) / "tuned", base=str(base))
        again, _ = load.load(str(Path(directory) / "tuned"))
        ids = torch.arange(3, 40)[None]
        with torch.no_grad():
            found, expected = (m.eval()(input_ids=ids, use_cache=False).logits for m in (again, whole))
            start = load.load(str(base))[0](input_ids=ids, use_cache=False).logits
    assert torch.equal(found, expected)
    assert not torch.equal(found, start)


TrainableCheck = Callable[[Component, Mapping[str, Any]], None]
TRAINABLE: tuple[TrainableCheck, ...] = (
    what_is_not_selected_stays_bit_identical,
    the_optimiser_has_a_state_for_what_learns_alone,
    the_same_seed_gives_the_same_start,
    what_learns_is_fp32,
    what_is_saved_gives_the_same_logits,
)


def subject() -> nn.Module:
    """The model that trainables are tried on: five blocks, with bias terms."""
    return model(layers=5, bias=True)


def _three_steps(learner: Learner) -> torch.optim.Optimizer:
    scoring = Scoring(learner.model)
    held = Learning(scoring, {f"model.{name}": which for name, which in learner.elements.items()})
    optimizer = adamw(held.parameters.values(), Fit(steps=3, lr=1e-2, weight_decay=0.1))
    for step in range(3):
        scoring(pad(examples(2, seed=step))).logprobs.sum().backward()
        held.gather()
        optimizer.step()
        optimizer.zero_grad()
        held.scatter()
    return optimizer
