"""The losses over pairs beside those of TRL, on random log-probs: values and gradients.

Its `sft` is ours of that name. Of its `apo` losses ours are the same, and those of the paper, less 1.
"""

from collections import defaultdict
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from turnsmith.objectives import margins, pairs
from turnsmith.objectives.steps import Aot, Bco
from turnsmith.testing import scores

NEAR = {"rtol": 1e-5, "atol": 1e-5}  # TRL takes the odds in fp32
LENGTHS = {"chosen": (3, 1, 7, 4), "rejected": (5, 2, 1, 4)}


def stepwise(objective):
    """The loss of examples that are a whole step."""

    def found(s):
        seen = SimpleNamespace(window=range(s.examples), each=lambda window, read: read(s))
        said = objective.before_step(seen)
        values = {name: torch.tensor(ones, dtype=torch.float64) for name, ones in said.items()}
        return objective(replace(s, values=values))

    return found


# Of TRL's loss: its options, and the same of ours.
ROWS = {
    "sigmoid": ({"beta": 0.3}, partial(pairs.dpo, beta=0.3)),
    "hinge": ({"beta": 0.3}, partial(pairs.hinge, beta=0.3)),
    "longer than the other": (
        {"beta": 0.3, "loss": "sigmoid", "ld_alpha": 0.25},
        partial(pairs.ld_dpo, beta=0.3, alpha=0.25),
    ),
    "js_divergence": (
        {"beta": 0.3, "loss": "sigmoid", "f_divergence_type": "js_divergence"},
        partial(pairs.f_dpo, beta=0.3),
    ),
    "forward_kl": (
        {"beta": 0.3, "loss": "sigmoid", "f_divergence_type": "forward_kl"},
        partial(pairs.f_dpo, beta=0.3, divergence="alpha", alpha=1.0),
    ),
    "alpha_divergence": (
        {
            "beta": 0.3,
            "loss": "sigmoid",
            "f_divergence_type": "alpha_divergence",
            "f_alpha_divergence_coef": 0.75,
        },
        partial(pairs.f_dpo, beta=0.3, divergence="alpha", alpha=0.25),
    ),
    "weighted": ({"beta": 0.3, "loss": "sigmoid", "use_weighting": True}, partial(pairs.wpo, beta=0.3)),
    "ipo": ({"beta": 0.25}, partial(pairs.ipo, target=2.0)),  # 1 / (2 * 0.25)
    "exo_pair": ({"beta": 0.3, "label_smoothing": 0.05}, partial(pairs.exo, beta=0.3, flipped=0.05)),
    "nca_pair": ({"beta": 0.3}, partial(pairs.nca, beta=0.3)),
    "robust": ({"beta": 0.3, "label_smoothing": 0.2}, partial(pairs.robust, beta=0.3, flipped=0.2)),
    "bco_pair": ({"beta": 0.3}, Bco(beta=0.3, shift=0.0)),
    "sppo_hard": ({"beta": 0.25}, partial(pairs.sppo, eta=4.0)),
    "apo_zero": ({"beta": 0.3}, partial(pairs.apo, beta=0.3)),
    "apo_down": ({"beta": 0.3}, partial(pairs.apo, beta=0.3, towards="down")),
    "discopop": ({"beta": 0.3, "discopop_tau": 0.5}, partial(pairs.discopop, beta=0.3, tau=0.5)),
    "sigmoid_norm": ({"beta": 3.0}, partial(pairs.ln_dpo, beta=3.0)),
    "aot": ({"beta": 0.3, "label_smoothing": 0.05}, stepwise(Aot(beta=0.3, flipped=0.05))),
    "aot_unpaired": (
        {"beta": 0.3, "label_smoothing": 0.05},
        stepwise(Aot(beta=0.3, paired=False, flipped=0.05)),
    ),
}


@pytest.fixture(scope="module")
def said():
    """Log-probs of tokens under policy and reference, and logs of sums of squares, by answer."""
    draw = torch.Generator().manual_seed(7)

    def drawn():
        return {
            part: [(-3 * torch.rand(n, generator=draw, dtype=torch.float64)).tolist() for n in lengths]
            for part, lengths in LENGTHS.items()
        }

    return drawn(), drawn(), drawn()


def agree(loss, s, theirs, slopes):
    """A mean and its slopes with respect to the log-probs, chosen answers first: both as ours."""
    value = loss(s).values.mean()
    (found,) = torch.autograd.grad(value, s.logprobs)
    torch.testing.assert_close(value, theirs.to(value.dtype), **NEAR)
    ordered = [found[s.path == at] for part in LENGTHS for at in numbered(s, part)]
    assert found.abs().max() > 0
    torch.testing.assert_close(torch.cat(ordered), slopes.to(found.dtype), **NEAR)


def numbered(s, part):
    return [at for at, path in enumerate(s.paths) if path.part == part]


def flat(parts):
    return torch.tensor([x for part in LENGTHS for ones in parts[part] for x in ones], dtype=torch.float64)


def sums(values):
    """Per answer, chosen ones first: (2E,)."""
    return torch.stack([ones.sum() for ones in values.split([n for part in LENGTHS for n in LENGTHS[part]])])


@pytest.mark.parametrize("name", ROWS)
def test_a_loss_of_the_dpo_trainer(name, said):
    trainer = pytest.importorskip("trl.trainer.dpo_trainer").DPOTrainer
    options, loss = ROWS[name]
    now, start, squares = said
    logprobs = flat(now).requires_grad_()
    counted = flat(start)
    if "ld_alpha" in options:  # what is computed before is summed by whoever does so
        counted = counted * torch.tensor([1.0 if one else options["ld_alpha"] for one in shared()])
    seen = [logprobs, sums(counted), flat(squares)]
    if "f_alpha_divergence_coef" in options:  # which it has no bound for in fp64
        seen = [one.float() for one in seen]
    theirs = trainer._compute_loss(asked(name, options), *given(*seen), False)
    (slopes,) = torch.autograd.grad(theirs, logprobs)
    turned = [-x for own in zip(*squares.values(), strict=True) for ones in own for x in ones]
    agree(loss, scores(now, reference=start, reduced={"collision_entropy": turned}), theirs, slopes)


