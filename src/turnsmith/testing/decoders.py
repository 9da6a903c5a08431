"""What every decoder keeps. A check takes the function with its options, its members, and the sizes of its
heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from turnsmith.models.combination import Mix, mixed
from turnsmith.models.heads import Head
from turnsmith.sample.engine import LocalEngine
from turnsmith.sample.lockstep import Beside
from turnsmith.testing.builders import model
from turnsmith.types import Sampling, Size

Function = Callable[..., Tensor]
ROWS, VOCABULARY = 5, 13


def every_row_has_a_distribution(
    function: Function, members: Sequence[str], heads: Mapping[str, Size]
) -> None:
    """A number for each token, or -inf for one that may not come; never only these, and no nan."""
    found = function(**_logits(members), **_said(heads))
    assert found.shape == (ROWS, VOCABULARY)
    assert not found.isnan().any()
    assert not (found == torch.inf).any()
    assert found.isfinite().any(1).all()


def a_row_does_not_depend_on_the_others(
    function: Function, members: Sequence[str], heads: Mapping[str, Size]
) -> None:
    """Replies are drawn in batches."""
    logits, said = _logits(members), _said(heads)
    whole = function(**logits, **said)
    for row in range(ROWS):
        given = {name: values[row : row + 1] for name, values in (logits | said).items()}
        torch.testing.assert_close(function(**given)[0], whole[row])


def a_constant_in_all_logits_of_a_member_changes_no_probability(
    function: Function, members: Sequence[str], heads: Mapping[str, Size]
) -> None:
    """Models are free to add one at each position."""
    logits, said = _logits(members), _said(heads)
    expected = function(**logits, **said).softmax(1)
    for name in members:
        moved = {**logits, name: logits[name] + torch.arange(ROWS)[:, None]}
        torch.testing.assert_close(function(**moved, **said).softmax(1), expected, atol=1e-5, rtol=1e-4)


def what_it_is_given_stays_as_it_is(
    function: Function, members: Sequence[str], heads: Mapping[str, Size]
) -> None:
    """The lead's logits are read again, for penalties and log-probs."""
    given = _logits(members) | _said(heads)
    before = {name: values.clone() for name, values in given.items()}
    function(**given)
    assert all(torch.equal(given[name], values) for name, values in before.items())


DecoderCheck = Callable[[Function, Sequence[str], Mapping[str, Size]], None]
DECODER: tuple[DecoderCheck, ...] = (
    every_row_has_a_distribution,
    a_row_does_not_depend_on_the_others,
    a_constant_in_all_logits_of_a_member_changes_no_probability,
    what_it_is_given_stays_as_it_is,
)


def the_lead_speaks_alone(function: Function, members: Sequence[str], heads: Mapping[str, Size]) -> None:
    """With options that take all others out, greedy replies are the lead's, token by token."""
    models = {name: model(seed=seed) for seed, name in enumerate(members)}
    lead = members[0]
    mix: Mix = partial(mixed, function, lead)
    torch.manual_seed(0)
    projections: dict[str, Head] = {
        name: nn.Linear(32, models[lead].config.vocab_size if size == "vocab" else 1)
        for name, size in heads.items()
    }
    others = {name: LocalEngine(one, stop=()) for name, one in models.items() if name != lead}
    both = LocalEngine(models[lead], stop=(), beside=Beside(others, mix, projections))
    prompts, sampling = [[5, 6, 7], [9, 3]], Sampling(0.0, max_new=8)
    found = both.generate(prompts, sampling=sampling, seeds=[0, 0])
    alone = LocalEngine(models[lead], stop=()).generate(prompts, sampling=sampling, seeds=[0, 0])
    assert [one.ids for one in found] == [one.ids for one in alone]


def _logits(members: Sequence[str]) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: 2 * torch.randn(ROWS, VOCABULARY) for name in members}


def _said(heads: Mapping[str, Size]) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {
        name: torch.randn(ROWS, VOCABULARY) if size == "vocab" else torch.randn(ROWS)
        for name, size in heads.items()
    }
