"""Losses over a model's own answers, over single answers and of a model that judges, beside those of TRL, on
random numbers: values and gradients.

Of the losses of its GRPO trainer `dapo` and `bnpo` are one over a whole step; `dr_grpo` and `luspo` are
`grpo` with other lengths.
"""

import inspect
from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from turnsmith.models.reduce import Other, reduce
from turnsmith.objectives.distil import jsd
from turnsmith.objectives.groups import Cispo, Dapo, Gmpo, Grpo, Sapo, Vespo
from turnsmith.objectives.likelihood import dft, sft
from turnsmith.objectives.policy import Rloo
from turnsmith.objectives.rank import reward
from turnsmith.objectives.unpaired import KTO
from turnsmith.testing import scores

NEAR = {"rtol": 1e-5, "atol": 1e-6}
COUNTS = (3, 1, 7, 4, 5, 2)  # tokens of answers
LONGEST = max(COUNTS)
SAME = SimpleNamespace(
    device="cpu", num_processes=1, gather=lambda x: x, gather_for_metrics=lambda x: x, reduce=lambda x, **_: x
)


@pytest.fixture(scope="module")
def drawn():
    """Random log-probs of answers now, when they were drawn and under the start, and their rewards."""
    draw = torch.Generator().manual_seed(3)
    now = -3 * torch.rand(sum(COUNTS), generator=draw, dtype=torch.float64)
    near = now + torch.rand(len(now), generator=draw, dtype=torch.float64) - 0.5
    start = now + torch.rand(len(now), generator=draw, dtype=torch.float64) - 0.5
    return now, near, start, torch.rand(len(COUNTS), generator=draw, dtype=torch.float64)


def laid(flat):
    """(answers, longest), 0 behind the end of each."""
    return torch.zeros(len(COUNTS), LONGEST, dtype=torch.float64).masked_scatter(mask().bool(), flat)


def mask():
    return torch.tensor([[1.0] * n + [0.0] * (LONGEST - n) for n in COUNTS], dtype=torch.float64)


def ours(part, flat, start, **values):
    """Scores of answers, each an example."""
    parts = {part: [one.tolist() for one in flat.detach().split(COUNTS)]}
    s = scores(parts, reference={part: [one.tolist() for one in start.split(COUNTS)]})
    return replace(s, values=values)


def agree(value, s, theirs, flat):
    (found,) = torch.autograd.grad(value, s.logprobs)
    (slopes,) = torch.autograd.grad(theirs, flat)
    torch.testing.assert_close(value, theirs, **NEAR)
    assert slopes.abs().max() > 0
    torch.testing.assert_close(found, slopes, **NEAR)


def given(advantages, table, near, start):
    """What the trainers compute a loss from."""
    ids = torch.zeros(len(COUNTS), LONGEST, dtype=torch.long)
    return {
        "prompt_ids": ids[:, :1],
        "prompt_mask": ids[:, :1] + 1,
        "completion_ids": ids,
        "completion_mask": mask(),
        "advantages": advantages,
        "old_per_token_logps": laid(near),
        "old_logps": laid(near).sum(1),
        "num_items_in_batch": torch.tensor(float(sum(COUNTS))),
        "ref_per_token_logps": laid(start),
    }


def trainer(table, **options):
    """What the losses read of a trainer."""
    usual = {
        "aux_loss_enabled": False,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "importance_sampling_level": "token",
        "epsilon_low": 0.2,
        "epsilon_high": 0.2,
        "use_vllm": False,
        "current_gradient_accumulation_steps": 1,
        "_entropy_bonus_enabled": False,
        "max_completion_length": LONGEST,
    }
    return SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (table, torch.zeros_like(table), None),
        accelerator=SAME,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        model=SimpleNamespace(training=True),
        _metrics={"train": defaultdict(list)},
        **(usual | options),
    )