def shared():
    """Of every token, chosen answers first, whether the other answer of its pair is as long."""
    both = zip(*LENGTHS.values(), strict=True)
    shorter = [min(pair) for pair in both]
    return [
        at < least
        for part in LENGTHS
        for n, least in zip(LENGTHS[part], shorter, strict=True)
        for at in range(n)
    ]


def asked(name, options):
    """What the loss reads of the trainer."""
    same = SimpleNamespace(device="cpu", gather=lambda x: x, gather_for_metrics=lambda x: x)
    usual = {
        "label_smoothing": 0.0,
        "ld_alpha": None,
        "f_divergence_type": "reverse_kl",
        "use_weighting": False,
    }
    return SimpleNamespace(
        accelerator=same,
        model=SimpleNamespace(training=True),
        args=SimpleNamespace(discopop_tau=options.get("discopop_tau")),
        loss_types=[options.get("loss", name)],
        loss_weights=[1.0],
        precompute_ref_logps=True,
        aux_loss_enabled=False,
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
        **(usual | options),
    )


def given(logprobs, reference, squares):
    """A model that says these numbers of rows with a token of prompt, and its inputs."""
    counts = [n for part in LENGTHS for n in LENGTHS[part]]
    width = max(counts)
    mask = torch.tensor([[0] + [1] * n + [0] * (width - n) for n in counts])
    table = logprobs.new_zeros(len(counts), width).masked_scatter(mask[:, 1:].bool(), logprobs)
    nothing = torch.zeros_like(table)

    def model(**_):
        return SimpleNamespace(
            log_probs=table,
            entropy=nothing,
            is_top1=nothing.bool(),
            mean_logits=nothing,
            log_sum_sq_probs=nothing.masked_scatter(mask[:, 1:].bool(), squares),
        )

    half = len(counts) // 2
    inputs = {"input_ids": mask, "attention_mask": torch.ones_like(mask), "completion_mask": mask}
    known = {"ref_chosen_logps": reference[:half], "ref_rejected_logps": reference[half:]}
    return model, inputs | known


WITHOUT = {
    "sigmoid": ({"beta": 0.3}, partial(pairs.cpo, beta=0.3, alpha=0.0), False),
    "hinge": ({"beta": 0.3}, partial(pairs.cpo, beta=0.3, alpha=0.0, link="hinge"), False),
    "ipo": ({"beta": 0.25}, partial(pairs.cpo, beta=0.25, alpha=0.0, link="squared"), True),
    "simpo": ({"beta": 2.0, "simpo_gamma": 0.7}, partial(pairs.simpo, beta=2.0, gamma=0.7), True),
    "alphapo": (
        {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 0.7, "alpha": 0.25},
        partial(pairs.simpo, beta=2.0, gamma=0.7, alpha=0.25),
        True,
    ),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_a_loss_of_the_cpo_trainer(name, said):
    trainer = pytest.importorskip("trl.experimental.cpo.cpo_trainer").CPOTrainer
    options, loss, average = WITHOUT[name]
    device = SimpleNamespace(device="cpu")
    usual = {"loss_type": name, "alpha": 0.0, "label_smoothing": 0.0, "accelerator": device}
    own = SimpleNamespace(**(usual | options))
    logprobs = flat(said[0]).requires_grad_()
    counts = torch.tensor([n for part in LENGTHS for n in LENGTHS[part]])
    answers = sums(logprobs) / (counts if average else 1)
    theirs = trainer.cpo_loss(own, *answers.chunk(2))[0].mean()
    (slopes,) = torch.autograd.grad(theirs, logprobs)
    agree(loss, scores(said[0]), theirs, slopes)


def test_the_conservative_link_is_its_smoothing_of_labels(said):
    trainer = pytest.importorskip("trl.experimental.cpo.cpo_trainer").CPOTrainer
    device = SimpleNamespace(device="cpu")
    own = SimpleNamespace(loss_type="sigmoid", alpha=0.0, label_smoothing=0.2, accelerator=device, beta=0.3)
    chosen, rejected = (sums(flat(said[0])) - sums(flat(said[1]))).chunk(2)
    theirs = trainer.cpo_loss(own, chosen, rejected)[0]
    s = scores(said[0], reference=said[1])
    torch.testing.assert_close(pairs.robust(s, beta=0.3, flipped=0.2, form="conservative").values, theirs)
    torch.testing.assert_close(margins.conservative(0.3 * (chosen - rejected), 0.2), theirs)


def test_the_odds_of_the_orpo_trainer(said):
    """Its likelihood is of the prompt too, and so no part of this."""
    trainer = pytest.importorskip("trl.experimental.orpo.orpo_trainer").ORPOTrainer
    own = SimpleNamespace(beta=0.3, accelerator=SimpleNamespace(device="cpu"))
    logprobs = flat(said[0]).requires_grad_()
    counts = torch.tensor([n for part in LENGTHS for n in LENGTHS[part]])
    chosen, rejected = (sums(logprobs) / counts).chunk(2)
    theirs = (-chosen - trainer.odds_ratio_loss(own, chosen, rejected)[0]).mean()
    (slopes,) = torch.autograd.grad(theirs, logprobs)
    agree(partial(pairs.orpo, weight=0.3), scores(said[0]), theirs, slopes)
