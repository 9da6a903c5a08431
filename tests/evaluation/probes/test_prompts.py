"""Prompts as a model reads them: where what is, and what is refused."""

import pytest
import torch

from turnsmith.data.containers import Scene
from turnsmith.errors import DataError
from turnsmith.evaluation.probes.prompts import Asked

TWO = Scene(("book", "car"), ("C", "A"), 0, "C")
THREE = Scene(("hat", "cup", "car"), ("B", "D", "A"), 1, "D")


def test_the_places_of_a_prompt_are_its_last_token_the_label_and_where_that_stood_before(probe):
    # The book |is in Box| C , the car |is in Box| A . Box C |contains the|: 13 tokens; of three boxes 18.
    prompts = probe.prompts([Asked(TWO, "book", "two"), Asked(THREE, "cup", "three")])
    assert prompts.at["last"].tolist() == [12, 17]
    assert prompts.at["label"].tolist() == [11, 16]
    assert prompts.at["earlier"].tolist() == [3, 8]


def test_a_corrupted_prompt_has_the_place_of_the_label_that_was_asked_for(probe):
    prompts = probe.prompts([Asked(Scene(TWO.things, TWO.boxes, 1, "D"), "car", "two")])
    assert (prompts.at["label"].item(), prompts.at["earlier"].item()) == (11, 8)


def test_the_model_that_was_written_by_hand_answers_every_prompt(probe, scenes):
    prompts = probe.prompts([Asked(one, one.answer, id) for id, one in scenes.items()])
    said = probe.answers(prompts)
    assert said.right.tolist() == [1.0] * 24
    assert (said.probability > 0.8).all()


def test_6_rows_of_different_length_are_answered_as_they_are_alone(probe):
    asked = [Asked(TWO, "car", "two"), Asked(THREE, "cup", "three")]  # the first is a wrong answer
    together = probe.answers(probe.prompts(asked))
    for at, one in enumerate(asked):
        alone = probe.answers(probe.prompts([one]))
        assert together.right[at] == alone.right[0] == at
        torch.testing.assert_close(together.logit[at], alone.logit[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("scene", "says"),
    [
        (
            Scene(("book", "pen"), ("C", "A"), 0, "C"),
            "example 'x': the thing 'pen' is 4 tokens of this model's",
        ),
        (Scene(("book", "car"), ("C", "E"), 0, "C"), "example 'x': the label 'E' is 2 tokens"),
        (Scene(("book", "C"), ("C", "A"), 0, "C"), "example 'x': the label 'C' stands 3 times in the prompt"),
    ],
)
def test_6_what_is_not_one_token_or_stands_twice_is_refused_by_name(probe, scene, says):
    with pytest.raises(DataError, match=says):
        probe.prompts([Asked(scene, scene.answer, "x")])