SMOOTH = {"sapo_temperature_pos": 1.5, "sapo_temperature_neg": 2.0}
WEIGHTED = {"vespo_k_pos": 2.0, "vespo_lambda_pos": 3.0, "vespo_k_neg": 3.0, "vespo_lambda_neg": 2.0}
GRPO = {  # the trainer's options, and its arguments, and ours
    "grpo": ({}, {}, Grpo(kl=0.3)),
    "bound both ways": ({}, {"delta": 1.3}, Grpo(kl=0.3, most=1.3)),
    "wider above": ({"epsilon_high": 0.28}, {}, Grpo(kl=0.3, clip_high=0.28)),
    "dr_grpo": ({"loss_type": "dr_grpo"}, {}, Grpo(kl=0.3, length=LONGEST)),
    "by sequence": ({"importance_sampling_level": "sequence"}, {}, Grpo(kl=0.3, ratio="sequence")),
    "luspo": (
        {"loss_type": "luspo", "importance_sampling_level": "sequence"},
        {},
        Grpo(kl=0.3, ratio="sequence", length=1),
    ),
    "dapo": ({"loss_type": "dapo", "epsilon_high": 0.28}, {}, Dapo(kl=0.3)),
    "bnpo": ({"loss_type": "bnpo"}, {}, Dapo(kl=0.3, clip_high=0.2)),
    "cispo": ({"loss_type": "cispo", "epsilon_high": 1.1}, {}, Cispo(kl=0.3, most=1.1)),
    "sapo": ({"loss_type": "sapo"}, SMOOTH, Sapo(kl=0.3, up=1.5, down=2.0)),
    "vespo": ({"loss_type": "vespo"}, WEIGHTED, Vespo(kl=0.3)),
}


@pytest.mark.parametrize("name", GRPO)
def test_a_loss_of_the_grpo_trainer(name, drawn):
    trl = pytest.importorskip("trl.trainer.grpo_trainer").GRPOTrainer
    options, arguments, mine = GRPO[name]
    usual = {"loss_type": "grpo", "beta": 0.3, "get_gamma_weights": trl.get_gamma_weights}
    beside(trl, mine, drawn, arguments, **(usual | options))


def beside(trl, mine, drawn, arguments=(), **options):
    """Loss and slopes of their trainer and of our objective agree, at advantages of both signs."""
    now, near, start, rewards = drawn
    flat = now.clone().requires_grad_()
    table = laid(flat)
    asked = trainer(table, **options)
    asked.args = SimpleNamespace(**(vars(asked.args) | dict(arguments)))
    advantages = rewards - 0.5
    assert advantages.min() < 0 < advantages.max()
    theirs = trl._compute_loss(asked, None, given(advantages, table, near, start))
    s = ours("replies", flat, start, reward=rewards)
    s = replace(s, extras={"old": near, "advantage": advantages[s.path]})
    agree(mine(s).values.mean(), s, theirs, flat)


def test_the_loss_of_the_gmpo_trainer(drawn):
    trl = pytest.importorskip("trl.experimental.gmpo.gmpo_trainer").GMPOTrainer
    beside(trl, Gmpo(clip=0.3, kl=0.3), drawn, beta=0.3, epsilon_low=0.3, epsilon_high=0.3)


def test_the_loss_of_the_rloo_trainer(drawn):
    beside(pytest.importorskip("trl.trainer.rloo_trainer").RLOOTrainer, Rloo(clip=0.2), drawn)


@pytest.mark.parametrize("name", ["kto", "apo_zero_unpaired"])
def test_the_loss_of_the_kto_trainer(name, drawn):
    module = pytest.importorskip("trl.trainer.kto_trainer")
    now, _, start, rewards = drawn
    labels, drifted = (rewards > rewards.median()).double(), 0.37
    flat = now.clone().requires_grad_()
    table, nothing = laid(flat), torch.zeros(len(COUNTS), LONGEST)
    said = {"log_probs": table, "entropy": nothing, "mean_logits": nothing}
    asked = SimpleNamespace(
        _compute_kl_logps=lambda *_: torch.full((len(COUNTS),), drifted, dtype=torch.float64),
        aux_loss_enabled=False,
        precompute_ref_logps=True,
        calculate_KL=name == "kto",
        loss_type=name,
        beta=0.3,
        desirable_weight=1.5,
        undesirable_weight=0.5,
        accelerator=SAME,
        model=SimpleNamespace(training=True),
        _metrics={"train": defaultdict(list)},
        _total_train_tokens=0,
        _tp_size=1,
    )
    whole = torch.cat([torch.zeros(len(COUNTS), 1), mask()], 1)
    inputs = {
        "input_ids": whole.long(),
        "attention_mask": torch.ones_like(whole),
        "completion_mask": whole,
        "label": labels.bool(),
        "ref_logps": laid(start).sum(1),
        "ref_KL_logps": torch.zeros(len(COUNTS), dtype=torch.float64),
    }
    theirs = module.KTOTrainer._compute_loss(asked, lambda **_: SimpleNamespace(**said), inputs, False)
    baseline = {"baseline": torch.full((len(COUNTS),), drifted, dtype=torch.float64)} if name == "kto" else {}
    s = ours("text", flat, start, label=labels, **baseline)
    agree(KTO(beta=0.3, desirable=1.5, undesirable=0.5)(s).values.mean(), s, theirs, flat)


