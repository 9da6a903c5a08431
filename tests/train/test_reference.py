"""Reference log-probs: computed before, live beside the adapter, or from a frozen copy, they are the same."""

import functools

import pytest
import torch

from turnsmith.data.batch import pack, pad
from turnsmith.data.stream import Stream
from turnsmith.errors import StorageError
from turnsmith.models import forest
from turnsmith.models.score import Scoring
from turnsmith.objectives.pairs import dpo
from turnsmith.testing import Figures, examples, model
from turnsmith.train import reference
from turnsmith.train.loop import fit
from turnsmith.train.method import Method
from turnsmith.train.options import Fit
from turnsmith.train.place import Place
from turnsmith.trainables.install import install, learning
from turnsmith.trainables.lora import Lora
from turnsmith.trainables.select import full

PAIRS = examples(4, parts=("chosen", "rejected"))
DPO = Method(functools.partial(dpo, beta=0.5), "example", reference=True)


def scoring(trainable=Lora, **options):
    whole = model()
    forest.attach(whole)
    return Scoring(install(whole, trainable, options or ({"rank": 4} if trainable is Lora else {}), seed=0))


def move(subject, by=0.05):
    with torch.no_grad():
        for parameter in learning(subject).values():
            parameter.add_(by)
    return subject


def plain(batch, temperature=1.0):
    """Log-probs under the tiny model as it was made, from its padded logits."""
    with torch.no_grad():
        logits = model()(input_ids=batch.inputs, attention_mask=batch.mask).logits.flatten(0, 1) / temperature
    found = logits[batch.source].log_softmax(-1).gather(1, batch.targets[:, None])[:, 0]
    return found[batch.entry]


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_what_is_computed_before_are_the_log_probs_of_the_start_at_the_trained_tokens(tmp_path, temperature):
    file = tmp_path / "reference.npy"
    made = reference.precompute(scoring(), PAIRS, pack, row=60, temperature=temperature, file=file)
    batch = pad(made)
    torch.testing.assert_close(batch.extras["reference"], plain(batch, temperature), rtol=0, atol=1e-5)
    assert [x.id for x in made] == [x.id for x in PAIRS]
    untrained = [(t.extras["reference"] * (t.weights == 0)).any() for x in made for (t,) in x.parts.values()]
    assert not any(untrained)


def test_what_was_stored_is_read_again_after_the_model_has_moved_on(tmp_path):
    subject, file = scoring(), tmp_path / "reference.npy"
    first = pad(reference.precompute(subject, PAIRS, pad, row=60, temperature=1.0, file=file))
    again = pad(reference.precompute(move(subject), PAIRS, pad, row=60, temperature=1.0, file=file))
    assert torch.equal(first.extras["reference"], again.extras["reference"])
    assert [path.name for path in tmp_path.iterdir()] == ["reference.npy"]


def test_a_file_of_other_examples_is_refused(tmp_path):
    file = tmp_path / "reference.npy"
    reference.precompute(scoring(), PAIRS[:2], pad, row=60, temperature=1.0, file=file)
    with pytest.raises(StorageError, match=r"has \d+ log-probs for \d+ tokens: remove it"):
        reference.precompute(scoring(), PAIRS, pad, row=60, temperature=1.0, file=file)


@pytest.mark.parametrize("trainable", [Lora, full])
def test_a_live_reference_stays_at_the_start_while_the_model_moves(trainable):
    subject, batch = scoring(trainable), pad(PAIRS)
    live = reference.live(subject, batch, temperature=1.0)
    move(subject.train())
    torch.testing.assert_close(live(batch), plain(batch), rtol=0, atol=1e-5)
    with torch.no_grad():
        assert (subject(batch).logprobs - plain(batch)).abs().max() > 0.1
    assert subject.training
    assert all(parameter.requires_grad for parameter in learning(subject).values())
    assert not live(batch).requires_grad


def test_an_adapter_that_starts_at_zero_is_switched_off_instead_of_copied():
    subject, batch = scoring(), pad(PAIRS)
    live = reference.live(subject, batch, temperature=1.0)
    subject.base.model.norm.weight.data.mul_(2)  # a copy would not see this
    assert (live(batch) - plain(batch)).abs().max() > 0.1


def test_an_adapter_that_had_learned_something_is_part_of_the_reference():
    subject, batch = move(scoring()), pad(PAIRS)
    with torch.no_grad():
        start = subject(batch).logprobs
    live = reference.live(subject, batch, temperature=1.0)
    move(subject)
    torch.testing.assert_close(live(batch), start, rtol=0, atol=1e-5)
    assert (start - plain(batch)).abs().max() > 0.1


@pytest.mark.parametrize("trainable", [Lora, full])
def test_a_run_is_the_same_with_references_computed_before_and_live(tmp_path, trainable):
    """And its first loss is log 2, which a reference that moves would keep for all steps."""
    options = Fit(steps=3, batch=2, lr=1e-2, row=1)
    rows, ends = [], []
    for kind in ("precomputed", "live"):
        subject, live, data = scoring(trainable), None, PAIRS
        if kind == "live":
            live = reference.live(subject, pack(PAIRS[:1]), temperature=1.0)
        else:
            data = reference.precompute(
                subject, PAIRS, pack, row=60, temperature=1.0, file=tmp_path / "reference.npy"
            )
        figures = Figures()
        fit(
            subject, Stream(data, batch=2, order="shuffled", seed=0), DPO, options, directory=tmp_path / kind,
            recorder=figures, place=Place(device="cpu"), seed=0, reference=live,
        )  # fmt: skip
        rows.append(figures.rows)
        ends.append(torch.cat([p.detach().flatten() for p in learning(subject).values()]))
    assert rows[0][0]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert rows[0][2]["loss"] != pytest.approx(0.693147, abs=1e-2)
    for one, other in zip(*rows, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], abs=1e-4)
        assert other["margin"] == pytest.approx(one["margin"], abs=1e-4)
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=2e-4)  # Adam divides small gradients
