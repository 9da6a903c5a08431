"""Adding what several tunings changed."""

from random import Random

import pytest
import torch

from turnsmith.errors import UsageError
from turnsmith.merges.apply import apply
from turnsmith.merges.arithmetic import add
from turnsmith.models import load
from turnsmith.testing import directory

BASE = torch.tensor([1.0, 2.0, 3.0, 4.0])
LANGUAGE = torch.tensor([1.5, 2.0, 3.25, 4.0])  # + 0.5, 0, 0.25, 0
TASK = torch.tensor([1.0, 1.0, 5.0, 4.0])  # 0, - 1, + 2, 0


def test_differences_are_added_to_the_base():
    assert add("x", BASE, [LANGUAGE, TASK]).tolist() == [1.5, 1.0, 5.25, 4.0]


def test_each_difference_has_its_factor():
    assert add("x", BASE, [LANGUAGE, TASK], factors=(2.0, 0.5)).tolist() == [2.0, 1.5, 4.5, 4.0]
    assert add("x", BASE, [LANGUAGE, TASK], factors=(2.0,)).tolist() == [2.0, 0.0, 7.5, 4.0]


def test_check_4_the_order_of_the_models_does_not_matter():
    torch.manual_seed(0)
    base, *tuned = (torch.randn(1000) for _ in range(4))
    sums = [add("x", base, [tuned[i] for i in order]) for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0))]
    assert torch.equal(sums[0], sums[1])
    assert torch.equal(sums[0], sums[2])


def test_a_task_learnt_on_one_language_is_put_on_another():
    """theta0 + phi_s = 2, + phi_T = 5; theta0 + phi_t = 0.5: on t it is 0.5 + 3."""
    source, task, target = torch.tensor([2.0]), torch.tensor([5.0]), torch.tensor([0.5])
    assert add("x", source, [target, task]).tolist() == [3.5]


def test_what_nothing_changed_stays_as_it_is_in_its_type():
    base = torch.tensor([0.1, 3.0], dtype=torch.bfloat16)
    same = add("x", base, [base.float(), base])
    assert same.dtype == torch.bfloat16
    assert torch.equal(same, base)
    assert add("x", base, [base.float() + 1, base]).dtype == torch.float32


def test_one_factor_for_each_model_or_one_for_all():
    with pytest.raises(UsageError, match="2 factors for 3 models"):
        add("x", BASE, [TASK] * 3, factors=(1.0, 2.0))


@pytest.fixture
def three(tmp_path):
    """A base, and two sparse differences of it as directories."""
    base = directory(tmp_path / "base")
    places = [str(base)]
    for name, weight, column in (("language", "q_proj", 0), ("task", "q_proj", 1)):
        whole, words = load.load(str(base))
        with torch.no_grad():
            whole.get_submodule(f"model.layers.0.self_attn.{weight}").weight[:, column] += 0.5
        load.save_patch(whole, words, tmp_path / name, base=str(base))
        places.append(str(tmp_path / name))
    return places


def weights(reference):
    return {name: p.detach() for name, p in load.load(str(reference))[0].named_parameters()}


def test_sparse_differences_are_merged_as_the_models_that_they_make(three, tmp_path):
    base, language, task = three
    count = apply([language, task], base, add, Random(0), tmp_path / "made")
    made, before = weights(tmp_path / "made"), weights(base)
    name = "model.layers.0.self_attn.q_proj.weight"
    expected = before[name].clone()
    expected[:, :2] += 0.5
    torch.testing.assert_close(made[name], expected, rtol=0, atol=1e-6)
    assert all(torch.equal(made[other], p) for other, p in before.items() if other != name)
    assert count == 32  # beside the language alone, one column of 32 rows
    assert not (tmp_path / "made" / "turnsmith.json").exists()


def test_merging_sparse_differences_in_another_order_gives_the_same_model(three, tmp_path):
    base, language, task = three
    apply([language, task], base, add, Random(0), tmp_path / "one")
    apply([task, language], base, add, Random(0), tmp_path / "other")
    one, other = weights(tmp_path / "one"), weights(tmp_path / "other")
    assert all(torch.equal(one[name], p) for name, p in other.items())
