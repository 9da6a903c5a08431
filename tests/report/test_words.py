"""What a run came to, in one sentence that nobody is misled by."""

import pytest

from turnsmith.report import words


def metric(**others):
    return {
        "name": "loss without the stop token", "unit": "nats per token", "better": "lower", "n": 130,
        "of": "conversations", "before": 3.51, "after": 3.24, "difference": -0.27, "low": -0.31,
        "high": -0.24, "level": 0.95, "verdict": "better", "chance": None, "groups": [], **others,
    }  # fmt: skip


EVALUATE = {
    "verb": "evaluate",
    "model": "tuned",
    "against": "base",
    "tasks": [
        {"task": "heldout", "title": "Loss on held-out chats", "metrics": [metric()]},
        {"task": "divergence", "title": "Drift", "metrics": [
            metric(name="KL", before=0.0, after=0.0517, difference=0.0517, low=0.044, high=0.058,
                   verdict="worse")]},
        {"task": "abilities", "title": "General abilities", "metrics": [
            metric(name="right", unit="share", better="higher", before=0.55, after=0.5, difference=-0.05,
                   low=-0.12, high=0.02, verdict="undecided")]},
    ],
}  # fmt: skip
RUN = {
    "steps": [EVALUATE],
    "claim": [{"text": "heldout: loss without the stop token of tuned against base is lower"}],
    "cost": {"seconds": 560.0},
}


def test_the_sentence_says_what_fell_by_how_much_and_how_sure_that_is():
    assert words.result(RUN).replace("\u00a0", " ") == (
        "Loss on held-out chats (loss without the stop token) fell by 0.270 nats per token (from 3.510 to "
        "3.240, 95 % interval 0.240 to 0.310); drift (KL) is 0.0517 nats per token (95 % interval 0.0440 to "
        "0.0580); general abilities (right): no change can be told (difference \u22120.050, 95 % interval "
        "\u22120.120 to 0.020); took 9 min 20 s."
    )


def test_the_claim_comes_first_in_the_sentence_wherever_it_was_measured():
    claim = {**RUN["claim"][0], "text": "abilities: right of tuned against base is within 0.1"}
    assert words.result({**RUN, "claim": [claim]}).startswith(
        "General abilities (right): no change can be told"
    )


def test_of_a_task_on_several_data_the_one_that_the_claim_is_about_comes_first():
    other = {"task": "heldout", "on": "new", "title": "Loss on new chats", "metrics": [metric()]}
    step = {**EVALUATE, "tasks": [*EVALUATE["tasks"], other]}
    claim = {"text": "heldout on new: loss without the stop token of tuned against base is lower"}
    assert words.result({**RUN, "steps": [step], "claim": [claim]}).startswith("Loss on new chats")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"difference": 0.27, "low": 0.24, "high": 0.31, "after": 3.78, "verdict": "worse"},
         "rose by 0.270 nats per token, which is worse (from 3.510 to 3.780, 95 % interval 0.240 to 0.310)"),
        ({"difference": -0.02, "low": -0.06, "high": 0.02, "after": 3.49, "verdict": "undecided"},
         "told (from 3.510 to 3.490, difference \u22120.020 nats per token, 95 % interval \u22120.060 to "),
        ({"difference": 0.0, "low": 0.0, "high": 0.0, "verdict": "undecided"}, "no change can be told"),
        ({"difference": None, "low": None, "high": None, "verdict": None}, "is 3.24 nats per token;"),
        ({"low": -0.6, "high": 0.1, "verdict": None},
         "difference \u22120.27 nats per token, 95 % interval \u22120.60 to 0.10)"),
        ({"before": 0.0, "after": 0.3, "difference": 0.3, "low": 0.2, "high": 0.4, "better": "higher"},
         "rose by 0.30 nats per token (from 0 to 0.30, 95 % interval 0.20 to 0.40)"),
        ({"low": None, "high": None, "verdict": None}, "fell by 0.27 nats per token (from 3.51 to 3.24)"),
        ({"after": None, "before": None, "difference": None, "low": None, "high": None}, "is not measured"),
    ],
)  # fmt: skip
def test_the_sentence_is_honest_about_worse_undecided_and_missing(change, said):
    step = {**EVALUATE, "tasks": [{**EVALUATE["tasks"][0], "metrics": [metric(**change)]}]}
    sentence = words.result({**RUN, "steps": [step]}).replace("\u00a0", " ")
    assert said in sentence
    assert ("fell" in sentence) == ("fell" in said)


def test_measures_that_got_worse_are_counted_by_name():
    assert words.tally(RUN) == "Of 3 measures, 1 got better, 1 worse (KL), 1 undecided."
    assert words.tally({}) == ""
    assert (
        words.tally({"steps": [{"verb": "evaluate", "tasks": [{"metrics": [metric(verdict=None)]}]}]}) == ""
    )


@pytest.mark.parametrize(
    ("state", "said"), [("failed", "The run failed before"), ("stopped", "The run was stopped")]
)
def test_a_run_that_did_not_end_is_said_to_have_failed_or_stopped_before_any_figure(state, said):
    sentence = words.result({**RUN, "state": state})
    assert sentence.startswith(said)
    assert "fell by 0.270" in sentence
