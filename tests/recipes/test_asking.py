"""Recipes that ask a model for what it cannot do are refused before anything runs."""

import pytest

from turnsmith.errors import UsageError
from turnsmith.recipes import components, schema

FAR = "http://host.invalid/v1#m"
NEAR = "smollm2-135m-instruct"
OWN = """
from turnsmith.evaluation.suite import answered
from turnsmith.registry import task

@task("own", data=True, asks="replies")
class Own:
    \"\"\"A task that samples in a way of its own.\"\"\"
    title, note, metrics = "own", "", ()

    def __init__(self, *, on: str = "", top_k: int = 0) -> None:
        pass
"""


def recipe(*stages, base=NEAR, evaluate=None):
    steps = [{"data": {"name": "asked", "stages": [{"sums": {"count": 4}}, *stages]}}]
    return {"title": "No", "base": base, "steps": steps + ([{"evaluate": evaluate}] if evaluate else [])}


def refused(plain, use=()):
    with pytest.raises(UsageError) as error:
        schema.arms(plain, "no.yaml", components(use))
    return str(error.value)


def responding(by, **options):
    return {"respond": {"by": by, **options}}


@pytest.mark.parametrize("by", [FAR, "base"])
def test_a_stage_that_asks_an_endpoint_for_what_it_lacks_is_refused(by):
    said = refused(recipe(responding(by, top_k=20, min_p=0.1), base=FAR))
    assert said.startswith(
        f"no.yaml: data asked: respond: `by`, {FAR}, is asked for min_p, top_k, which OpenAI's"
    )
    assert "(server=vllm)" in said


@pytest.mark.parametrize(
    ("by", "options"),
    [
        (f"{FAR}?server=vllm", {"top_k": 20, "min_p": 0.1, "repetition_penalty": 1.1, "schema": {}}),
        (f"{FAR}?server=llamacpp", {"top_k": 20, "repetition_penalty": 1.1, "stop": ["x"]}),
        (FAR, {"top_k": 0, "stop": ["x"], "frequency_penalty": 0.5, "temperature": 0.2}),
        (NEAR, {"top_k": 20, "stop": ["x"] * 9, "presence_penalty": 0.5}),
    ],
)
def test_what_the_server_has_is_not(by, options):
    schema.arms(recipe(responding(by, **options)), "yes.yaml", components())


@pytest.mark.parametrize(
    ("by", "options", "words"),
    [
        (
            f"{FAR}?server=llamacpp",
            {"presence_penalty": 0.5},
            "asked for presence_penalty, which llama.cpp's server",
        ),
        (FAR, {"stop": list("abcde")}, "asked to stop at 5 texts, and OpenAI's protocol allows 4"),
    ],
)
def test_each_server_is_held_to_what_it_has(by, options, words):
    assert words in refused(recipe(responding(by, **options)))


@pytest.mark.parametrize(("model", "against"), [(FAR, NEAR), (NEAR, FAR), ("base", NEAR)])
def test_a_task_that_asks_either_side_for_what_it_lacks_is_refused(model, against, tmp_path):
    own = tmp_path / "own.py"
    own.write_text(OWN)
    base = FAR if model == "base" else NEAR
    suite = [{"own": {"on": "asked", "top_k": 5}}]
    said = refused(recipe(base=base, evaluate={"model": model, "against": against, "suite": suite}), [own])
    assert said.startswith(f"no.yaml: own, {FAR}, is asked for top_k")


def test_a_file_for_llama_cpp_must_be_there():
    said = refused(recipe(responding("llamacpp:nowhere.gguf")))
    assert "no.yaml: llamacpp:nowhere.gguf: there is no file" in said
