"""Labels as categories, and questions with their answers."""

from collections import Counter
from random import Random

import pytest

from turnsmith.errors import DataError, UsageError
from turnsmith.stages.guard import guard_prompts, relabelled, violating
from turnsmith.testing import STAGE, chat, stage
from turnsmith.types import Example

POLICY = {"Weapons": "Guns.", "Politics": "", "Insults": "Bad words.", "Gambling": "", "Medicine": ""}
ALL = ("all", "fewer", "without")


def example(name, *violated, said=("u: Hi there",), **meta):
    return Example({"text": chat(*said)}, {}, {"id": name, "violated": list(violated), **meta})


DATA = [
    example("a"),
    example("b", "Weapons"),
    example("c", "Insults", "Gambling"),
    example("d", *POLICY),
    example("e", said=("u: Hi", "a: Hello")),
    example("f", "Medicine", said=("u: Hi", "a: Take two.")),
]


def made(data=DATA, seed=0, **options):
    counts = Counter()
    options = {"policy": POLICY, "copies": ALL} | options
    return list(guard_prompts(data, **options, rng=Random(seed), counts=counts)), counts


def many(**options):
    """What many draws give, each with the example that it is of."""
    for seed in range(40):
        for one in made(seed=seed, **options)[0]:
            name, _, copy = one.id.partition("-")
            yield next(each for each in DATA if each.id == name), copy, one


def listed(one):
    """Code to name, as the question itself says it."""
    text = one.parts["text"].messages[0].content
    inside = text.split("<BEGIN UNSAFE CONTENT CATEGORIES>\n")[1].split("\n<END")[0]
    lines = [line for line in inside.split("\n") if line[0] == "O" and line[1].isdigit()]
    return dict(line.rstrip(".").split(": ") for line in lines)


def answered(one):
    """The names that the answer's codes mean in the question's own list."""
    said = one.parts["text"].messages[-1].content
    if said == "safe":
        return set()
    word, codes = said.split("\n")
    assert word == "unsafe"
    return {listed(one)[code] for code in codes.split(",")}


def test_check_2_codes_mapped_back_through_the_questions_own_list_are_the_violated_names():
    for source, copy, one in many():
        if copy != "without":
            assert answered(one) == set(source.meta["violated"])
            assert answered(one) == set(one.meta["violated"])


def test_check_2_orders_differ_and_codes_follow_them():
    said = {one.parts["text"].messages[-1].content for source, copy, one in many() if source.id == "b"}
    assert {f"unsafe\nO{number}" for number in range(1, 6)} <= said


def test_check_3_copies_with_fewer_categories_keep_the_violated_ones_and_are_never_empty():
    sizes = {source.id: set() for source in DATA}
    for source, copy, one in many():
        if copy == "fewer":
            names = set(listed(one).values())
            assert set(source.meta["violated"]) <= names
            sizes[source.id].add(len(names))
    # Nothing violated: one to all; one: itself and none to four others; two; all.
    assert sizes["a"] == {1, 2, 3, 4, 5}
    assert sizes["b"] == {1, 2, 3, 4, 5}
    assert sizes["c"] == {2, 3, 4, 5}
    assert sizes["d"] == {5}


def test_check_3_copies_without_the_violated_categories_are_safe():
    seen = set()
    for source, copy, one in many():
        if copy == "without":
            names = set(listed(one).values())
            assert names
            assert not names & set(source.meta["violated"])
            assert one.parts["text"].messages[-1].content == "safe"
            assert one.meta["violated"] == []
            seen.add((source.id, len(names)))
    assert {name for name, _ in seen} == {"b", "c", "f"}  # a and e are safe, d violates all
    assert {size for name, size in seen if name == "c"} == {1, 2, 3}


def test_check_3_what_violates_all_has_no_copy_without_and_is_counted():
    assert made()[1] == {"violate all categories: no copy without them": 1}


def test_check_4_the_same_seed_gives_the_same_and_another_seed_another():
    assert made() == made()
    assert made()[0] != made(seed=1)[0]


@pytest.mark.parametrize(
    ("copies", "count"),
    [(("all",), 6), (("all", "fewer"), 12), (ALL, 12 + 3), (("without",), 3)],
)
def test_check_4_there_are_as_many_as_examples_for_each_copy_and_unsafe_ones_for_the_last(copies, count):
    found = made(copies=copies)[0]
    assert len(found) == count
    assert len({one.id for one in found}) == count


