"""Sparse differences: taken, added, taken off, kept in a file, and refused where they do not fit."""

import pytest
import torch
from safetensors.torch import save_file

from turnsmith.errors import ModelError
from turnsmith.models import patch
from turnsmith.models.patch import Sparse
from turnsmith.testing import model


def weights():
    """Numbers with few digits, so that sums and differences of them are exact."""
    return {"one": torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), "two": torch.tensor([0.5, 0.25])}


def changed(**changes):
    """`weights` with entries exchanged: name -> {place: value}."""
    found = weights()
    for name, places in changes.items():
        for place, value in places.items():
            found[name][place] = value
    return found


def same(one, other):
    return one.keys() == other.keys() and all(
        a.shape == b.shape
        and torch.equal(a.indices, b.indices)
        and torch.equal(a.values, b.values)
        and (a.indices.dtype, a.values.dtype) == (b.indices.dtype, b.values.dtype)
        and a.relative == b.relative
        for a, b in ((one[name], other[name]) for name in one)
    )


def test_a_difference_lists_changed_entries_row_by_row():
    found = patch.between(weights(), changed(one={(0, 2): 3.5, (1, 1): 4.0}))
    assert set(found) == {"one"}
    assert found["one"].shape == (2, 3)
    assert found["one"].indices.tolist() == [2, 4]  # row 0, column 2; row 1, column 1, of three columns
    assert found["one"].values.tolist() == [0.5, -1.0]


def test_differences_up_to_the_least_one_are_dropped():
    before = {"x": torch.zeros(4)}
    found = patch.between(before, {"x": torch.tensor([1e-7, 0.99e-7, -1.1e-7, 2e-7])})
    assert found["x"].indices.tolist() == [2, 3]


def test_check_3_added_and_taken_off_the_weights_are_as_before():
    small = patch.between(weights(), changed(one={(0, 0): -7.0, (1, 2): 6.5}, two={(1,): 8.0}))
    here = weights()
    patch.add(here, small)
    assert here["one"].tolist() == [[-7.0, 2.0, 3.0], [4.0, 5.0, 6.5]]
    assert here["two"].tolist() == [0.5, 8.0]
    patch.add(here, small, factor=-1.0)
    assert all(torch.equal(here[name], old) for name, old in weights().items())


def test_check_3_weights_of_a_model_come_back_within_a_millionth():
    first, second = (dict(model(seed=seed).named_parameters()) for seed in (0, 1))
    before = {name: p.detach().clone() for name, p in first.items()}
    found = patch.between(first, second)
    patch.add(first, found)
    for name, p in second.items():
        torch.testing.assert_close(first[name], p, rtol=0, atol=1e-6)
    patch.add(first, found, factor=-1.0)
    for name, p in before.items():
        torch.testing.assert_close(first[name].detach(), p, rtol=0, atol=1e-6)


def test_check_4_two_differences_add_in_either_order():
    language = patch.between(weights(), changed(one={(0, 0): 1.5, (0, 1): 2.25}))
    task = patch.between(weights(), changed(one={(0, 1): 1.0}, two={(0,): 0.75}))
    one, other = weights(), weights()
    for which, order in ((one, (language, task)), (other, (task, language))):
        for each in order:
            patch.add(which, each)
    assert one["one"].tolist() == [[1.5, 1.25, 3.0], [4.0, 5.0, 6.0]]  # 2 + 0.25 - 1
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_sum_in_bf16_is_rounded_once():
    """bf16 has steps of 2^-7 above 1. 2^-8 + 2^-18 is over the half of one, and 2^-8, as bf16 has it, is not:
    that goes to the even neighbour, 1."""
    here = {"x": torch.tensor([1.0], dtype=torch.bfloat16)}
    patch.add(here, {"x": Sparse((1,), torch.tensor([0]), torch.tensor([2**-8 + 2**-18]), "")})
    assert here["x"].item() == 1 + 2**-7


