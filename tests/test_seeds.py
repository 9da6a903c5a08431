"""Randomness is keyed by what it is for, never by the order of work."""

import hashlib
import subprocess
import sys

import torch

from turnsmith import seeds


def test_a_number_is_the_hash_of_its_key():
    expected = int.from_bytes(hashlib.sha256(b"int:0\x1fstr:order\x1fint:1").digest()[:8], "big") >> 1
    assert seeds.number(0, "order", 1) == expected


def test_a_number_is_the_same_in_another_process():
    code = "from turnsmith import seeds; print(seeds.number(7, 'split', 'people'))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(said) == seeds.number(7, "split", "people")


def test_keys_that_differ_in_any_part_give_other_numbers():
    keys = [(0,), (1,), ("0",), (0, 0), ("0", 0), (0, "0"), ("a", "b"), ("b", "a"), ("ab",), (True,)]
    assert len({seeds.number(*key) for key in keys}) == len(keys)


def test_numbers_fit_into_63_bits():
    assert all(0 <= seeds.number(i) < 2**63 for i in range(1000))


def test_generators_repeat_for_the_same_key_and_differ_for_another():
    for draw in (
        lambda *key: seeds.stream(*key).random(),
        lambda *key: float(seeds.array(*key).random()),
        lambda *key: float(torch.rand(1, generator=seeds.tensor(*key))),
    ):
        assert draw(0, "x") == draw(0, "x") != draw(0, "y")


def test_global_generators_are_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    torch.rand(3, generator=seeds.tensor(1))
    assert torch.rand(1) == expected
