"""Whatever the description allows, and what it does not, is answered without an error of the server's own."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from turnsmith.serve.batching import Batching
from turnsmith.serve.served import Served
from turnsmith.serve.store.talks import Ended, Made, Who, begun, ended
from turnsmith.serve.store.writing import Store
from turnsmith.types import Conversation
from turnsmith.types import Message as Said

BRIEF = {"max_tokens": 3, "max_completion_tokens": 3, "n": 2}
SETTINGS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = Store(str(tmp_path_factory.mktemp("store") / "a.db"))
    asked = Conversation((Said("user", "Hi"),))
    made.write(lambda s: begun(s, Who(), asked, Made("tiny"), ids=["known"], writer=None)).result()
    made.write(lambda s: ended(s, "known", Ended(Said("assistant", "Hello."), "stop", 1.0))).result()
    yield made
    made.close()


@pytest.fixture(scope="module")
def described(local, store, running):
    batching = Batching(local.engine, rows=4, capacity=256, waiting=64)
    server = running({"tiny": Served("tiny", local, batching)}, store=store, largest=200_000)
    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def operations(described):
    return [found.ok() for found in described.get_all_operations()]


def answered(case, known, asked):
    """Ask this, about what is there where it is known; `asked` keeps what was answered."""
    if isinstance(case.body, dict):
        case.body.update({name: value for name, value in BRIEF.items() if name in case.body})
        if known and "model" in case.body:
            case.body["model"] = "tiny"
    if known and case.path_parameters and "id" in case.path_parameters:
        case.path_parameters["id"] = "known"
    answer = case.call(timeout=60)
    assert answer.status_code < 500, (case.as_curl_command(), answer.text)
    asked.add((case.operation.label, answer.status_code))


@pytest.mark.parametrize("examples", [12, pytest.param(150, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda one: one.value)
def test_no_request_makes_the_server_fail(described, mode, examples):
    asked = set()
    for operation in operations(described):
        cases = operation.as_strategy(generation_mode=mode)
        try:
            settings(SETTINGS, max_examples=examples)(given(cases, st.booleans(), st.just(asked))(answered))()
        except Unsatisfiable:  # nothing can be wrong about a request without parameters
            assert mode is GenerationMode.NEGATIVE
            assert operation.method in ("get", "delete")
    assert len({label for label, _ in asked}) >= 15