@pytest.mark.parametrize(("centre", "margin"), [(None, None), (0.3, None), (0.3, [0.5, 0.0, 2.0])])
def test_the_loss_of_the_reward_trainer(drawn, centre, margin):
    module = pytest.importorskip("trl.trainer.reward_trainer")
    *_, rewards = drawn
    flat = rewards.clone().requires_grad_()
    lacking = {} if margin is None else {"margin": torch.tensor(margin, dtype=torch.float64)}
    asked = SimpleNamespace(
        model=SimpleNamespace(training=False),
        args=SimpleNamespace(center_rewards_coefficient=centre),
        accelerator=SAME,
        _metrics={"eval": defaultdict(list)},
        _total_train_tokens=0,
    )
    theirs = module.RewardTrainer.compute_loss(
        asked, lambda **_: SimpleNamespace(logits=flat[:, None]), dict(lacking)
    )
    chosen, rejected = rewards.chunk(2)
    pairs = torch.stack([chosen, rejected], 1).flatten().tolist()
    parts = {"chosen": [[-1.0]] * len(chosen), "rejected": [[-1.0]] * len(chosen)}
    s = replace(scores(parts, heads={"reward": pairs}), values=lacking)
    value = reward(s, margin=1.0 if lacking else 0.0, centre=centre or 0.0).values.mean()
    (found,) = torch.autograd.grad(value, s.heads["reward"])
    (slopes,) = torch.autograd.grad(theirs, flat)
    torch.testing.assert_close(value, theirs, **NEAR)
    torch.testing.assert_close(torch.cat([found[::2], found[1::2]]), slopes, **NEAR)


def test_the_loss_of_the_sft_trainer(drawn):
    """Cross-entropy over the labels that are not masked, of random logits."""
    module = pytest.importorskip("trl.trainer.sft_trainer")
    draw = torch.Generator().manual_seed(5)
    logits = torch.randn(1, 6, 11, generator=draw, dtype=torch.float64).requires_grad_()
    labels = torch.tensor([[-100, -100, 4, 7, -100, 2]])
    transformers = pytest.importorskip("transformers.loss.loss_utils")
    theirs = transformers.ForCausalLMLoss(logits, labels, 11)
    assert module.SFTTrainer is not None
    said = logits.log_softmax(-1)[0, [1, 2, 4], [4, 7, 2]]
    s = scores({"text": [[0.0, 0.0, 0.0]]})
    value = sft(replace(s, logprobs=said)).values.mean()
    torch.testing.assert_close(value, theirs.double(), **NEAR)
    (mine,), (other,) = (torch.autograd.grad(one, logits, retain_graph=True) for one in (value, theirs))
    torch.testing.assert_close(mine, other, **NEAR)


def test_the_loss_of_the_sft_trainer_that_is_dft(drawn):
    """Its lines stand in the middle of `compute_loss`, behind a fused head."""
    source = inspect.getsource(pytest.importorskip("trl.trainer.sft_trainer").SFTTrainer.compute_loss)
    (line,) = [one.strip() for one in source.splitlines() if ".exp().detach()" in one]
    now, *_ = drawn
    flat = now.clone().requires_grad_()
    names = {"per_token_loss": -flat, "outputs": SimpleNamespace(log_probs=flat)}
    exec(line, {}, names)
    s = ours("text", flat, now)
    agree(dft(s).values.mean(), s, names["per_token_loss"].mean(), flat)


@pytest.mark.parametrize("beta", [0.25, 0.5])
def test_the_loss_of_the_gkd_trainer(beta):
    module = pytest.importorskip("trl.experimental.gkd.gkd_trainer")
    draw = torch.Generator().manual_seed(5)
    logits, teacher = (torch.randn(6, 11, generator=draw, dtype=torch.float64) for _ in range(2))
    logits.requires_grad_()
    theirs = module.GKDTrainer.generalized_jsd_loss(
        logits[None], teacher[None], beta=beta, num_items_in_batch=6
    )
    (slopes,) = torch.autograd.grad(theirs, logits)
    name = f"jsd/{beta}:teacher"
    beside = {"teacher": Other(teacher, lambda states: states)}
    found = reduce(logits, torch.zeros(6).long(), lambda states: states, (name,), rows=4, others=beside)
    value = jsd(replace(scores({"text": [[-1.0] * 6]}), reduced=found), mix=beta).values.mean()
    (mine,) = torch.autograd.grad(value, logits)
    torch.testing.assert_close(value, theirs, **NEAR)
    torch.testing.assert_close(mine, slopes, **NEAR)
