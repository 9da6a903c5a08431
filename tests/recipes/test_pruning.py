"""What a claim rests on stays, with all that it is made of; the rest goes."""

import pytest

from turnsmith.recipes import schema
from turnsmith.recipes.pruning import claimed
from turnsmith.registry import Registry

RECIPE = """
title: Many things
base: some/model
forgetting: false
steps:
  - data: {name: {train: 0.8, heldout: 0.2}, read: chats.jsonl}
  - data: {name: other, read: more.jsonl}
  - train: {name: tuned, data: train, fit: {steps: 1}}
  - train: {name: writer, data: other, fit: {steps: 1}}
  - data: {name: pairs, from: heldout, stages: [{respond: {by: writer}}]}
  - train: {name: aside, data: other, fit: {steps: 1}}
  - repeat:
      times: 2
      steps:
        - train: {name: policy, start: tuned, data: pairs, objective: dpo, fit: {steps: 1}}
        - evaluate: {model: aside, suite: [abilities]}
  - merge: {name: mixed, models: [policy], method: half_reset}
  - evaluate: {model: policy@1, against: tuned, suite: [{heldout: {on: heldout}}]}
  - evaluate: {model: mixed, against: tuned, suite: [{heldout: {on: heldout}}, abilities]}
  - evaluate: {model: policy, against: tuned, suite: [heldout: {on: heldout}, stopping, exact: {on: heldout}]}
claim:
"""


def left(*claim):
    """What is left of the recipe, in short."""
    return left_of(RECIPE + "".join(f"  - {{{one}, direction: lower}}\n" for one in claim))


def left_of(text):
    (arm,) = schema.arms(schema.parse(text, "test"), "test", Registry())
    return list(told(claimed(arm.recipe, Registry()).steps))


def told(steps):
    for step in steps:
        if step.repeat is not None:
            yield list(told(step.repeat.steps))
        elif step.evaluate is not None:
            suite = " ".join(task.name for task in step.evaluate.suite)
            yield f"{step.evaluate.model}/{step.evaluate.against}: {suite}"
        else:
            made = step.data or step.train or step.merge
            yield "+".join(made.names) if step.data else made.name


def test_a_claim_on_two_models_leaves_what_they_are_made_of():
    """The policy starts from `tuned` and learns from pairs that `writer` wrote."""
    assert left("task: heldout, quantity: loss, of: policy, against: tuned") == [
        "train+heldout", "other", "tuned", "writer", "pairs", ["policy"], "policy/tuned: heldout"
    ]  # fmt: skip


def test_a_version_is_measured_where_it_is_named():
    found = left("task: heldout, quantity: loss, of: policy@1, against: tuned")
    assert "policy@1/tuned: heldout" in found
    assert ["policy"] in found


def test_a_claim_on_a_merge_leaves_it_and_its_models():
    found = left("task: heldout, quantity: loss, of: mixed, against: tuned")
    assert "mixed" in found
    assert "mixed/tuned: heldout" in found
    assert ["policy"] in found


def test_several_statements_leave_what_each_rests_on():
    found = left(
        "task: heldout, quantity: loss, of: policy, against: tuned",
        "task: exact, quantity: exact answers, of: policy, against: tuned",
    )
    assert found[-1] == "policy/tuned: heldout exact"


@pytest.mark.parametrize("on", ["on: heldout, ", ""])
def test_the_data_may_be_named_or_not(on):
    found = left(f"task: exact, {on}quantity: exact answers, of: policy, against: tuned")
    assert found[-1] == "policy/tuned: exact"


def test_a_teacher_is_part_of_what_its_student_is_made_of():
    taught = "objective: distil, others: {teacher: aside}"
    step = f"  - train: {{name: small, data: train, {taught}, fit: {{steps: 1}}}}\n"
    measured = "  - evaluate: {model: small, suite: [{heldout: {on: heldout}}]}\n"
    claim = "  - {task: heldout, quantity: loss, of: small, direction: lower}\n"
    text = RECIPE.replace("claim:\n", f"{step}{measured}claim:\n{claim}")
    assert left_of(text) == [
        "train+heldout", "other", "aside", "small", "small/base: heldout"
    ]  # fmt: skip


def test_models_that_a_trainable_names_stay():
    """A lottery keeps what moved most in another training."""
    text = """
title: A lottery
base: some/model
forgetting: false
steps:
  - data: {name: chats, read: chats.jsonl}
  - train: {name: moved, data: chats, trainable: matrices, fit: {steps: 1}}
  - train: {name: aside, data: chats, fit: {steps: 1}}
  - train: {name: sparse, data: chats, trainable: {lottery: {moved: moved}}, fit: {steps: 1}}
  - evaluate: {model: sparse, suite: [heldout: {on: chats}]}
claim:
  - {task: heldout, quantity: loss, of: sparse, direction: lower}
"""
    assert left_of(text) == ["chats", "moved", "sparse", "sparse/base: heldout"]


def test_a_judge_of_what_is_collected_stays():
    text = """
title: A judge
base: some/model
forgetting: false
steps:
  - data: {name: {asked: 0.5, pairs: 0.5}, read: chats.jsonl}
  - train: {name: judge, data: pairs, objective: reward, fit: {steps: 1}}
  - train: {name: aside, data: asked, fit: {steps: 1}}
  - train:
      name: policy
      data: asked
      collect: {stages: [{answers: {by: policy, n: 2, reward: {reward_model: {by: judge}}}}], examples: 1}
      objective: rloo
      fit: {steps: 1, reference: live}
  - evaluate: {model: policy, suite: [abilities]}
claim:
  - {task: abilities, quantity: right by generation, of: policy, direction: higher}
"""
    assert left_of(text) == ["asked+pairs", "judge", "policy", "policy/base: abilities"]
