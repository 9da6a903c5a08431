"""Sparse fine-tuning: which entries are chosen, that no other changes, and how it goes on."""

import random

import pytest
import torch

from turnsmith.data.batch import pad
from turnsmith.data.stream import Stream
from turnsmith.errors import ModelError
from turnsmith.models import load
from turnsmith.models.score import Scoring
from turnsmith.objectives.likelihood import sft
from turnsmith.testing import TRAINABLE, Figures, contracts, directory, examples, model, tokenizer
from turnsmith.train.loop import fit
from turnsmith.train.method import Method
from turnsmith.train.options import Fit
from turnsmith.train.place import Place
from turnsmith.trainables import lottery
from turnsmith.trainables.install import Draw, Learner
from turnsmith.trainables.lottery import Lottery, Matrices, RandomEntries, largest, maskable

# A block of the tiny model: queries and output 32 x 32, keys and values 16 x 32, three of 32 x 64.
BLOCK = 2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 64
TABLE = 320 * 32
DATA = examples(6)


def train(learner, path, *, lr=1e-2, steps=4, weight_decay=0.1):
    """A few steps of the loop, with weight decay."""
    figures = Figures()
    fit(
        Scoring(learner.model),
        Stream(DATA, batch=3, order="given", seed=0),
        Method(sft, "token"),
        Fit(steps=steps, batch=3, lr=lr, weight_decay=weight_decay),
        directory=path,
        recorder=figures,
        place=Place(device="cpu"),
        seed=0,
        layout=pad,
        learner=learner,
    )
    return figures.rows


def start():
    """The model that all of these begin with; `directory` writes the same."""
    return model(vocabulary=len(tokenizer()))


def weights(whole):
    return {name: p.detach().clone() for name, p in whole.named_parameters()}


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """The start, and what a first training made of its matrices, as directories."""
    place = tmp_path_factory.mktemp("models")
    directory(place / "start")
    learner = Learner(start(), Matrices, {}, seed=0)
    train(learner, place / "checkpoints")
    load.save(learner.model, tokenizer(), place / "moved", base=None)
    return place / "start", place / "moved"


def select(trainable, whole=None, seed=0, **options):
    return trainable(**options).select(whole or start(), Draw(random.Random(seed)))


def count(mask):
    return sum(int(which.sum()) for which in mask.values())


# ------------------------------------------------------------------------------------ what is chosen


def test_maskable_are_the_matrices_of_the_blocks():
    names = {name.partition("layers.0.")[2] for name in maskable(start()) if "layers.0" in name}
    attention = {f"self_attn.{which}_proj.weight" for which in "qkvo"}
    assert names == attention | {f"mlp.{which}_proj.weight" for which in ("up", "gate", "down")}
    assert all("layers." in name for name in maskable(start()))
    assert sum(p.numel() for p in maskable(start()).values()) == 2 * BLOCK


def test_bias_terms_and_norms_are_not_maskable():
    assert not [name for name in maskable(model(bias=True)) if "bias" in name or "norm" in name]


def test_check_7_tied_embeddings_are_counted_once():
    whole = start()
    assert whole.get_output_embeddings().weight is whole.get_input_embeddings().weight
    wide = maskable(whole, embeddings=True)
    assert sum(p.numel() for p in wide.values()) == 2 * BLOCK + TABLE
    assert "lm_head.weight" not in wide


def test_embeddings_that_are_not_tied_are_two_tensors():
    whole = start()
    whole.lm_head.weight = torch.nn.Parameter(whole.lm_head.weight.detach().clone())
    assert sum(p.numel() for p in maskable(whole, embeddings=True).values()) == 2 * BLOCK + 2 * TABLE


def test_the_largest_are_found_over_all_tensors_together():
    sizes = {"one": torch.tensor([[0.1, 0.9], [0.3, 0.2]]), "two": torch.tensor([0.8, 0.05, 0.7])}
    found = largest(sizes, 3)
    assert found["one"].tolist() == [[False, True], [False, False]]
    assert found["two"].tolist() == [True, False, True]


def test_of_equal_entries_the_first_are_taken_so_that_there_are_exactly_k():
    sizes = {"one": torch.tensor([0.5, 1.0, 0.5]), "two": torch.tensor([[0.5], [0.5]])}
    found = largest(sizes, 3)
    assert found["one"].tolist() == [True, True, True]
    assert not found["two"].any()
    assert count(largest({"x": torch.zeros(5)}, 2)) == 2


def test_check_2_k_entries_are_chosen_by_one_threshold(moved):
    mask = select(Lottery, moved=str(moved[1]), budget=500)
    before, after = weights(start()), weights(load.load(str(moved[1]))[0])
    changes = {name: (after[name] - before[name]).abs() for name in maskable(start())}
    inside = [changes[name][which] for name, which in mask.items()]
    outside = [changes[name][~mask[name]] if name in mask else changes[name].flatten() for name in changes]
    assert count(mask) == 500
    assert torch.cat(inside).min() >= torch.cat(outside).max()
    assert len({int(which.sum()) for which in mask.values()}) > 1  # not so many of each