def test_check_5_a_file_gives_back_the_same_indices_and_values(tmp_path):
    found = patch.between(weights(), changed(one={(1, 0): 1 / 3, (1, 2): 1e30}, two={(0,): 1e-6}))
    patch.write(found, tmp_path / "patch.safetensors")
    assert same(patch.read(tmp_path / "patch.safetensors"), found)


def test_check_5_an_empty_difference_is_a_file_too(tmp_path):
    found = patch.between(weights(), weights())
    assert found == {}
    patch.write(found, tmp_path / "patch.safetensors")
    assert patch.read(tmp_path / "patch.safetensors") == {}
    here = weights()
    patch.add(here, {})
    assert all(torch.equal(here[name], old) for name, old in weights().items())


def test_check_5_indices_of_more_than_31_bits_are_kept(tmp_path):
    shape = (70_000, 70_000)  # 4.9e9 entries; none of them is made
    indices = torch.tensor([3, 2**31 + 5, 2**32 + 7, 70_000 * 70_000 - 1])
    found = {"wide": Sparse(shape, indices, torch.tensor([1.0, -2.0, 0.1, 4.0]), "of something")}
    patch.write(found, tmp_path / "patch.safetensors")
    assert same(patch.read(tmp_path / "patch.safetensors"), found)
    assert patch.read(tmp_path / "patch.safetensors")["wide"].indices.tolist()[1] == 2_147_483_653


def test_check_7_another_vocabulary_is_refused_by_name_and_nothing_is_changed():
    small, wide = (dict(model(vocabulary=size).named_parameters()) for size in (320, 321))
    other = {name: p.detach() + 1 for name, p in small.items()}
    found = patch.between(small, dict(reversed(other.items())))  # the embeddings last
    before = {name: p.detach().clone() for name, p in wide.items()}
    with pytest.raises(ModelError, match=r"embed_tokens.weight is \[321, 32\] in this model and \[320, 32\]"):
        patch.add(wide, found)
    assert all(torch.equal(p, before[name]) for name, p in wide.items())


def test_a_tensor_that_the_model_lacks_is_refused_by_name():
    found = patch.between(weights(), changed(two={(0,): 1.0}))
    with pytest.raises(ModelError, match=r"two is missing in this model and \[2\]"):
        patch.add({"one": weights()["one"]}, found)


def test_the_weights_that_a_difference_was_taken_from_are_known_again():
    found = patch.between(weights(), changed(one={(1, 1): 7.0}))
    patch.prove(changed(one={(0, 0): 9.0}), found)  # an entry that it leaves alone
    patch.prove({name: tensor.to(torch.bfloat16) for name, tensor in weights().items()}, found)
    with pytest.raises(ModelError, match=r"one is not what it was .* the base has been exchanged"):
        patch.prove(changed(one={(1, 1): 5.5}), found)


@pytest.mark.parametrize(
    ("indices", "values"),
    [
        ([0, 6], [1.0, 1.0]),  # behind the end of 2 x 3
        ([-1, 2], [1.0, 1.0]),
        ([2, 2], [1.0, 1.0]),  # twice
        ([1, 2], [1.0]),
        ([], []),
    ],
)
def test_a_file_whose_indices_do_not_fit_is_refused(tmp_path, indices, values):
    bad = Sparse((2, 3), torch.tensor(indices, dtype=torch.int64), torch.tensor(values), "")
    patch.write({"one": bad}, tmp_path / "patch.safetensors")
    with pytest.raises(ModelError, match=r"indices and values of one do not fit a tensor of \[2, 3\]"):
        patch.read(tmp_path / "patch.safetensors")


def test_what_is_no_sparse_difference_is_refused(tmp_path):
    save_file(weights(), tmp_path / "other.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"no")
    for name in ("other", "torn", "absent"):
        with pytest.raises(ModelError, match=f"{name}.safetensors is no whole sparse difference"):
            patch.read(tmp_path / f"{name}.safetensors")