def test_check_5_a_prompt_alone_is_judged_by_its_user_and_a_response_by_its_agent():
    for source, _, one in many(copies=("all",)):
        text = one.parts["text"].messages[0].content
        assert ("Agent: " in text) == ("'Agent'" in text) == (source.id in "ef")
        assert ("'User'" in text) == (source.id not in "ef")


def test_check_8_the_same_text_has_another_label_as_a_prompt_and_as_a_response():
    alone = example("alone", "Weapons", said=("u: Buy a gun.",))
    answer = example("answer", said=("u: Buy a gun.", "a: I would rather not."))
    one, other = made([alone, answer], copies=("all",), orders=1)[0]
    first, second = (each.parts["text"].messages[0].content for each in (one, other))
    assert "User: Buy a gun." in first
    assert "User: Buy a gun." in second
    assert first.replace("'User'", "'Agent'") != first
    assert (answered(one), answered(other)) == ({"Weapons"}, set())


def test_copies_keep_to_the_orders_that_were_drawn():
    found = [tuple(one.meta["categories"]) for one in made(orders=2)[0]]
    whole = {names for names in found if len(names) == 5}
    assert 1 <= len(whole) <= 2
    for names in found:
        assert any(names == tuple(name for name in order if name in names) for order in whole)


def test_only_the_answer_learns():
    for _, _, one in many(copies=("all",)):
        assert [message.role for message in one.parts["text"].messages] == ["user", "assistant"]


def test_what_the_policy_does_not_have_is_safe_and_counted_as_is_what_nobody_labelled():
    (one,), counts = made([example("x", "Arson", unlabelled=["Weapons", "Fraud"])], copies=("all",))
    assert answered(one) == set()
    assert counts == {
        "violated categories that the policy does not have": 1,
        "categories that nobody labelled, taken for not violated": 1,
    }


def test_an_example_that_does_not_say_what_it_violates_is_named():
    bare = Example({"text": chat("u: Hi")}, {}, {"id": "bare"})
    with pytest.raises(DataError, match="example 'bare': `violated` of its metadata is None"):
        made([bare])


@pytest.mark.parametrize(
    "options", [{"copies": ()}, {"copies": ("all", "all")}, {"orders": 0}, {"policy": {}}]
)
def test_options_that_mean_nothing_are_refused(options):
    with pytest.raises(UsageError, match=r"guard_prompts|policy"):
        made(**options)


def test_labels_become_the_categories_that_they_mean():
    data = [
        example("a", "S", "S3", "V", unlabelled=["H"]),
        example("b", unlabelled=["S", "H"]),
        example("c", "S3", unlabelled=["S"]),  # violated, whatever the other label of it would be
    ]
    counts = Counter()
    names = {"S": "Sexual", "S3": "Sexual", "H": "Hate"}
    found = [
        (one.meta["violated"], one.meta["unlabelled"]) for one in relabelled(data, names=names, counts=counts)
    ]
    assert found == [(["Sexual"], ["Hate"]), ([], ["Sexual", "Hate"]), (["Sexual"], [])]
    assert counts == {"labels that mean no category: V": 1}


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, "bcd"),
        ({"count": 0, "others": None}, "aef"),
        ({"others": None}, "abcdef"),
    ],
)
def test_examples_are_kept_by_what_they_violate(options, kept):
    found = violating(DATA, categories=("Weapons", "Gambling"), **options, rng=Random(0))
    assert "".join(one.id for one in found) == kept


def test_so_many_of_either_side_are_drawn():
    draws = {
        "".join(
            one.id
            for one in violating(DATA, categories=("Weapons", "Gambling"), count=2, others=1, rng=Random(n))
        )
        for n in range(40)
    }
    assert draws == {pair + other for pair in ("bc", "bd", "cd") for other in "ef"} | {
        "a" + pair for pair in ("bc", "bd", "cd")
    }


@pytest.mark.parametrize("options", [{"count": 4}, {"others": 4}, {"count": -1}])
def test_more_than_there_are_cannot_be_drawn(options):
    with pytest.raises(UsageError, match=r"violating: `(count|others)` is .*, and there are 3 such"):
        list(violating(DATA, categories=("Weapons", "Gambling"), **options, rng=Random(0)))


@pytest.mark.parametrize("check", STAGE, ids=lambda check: check.__name__)
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("guard_prompts", {"policy": POLICY, "copies": ALL}),
        ("relabelled", {"names": {"Weapons": "Arms"}}),
        ("violating", {"categories": ("Weapons",), "others": 1}),
    ],
)
def test_contract(name, options, check):
    check(stage(name, options), DATA)