def test_a_share_is_of_the_maskable_entries_and_rounded_down(moved):
    assert count(select(Lottery, moved=str(moved[1]))) == int(0.01 * 2 * BLOCK) == 184
    assert count(select(Lottery, moved=str(moved[1]), share=0.5, embeddings=True)) == (2 * BLOCK + TABLE) // 2


def test_check_6_more_than_there_are_is_refused_and_all_are_taken_whole(moved):
    with pytest.raises(
        ModelError, match="18,433 weights are to be chosen, and 18,432 of the 18,432 maskable"
    ):
        select(Lottery, moved=str(moved[1]), budget=2 * BLOCK + 1)
    assert select(Lottery, moved=str(moved[1]), share=1.0) == dict.fromkeys(maskable(start()), True)


def test_check_6_with_all_entries_it_is_a_second_full_training(moved, tmp_path):
    sparse = Learner(start(), Lottery, {"moved": str(moved[1]), "share": 1.0}, seed=0)
    full = Learner(start(), Matrices, {}, seed=0)
    for name, learner in (("sparse", sparse), ("full", full)):
        train(learner, tmp_path / name)
    first = weights(load.load(str(moved[1]))[0])
    assert all(torch.equal(p, weights(full.model)[name]) for name, p in weights(sparse.model).items())
    assert all(torch.equal(p, first[name]) for name, p in weights(sparse.model).items())


def test_random_entries_are_as_many_and_depend_on_the_seed_alone():
    one, again, other = (select(RandomEntries, seed=seed, budget=2000) for seed in (0, 0, 1))
    assert count(one) == count(other) == 2000
    assert all(torch.equal(which, again[name]) for name, which in one.items())
    assert any(not torch.equal(which, other[name]) for name, which in one.items())


def test_draws_of_one_seed_are_told_apart_by_their_number():
    """Of 1,843 entries, a tenth, a tenth is in another draw too by chance: 184 +- 5 * 13 (hypergeometric)."""
    one, other = (select(RandomEntries, share=0.1, number=number) for number in (0, 1))
    both = sum(int((which & other[name]).sum()) for name, which in one.items() if name in other)
    assert abs(both - 184) < 65
    with pytest.raises(ModelError, match="numbered from 0, not -1"):
        RandomEntries(number=-1)


def test_random_entries_spread_as_the_tensors_are_large():
    """2 blocks of 9,216 entries: half of 9,216 drawn fall into each, +- 5 * sqrt(9216 / 8) = 170."""
    mask = select(RandomEntries, share=0.5)
    first = sum(int(which.sum()) for name, which in mask.items() if "layers.0" in name)
    assert abs(first - BLOCK / 2) < 170


def test_moved_of_another_shape_is_refused_by_name(moved, tmp_path):
    words = tokenizer()
    load.save(model(vocabulary=len(words), hidden=64), words, tmp_path / "wide", base=None)
    with pytest.raises(ModelError, match=r"q_proj.weight is \[32, 32\] in the start and \[64, 64\] in"):
        select(Lottery, moved=str(tmp_path / "wide"))


def test_a_model_that_did_not_move_is_refused(moved):
    with pytest.raises(ModelError, match="has the weights of the start: nothing was moved"):
        select(Lottery, moved=str(moved[0]))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"share": 0.0}, "above 0 and up to 1, not 0.0"),
        ({"share": 1.5}, "above 0 and up to 1, not 1.5"),
        ({"budget": 0}, "at least 1, not 0"),
        ({"l1": -0.1}, "l1 must not be negative"),
    ],
)
def test_options_out_of_range_are_refused(options, complaint):
    with pytest.raises(ModelError, match=complaint):
        RandomEntries(**options)


def test_a_share_of_less_than_one_entry_is_refused():
    with pytest.raises(ModelError, match="0 weights are to be chosen"):
        select(RandomEntries, share=1e-6)


# ----------------------------------------------------------------------------------- what is learnt


def test_check_1_all_other_entries_stay_bit_for_bit_under_weight_decay(moved, tmp_path):
    learner = Learner(start(), Lottery, {"moved": str(moved[1]), "budget": 300}, seed=0)
    train(learner, tmp_path / "checkpoints", weight_decay=0.5)
    before, after = weights(start()), weights(learner.model)
    changed = {name: after[name] != before[name] for name in before}
    assert sum(int(which.sum()) for which in changed.values()) <= 300
    assert count(changed) > 250  # and most of them did learn
    for name, which in changed.items():
        assert not which.any() or not (which & ~learner.elements[name]).any(), name


def test_it_starts_where_the_first_training_started(moved, tmp_path):
    """The rewind: with a learning rate of 0 it is the start and not `moved`."""
    learner = Learner(start(), Lottery, {"moved": str(moved[1])}, seed=0)
    train(learner, tmp_path / "checkpoints", lr=0.0)
    assert all(torch.equal(p, weights(start())[name]) for name, p in weights(learner.model).items())


