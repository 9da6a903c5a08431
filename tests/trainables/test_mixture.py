"""Experts behind a router: the layer, the constraint that parts them, and what depends on no layout."""

import copy
from dataclasses import replace

import pytest
import torch

from turnsmith.data.batch import fill_rows, pack, pad
from turnsmith.data.stream import Stream
from turnsmith.errors import DataError, ModelError, UsageError
from turnsmith.models import forest
from turnsmith.models.recompute import recompute
from turnsmith.models.score import Scoring
from turnsmith.objectives.likelihood import sft
from turnsmith.testing import Figures, examples, model, tokens
from turnsmith.train.loop import fit
from turnsmith.train.method import Method
from turnsmith.train.options import Fit
from turnsmith.train.penalty import Penalty
from turnsmith.train.place import Place
from turnsmith.trainables.install import Learner, install, learning
from turnsmith.trainables.lora import Lora
from turnsmith.trainables.mixture import LoraMoe, mixtures, spread
from turnsmith.types import Rendered

IDS = torch.arange(3, 40)[None]
SMALL = {"experts": 4, "rank": 2, "dropout": 0.0}


def logits(whole):
    with torch.no_grad():
        return whole.eval()(input_ids=IDS, use_cache=False).logits


def moved(whole, seed=7):
    """The model with all that learns moved away from where it started, routers far."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in learning(whole).items():
            size = 1.0 if "router" in name else 0.1
            parameter.add_(torch.randn(parameter.shape, generator=generator) * size)
    return whole


def experts(**options):
    return moved(install(model(), LoraMoe, SMALL | options, seed=0))


def typed(made, *kinds):
    return [replace(one, values={"knowledge": float(kind)}) for one, kind in zip(made, kinds, strict=True)]


def flat(lengths, *kinds):
    """Examples of so many tokens, with types."""
    made = [Rendered(f"e{n}", {"text": (tokens(range(3, 3 + size), 1),)}) for n, size in enumerate(lengths)]
    return typed(made, *kinds)


def tallied(gates, batch, *, degree):
    """The tally of a batch (padded) for which the one router has said `gates` (slots, experts)."""
    options = {"experts": gates.shape[1], "rank": 1, "targets": ("layers.0.mlp.up_proj",), "degree": degree}
    learner = Learner(model(), LoraMoe, options, seed=0)
    (mixture,) = mixtures(learner.model).values()
    mixture.gates = gates.view(*batch.inputs.shape, -1)
    return learner.tally(batch)


def passed(whole, batch, *, degree=0.25):
    """The tally after a real pass in training."""
    learner = Learner(whole, LoraMoe, SMALL | {"degree": degree}, seed=0)
    Scoring(whole).train()(batch)
    return learner.tally(batch)


# ---------------------------------------------------------------------------------------- the layer


def test_check_1_at_the_start_the_outputs_are_those_of_the_base_to_the_bit():
    whole = install(model(), LoraMoe, {}, seed=0)
    assert len(mixtures(whole)) == 2 * 3  # two blocks, three projections of their feed-forward parts
    assert torch.equal(logits(whole), logits(model()))


def test_the_layer_computes_the_sum_over_experts_one_by_one():
    layer = mixtures(experts(alpha=6.0))["model.layers.1.mlp.down_proj"]
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    gates = (x @ layer.router.weight.T).softmax(-1)
    expected = x @ layer.layer.weight.T
    for n in range(4):
        a, b = layer.inner.weight[2 * n : 2 * n + 2], layer.outer.weight[:, 2 * n : 2 * n + 2]
        expected = expected + 6.0 / 2 * gates[:, n : n + 1] * (x @ a.T @ b.T)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-4)


def test_check_2_router_weights_sum_to_one_for_each_token():
    whole = experts().train()
    whole(input_ids=IDS, use_cache=False)
    for mixture in mixtures(whole).values():
        assert mixture.gates.shape == (1, 37, 4)
        assert mixture.gates.dtype == torch.float32
        torch.testing.assert_close(mixture.gates.sum(-1), torch.ones(1, 37), rtol=0, atol=1e-6)


def test_check_2_one_expert_is_lora_with_the_same_matrices():
    targets = ("gate_proj", "up_proj", "down_proj")
    lora = install(model(), Lora, {"rank": 2, "alpha": 8.0, "targets": targets}, seed=0)
    one = moved(install(model(), LoraMoe, SMALL | {"experts": 1, "alpha": 8.0}, seed=0))
    with torch.no_grad():
        for name, mixture in mixtures(one).items():
            layer = lora.base_model.model.get_submodule(name)
            layer.lora_A["default"].weight.copy_(mixture.inner.weight)
            layer.lora_B["default"].weight.copy_(mixture.outer.weight)
    torch.testing.assert_close(logits(one), logits(lora), rtol=0, atol=1e-4)
    assert (logits(one) - logits(model())).abs().max() > 0.01


def test_check_2_one_expert_and_one_sample_add_no_penalty():
    batch = pad(flat([5], 1))
    assert spread(tallied(torch.ones(5, 1), batch, degree=0.1)).item() == 0


def test_check_5_only_experts_and_routers_learn_and_the_base_stays_to_the_bit(tmp_path):
    learner = Learner(model(), LoraMoe, SMALL, seed=0)
    fitted(learner, typed(examples(6), 1, 0, 1, 0, 1, 0), tmp_path)
    parts = {name.rpartition(".")[0].rpartition(".")[2] for name in learning(learner.model)}
    assert parts == {"router", "inner", "outer"}
    base = dict(model().named_parameters())
    for name, parameter in learner.model.named_parameters():
        if parameter.requires_grad:
            continue
        assert torch.equal(parameter, base.pop(name.replace(".layer.", "."))), name
    assert not base


def test_in_bf16_experts_stay_in_fp32_and_the_answer_comes_in_the_models_dtype():
    whole = moved(install(model().to(torch.bfloat16), LoraMoe, SMALL, seed=0))
    assert {p.dtype for p in learning(whole).values()} == {torch.float32}
    assert logits(whole).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert (
            mixtures(whole.train())["model.layers.0.mlp.up_proj"](torch.ones(2, 32)).dtype == torch.bfloat16
        )
    assert mixtures(whole)["model.layers.0.mlp.up_proj"].gates.dtype == torch.float32


def test_gates_are_kept_in_training_alone_and_copies_come_without():
    whole = experts()
    logits(whole)
    assert all(one.gates is None for one in mixtures(whole).values())
    whole.train()(input_ids=IDS, use_cache=False)
    assert all(one.gates is not None for one in mixtures(whole).values())
    assert all(one.gates is None for one in mixtures(copy.deepcopy(whole)).values())


# ----------------------------------------------------------------------------------- the constraint


def test_check_3_all_on_one_of_four_experts_gives_four():
    """Z = (T, 0, 0, 0): mean T/4, unbiased variance T^2/4, so 4."""
    gates = torch.tensor([[1.0, 0, 0, 0]]).repeat(6, 1)
    total = tallied(gates, pad(flat([6], 1)), degree=0.0)
    assert total.tolist() == [[6.0, 36.0, 4.0]]
    assert spread(total).item() == pytest.approx(4, rel=1e-9)


def test_check_3_uniform_routing_of_equal_samples_gives_nothing_without_a_degree():
    total = tallied(torch.full((10, 4), 0.25), pad(flat([5, 5], 1, 0)), degree=0.0)
    assert spread(total).item() == pytest.approx(0, abs=1e-12)


def test_uniform_routing_costs_what_the_coefficients_differ_by():
    """T = 4, so Q = 1: of 8 entries four are 1.5 and four 0.5; mean 1, variance 8 * 0.25 / 7."""
    total = tallied(torch.full((8, 4), 0.25), pad(flat([4, 4], 1, 0)), degree=0.5)
    assert spread(total).item() == pytest.approx(2 / 7, rel=1e-6)


def test_check_4_the_optimum_gives_the_second_half_more_of_what_is_knowledge():
    """Q in proportion to 1 / I: with degree 1/2 the halves get 1 to 3, and all Z are equal."""
    knows, other = [1 / 8, 1 / 8, 3 / 8, 3 / 8], [3 / 8, 3 / 8, 1 / 8, 1 / 8]
    total = tallied(torch.tensor([knows] * 4 + [other] * 4), pad(flat([4, 4], 1, 0)), degree=0.5)
    assert total.tolist() == [[pytest.approx(6.0), pytest.approx(8 * 0.75**2), 8.0]]
    assert spread(total).item() == pytest.approx(0, abs=1e-12)
    turned = tallied(torch.tensor([other] * 4 + [knows] * 4), pad(flat([4, 4], 1, 0)), degree=0.5)
    assert spread(turned).item() > 0.3


def test_the_penalty_is_balance_times_the_sum_over_layers():
    learner = Learner(model(), LoraMoe, SMALL | {"balance": 0.3}, seed=0)
    total = torch.tensor([[6.0, 36.0, 4.0], [4.0, 4.0, 4.0], [3.0, 9.0, 1.0], [0.0, 0.0, 0.0]])
    assert learner.penalty(total).item() == pytest.approx(
        0.3 * 4
    )  # of Z = (6, 0, 0, 0), of ones, of one, of none


def test_check_7_a_sample_without_type_is_left_out():
    gates = torch.tensor([[1.0, 0, 0, 0]] * 4 + [[0, 0, 0, 1.0]] * 4)
    both = tallied(gates, pad(flat([4, 4], 1, -1)), degree=0.5)
    assert both.tolist() == [[6.0, 36.0, 4.0]]  # 4 tokens times 1.5, of the first alone
    assert tallied(gates, pad(flat([4, 4], -1, -1)), degree=0.5).tolist() == [[0.0, 0.0, 0.0]]


def test_check_7_a_type_that_nobody_gave_or_that_there_is_not_is_an_error_that_names_the_example():
    bare = pad([replace(one, values={}) for one in flat([4], 1)])
    with pytest.raises(DataError, match=r"example 'e0' has no value 'knowledge'.*balance: 0"):
        tallied(torch.full((4, 4), 0.25), bare, degree=0.1)
    with pytest.raises(DataError, match=r"example 'e1' has knowledge 0.5: 1, 0, or -1"):
        tallied(torch.full((8, 4), 0.25), pad(flat([4, 4], 1, 0.5)), degree=0.1)


def test_check_7_a_sample_without_a_trained_token_leaves_the_loss_a_number(tmp_path):
    empty = Rendered("empty", {"text": (tokens(range(3, 20), 0),)}, {"knowledge": 1.0})
    learner = Learner(model(), LoraMoe, SMALL, seed=0)
    rows = fitted(learner, [*typed(examples(2), 0, 1), empty], tmp_path)
    assert all(0 < row["loss"] < 100 and 0 < row["penalty"] < 100 for row in rows)


@pytest.mark.parametrize(("options", "said"), [
    ({"experts": 3}, "experts is 3: an even number has two equal halves"),
    ({"experts": 0}, "1 or more"),
    ({"degree": 1.5}, "degree is 1.5"),
    ({"balance": -1.0}, "balance -1.0"),
])  # fmt: skip
def test_check_7_options_out_of_range_are_refused(options, said):
    with pytest.raises(UsageError, match=said):
        LoraMoe(**options)


# ------------------------------------------------------------------------------- layouts, micro-batches


def test_check_6_padding_and_packing_give_the_same_tally():
    made = typed(examples(4), 1, 0, 1, 0)
    whole = experts()
    forest.attach(whole)
    rows = [len(one.parts["text"][0]) for one in made]
    assert len(set(rows)) > 1  # something is padded
    torch.testing.assert_close(passed(whole, pad(made)), passed(whole, pack(made)), rtol=1e-5, atol=1e-5)


def test_a_token_that_two_conversations_share_counts_for_both():
    """The first 18 tokens are laid down once in a packed row."""
    made = typed(examples(2, parts=("chosen", "rejected")), 1, 0)
    whole = experts()
    forest.attach(whole)
    packed, padded = pack(made), pad(made)
    assert packed.tokens == padded.tokens - 2 * 18
    found = passed(whole, packed)
    torch.testing.assert_close(found, passed(whole, padded), rtol=1e-5, atol=1e-5)
    assert found[:, 2].tolist() == [4 * 4] * 6  # four conversations, four experts


@pytest.mark.parametrize("layout", [pack, pad])
def test_the_gradient_of_the_penalty_is_the_same_however_the_window_is_cut(layout):
    """In double precision: routers that are as sure as these enlarge what fp32 rounds."""
    made = typed(examples(5), 1, 0, 1, 0, -1)

    def gradient(row):
        whole = moved(install(model().double(), LoraMoe, SMALL, seed=0))
        learner = Learner(whole, LoraMoe, SMALL | {"balance": 2.0, "degree": 0.5}, seed=0)
        forest.attach(whole)
        scoring, place = Scoring(learner.model).train(), Place(device="cpu")
        batches = [layout(run) for run in fill_rows(made, row, layout=layout)]
        penalty = Penalty(learner, batches, place, scoring)
        for batch, factor, last in place.mine(batches):
            scoring(batch)
            penalty.share(batch, factor, last).backward()
        found = {name: p.grad for name, p in learning(learner.model).items() if "router" in name}
        return len(batches), penalty.value, torch.cat([found[name].flatten() for name in sorted(found)])

    (one, whole, expected), (several, cut, found) = gradient(1000), gradient(30)
    assert (one, several) == (1, 5)
    assert cut == pytest.approx(whole, rel=1e-12)
    assert expected.norm() > 0.01
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_checkpointed_blocks_give_the_same_gradients_and_hold_no_gates_afterwards():
    made = pad(typed(examples(3), 1, 0, 1))

    def gradients(again):
        learner = Learner(experts(), LoraMoe, SMALL | {"balance": 2.0}, seed=0)
        if again:
            recompute(learner.model)
        scores = Scoring(learner.model).train()(made)
        (-scores.logprobs.sum() + learner.penalty(learner.tally(made))).backward()
        assert all(one.gates is None for one in mixtures(learner.model).values())
        return {name: p.grad for name, p in learning(learner.model).items()}

    plain, again = gradients(False), gradients(True)
    for name, found in again.items():
        torch.testing.assert_close(found, plain[name], rtol=1e-5, atol=1e-6)


def fitted(learner, made, directory):
    recorder = Figures()
    fit(
        Scoring(learner.model),
        Stream(made, batch=3, order="given", seed=0),
        Method(sft, "token"),
        Fit(steps=3, batch=3, lr=1e-2, weight_decay=0.1),
        directory=directory,
        recorder=recorder,
        place=Place(device="cpu"),
        seed=0,
        layout=pad,
        learner=learner,
    )
    return recorder.rows


def test_routers_that_follow_the_penalty_alone_come_to_its_optimum():
    """The second half gets 3/4 of what is knowledge and 1/4 of what is not, in every layer."""
    made = [replace(one, parts={"text": (tokens([4 + n % 2] * 12, 1),)}) for n, one in enumerate(examples(4))]
    batch = pad(typed(made, 0, 1, 0, 1))
    learner = Learner(model(), LoraMoe, SMALL | {"balance": 1.0, "degree": 0.5}, seed=0)
    scoring = Scoring(learner.model).train()
    routers = [p for name, p in learning(learner.model).items() if "router" in name]
    optimizer = torch.optim.Adam(routers, lr=0.02)
    for _ in range(100):
        scoring(batch)
        learner.penalty(learner.tally(batch)).backward()
        optimizer.step()
        optimizer.zero_grad()
    scoring(batch)
    for mixture in mixtures(learner.model).values():
        second = mixture.gates.detach()[..., 2:].sum(-1).mean(1)
        torch.testing.assert_close(second, torch.tensor([0.25, 0.75] * 2), rtol=0, atol=0.02)


# -------------------------------------------------------------------------------------- going on


def test_a_model_with_experts_goes_on_with_them():
    whole = experts()
    before = logits(whole)
    again = install(whole, LoraMoe, SMALL | {"balance": 0.0, "degree": 0.3}, seed=5)
    assert again is whole
    assert torch.equal(logits(again), before)


@pytest.mark.parametrize(("options", "said"), [
    ({"experts": 8}, "have experts 4, asked for is 8: set experts to 4"),
    ({"rank": 4}, "have rank 2, asked for is 4"),
    ({"alpha": 1.0}, "have alpha 32"),
    ({"dropout": 0.1}, "have dropout 0.0"),
    ({"targets": ("up_proj",)}, r"are at down_proj, gate_proj, up_proj, asked for is up_proj: set targets"),
    ({"targets": ("gate_proj", "up_proj", "down_proj", "q_proj")}, "asked for is .*q_proj"),
])  # fmt: skip
def test_going_on_with_other_settings_is_an_error(options, said):
    with pytest.raises(ModelError, match=said):
        install(experts(), LoraMoe, SMALL | options, seed=0)


def test_what_it_cannot_be_attached_to_is_refused():
    with pytest.raises(ModelError, match="no layer of this model is called c_attn"):
        install(model(), LoraMoe, {"targets": ("c_attn",)}, seed=0)
    with pytest.raises(ModelError, match="input_layernorm is a LlamaRMSNorm, no linear layer"):
        install(model(), LoraMoe, {"targets": ("input_layernorm",)}, seed=0)
    with pytest.raises(ModelError, match="carries an adapter: merge it first"):
        install(install(model(), Lora, {}, seed=0), LoraMoe, {}, seed=0)


def test_a_tally_without_a_pass_is_an_error():
    learner = Learner(model(), LoraMoe, SMALL, seed=0)
    with pytest.raises(ModelError, match="no forward pass in training"):
        learner.tally(pad(flat([4], 1)))