def test_the_penalty_is_the_mean_distance_over_all_numbers_of_the_model():
    whole = start()
    numbers = sum(p.numel() for p in whole.parameters())
    part = RandomEntries(budget=3, l1=0.5)
    mask = part.select(whole, Draw(random.Random(0)))
    assert part.penalty(whole, None).item() == 0.0
    with torch.no_grad():
        for name, which in mask.items():
            dict(whole.named_parameters())[name][which] += 0.25
    assert part.penalty(whole, None).item() == pytest.approx(0.5 * 3 * 0.25 / numbers, rel=1e-5)
    assert RandomEntries(budget=3).penalty(whole, None) is None


def test_the_penalty_of_the_full_phase_is_over_its_matrices():
    whole = start()
    numbers = sum(p.numel() for p in whole.parameters())
    part = Matrices(l1=2.0)
    part.select(whole, Draw(random.Random(0)))
    with torch.no_grad():
        whole.model.layers[1].mlp.up_proj.weight += 0.5
        whole.model.embed_tokens.weight += 1.0  # not maskable: it is none of its business
    assert part.penalty(whole, None).item() == pytest.approx(2.0 * 0.5 * 32 * 64 / numbers, rel=1e-5)


@pytest.mark.parametrize("trainable", [Matrices, RandomEntries])
def test_check_7_a_strong_penalty_holds_the_weights_at_the_start(trainable, tmp_path):
    """Against a gradient of the loss of about 1, lambda / N = 1e4 alone decides which way Adam steps: the
    way back. What is left is the last step, of 1e-2 / 20."""
    far = {}
    for l1 in (0.0, 1e4 * 28_000):
        learner = Learner(start(), trainable, {"l1": l1}, seed=0)
        rows = train(learner, tmp_path / f"{l1}", steps=20, weight_decay=0.0)
        before, after = weights(start()), weights(learner.model)
        far[l1] = torch.cat([(after[n] - before[n]).abs()[after[n] != before[n]] for n in before]).mean()
        assert ("penalty" in rows[0]) == (l1 > 0)
    free, held = far.values()
    assert held < free / 5


# ------------------------------------------------------------------------------------- several rounds


def test_a_second_iteration_goes_on_with_the_first_entries_and_adds_others(moved, tmp_path):
    base, goal = moved
    first = Learner(start(), Lottery, {"moved": str(goal), "budget": 100}, seed=0)
    train(first, tmp_path / "first")
    load.save_patch(first.model, tokenizer(), tmp_path / "one", base=str(base))
    learnt = load.load_patch(str(tmp_path / "one"))
    again = load.load(str(tmp_path / "one"))[0]
    mask = select(Lottery, again, moved=str(goal), budget=100, beside=str(tmp_path / "one"))
    kept = sum(len(part.indices) for part in learnt.values())
    assert 90 < kept <= 100
    assert count(mask) == kept + 100
    assert all(mask[name].flatten()[part.indices].all() for name, part in learnt.items())


def test_entries_chosen_before_are_not_there_to_choose_from(moved, tmp_path):
    base, goal = moved
    before = start()
    with torch.no_grad():
        before.model.layers[0].self_attn.q_proj.weight[:, :16] += 1.0  # 512 entries
    load.save_patch(before, tokenizer(), tmp_path / "one", base=str(base))
    options = {"moved": str(goal), "beside": str(tmp_path / "one")}
    with pytest.raises(ModelError, match=r"17,921 weights .* 17,920 of the 18,432"):
        select(Lottery, before, **options, budget=2 * BLOCK - 511)
    assert count(select(RandomEntries, before, beside=options["beside"], budget=5)) == 517


def test_what_was_chosen_with_the_embeddings_does_not_go_on_without(moved, tmp_path):
    before = start()
    with torch.no_grad():
        before.model.embed_tokens.weight[3] += 1.0
    load.save_patch(before, tokenizer(), tmp_path / "one", base=str(moved[0]))
    with pytest.raises(ModelError, match=r"changed model.embed_tokens.weight, which may not learn here"):
        select(RandomEntries, before, beside=str(tmp_path / "one"))
    with pytest.raises(ModelError, match=r"is no sparse difference: it has no patch.safetensors"):
        select(RandomEntries, before, beside=str(moved[1]))


# ----------------------------------------------------------------------------------------- contract


@pytest.mark.parametrize("check", TRAINABLE, ids=lambda check: check.__name__)
def test_contract(check, tmp_path):
    """`lottery` needs a model that was moved, so the contract over everything registered leaves it out."""
    other = contracts.subject()
    with torch.no_grad():
        for p in lottery.maskable(other).values():
            p += torch.arange(p.numel()).view_as(p) / p.numel()
    load.save(other, tokenizer(), tmp_path / "moved", base=None)
    check(Lottery, {"moved": str(tmp_path / "moved"), "share": 0.05})
