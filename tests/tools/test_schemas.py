"""Schemas of tools are checked, and calls against them, with errors that name the argument."""

import pytest

from turnsmith.errors import DataError
from turnsmith.tools.schemas import parameters, wrong
from turnsmith.types import Call

PROPERTIES = {
    "city": {"type": "string"},
    "days": {"type": "integer", "minimum": 1},
    "unit": {"enum": ["celsius", "fahrenheit"]},
    "place": {
        "type": "object",
        "properties": {"at": {"type": "array", "items": {"type": "number"}}},
        "required": ["at"],
        "additionalProperties": False,
    },
}
SCHEMA = {"type": "object", "properties": PROPERTIES, "required": ["city"], "additionalProperties": False}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


def test_a_call_that_keeps_the_schema_has_nothing_wrong():
    given = {"city": "Oslo", "days": 3, "unit": "celsius", "place": {"at": [59.9, 10]}}
    assert wrong(Call("weather", given), [WEATHER]) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "weather: argument city is missing"),
        ({"city": 3}, "weather: argument city: 3 is not of type 'string'"),
        ({"city": "Oslo", "days": "3"}, "weather: argument days: '3' is not of type 'integer'"),
        ({"city": "Oslo", "days": True}, "weather: argument days: True is not of type 'integer'"),
        ({"city": "Oslo", "days": 0}, "weather: argument days: 0 is less than the minimum of 1"),
        (
            {"city": "Oslo", "unit": "kelvin"},
            "weather: argument unit: 'kelvin' is not one of ['celsius', 'fahrenheit']",
        ),
        ({"city": "Oslo", "day": 3}, "weather: argument day is not known; did you mean 'days'?"),
        ({"city": "Oslo", "place": {}}, "weather: argument place.at is missing"),
        (
            {"city": "Oslo", "place": {"at": [1, "x"]}},
            "weather: argument place.at[1]: 'x' is not of type 'number'",
        ),
        (
            {"city": "Oslo", "place": {"at": [], "to": 1}},
            "weather: argument place.to is not known; there is at",
        ),
    ],
)
def test_what_is_wrong_names_the_argument(given, said):
    assert wrong(Call("weather", given), [WEATHER]) == [said]


def test_all_that_is_wrong_is_said_once():
    found = wrong(Call("weather", {"days": "x", "unit": "y"}), [WEATHER])
    assert len(found) == 3
    both = {"name": "both", "parameters": {"required": ["a", "b"]}}
    assert wrong(Call("both", {}), [both]) == ["both: argument a is missing", "both: argument b is missing"]


def test_an_unknown_tool_is_answered_with_the_nearest():
    (said,) = wrong(Call("wether", {}), [WEATHER])
    assert said == "no tool is called 'wether'; did you mean 'weather'?"


def test_a_tool_without_parameters_takes_none():
    assert wrong(Call("now", {}), [{"name": "now"}]) == []
    assert wrong(Call("now", {"zone": "UTC"}), [{"name": "now"}]) == [
        "now: argument zone is not known; there is none"
    ]


def test_more_arguments_than_it_speaks_of_are_what_the_schema_allows():
    free = {"name": "free", "parameters": {"properties": {"a": {"type": "string"}}}}
    assert wrong(Call("free", {"a": "x", "b": 1}), [free]) == []


def test_references_within_the_schema_are_followed():
    schema = {"properties": {"a": {"$ref": "#/$defs/small"}}, "$defs": {"small": {"maximum": 3}}}
    tool = {"name": "f", "parameters": schema}
    assert wrong(Call("f", {"a": 4}), [tool]) == ["f: argument a: 4 is greater than the maximum of 3"]


@pytest.mark.parametrize(
    ("tool", "said"),
    [
        ({"description": "nameless"}, "tool 1 has no name"),
        ({"name": "f", "parameters": "none"}, "the parameters of tool 'f' are no schema"),
        ({"name": "f", "parameters": {"type": "array"}}, "must be an object with the arguments by name"),
        (
            {"name": "f", "parameters": {"properties": {"a": {"type": "text"}}}},
            r"the schema of tool 'f' is none, properties\.a\.type: 'text' is not valid",
        ),
        ({"name": "f", "parameters": {"required": "a"}}, r"is none, required: 'a' is not of type 'array'"),
        (
            {"name": "f", "parameters": {"properties": {"a": {"$ref": "http://example.org/a.json"}}}},
            r"refers to 'http://example\.org/a\.json', which is not fetched",
        ),
    ],
)
def test_what_is_no_schema_is_an_error_that_names_tool_and_place(tool, said):
    with pytest.raises(DataError, match=said):
        parameters([tool])


def test_a_reference_to_what_is_not_there_is_an_error():
    tool = {"name": "f", "parameters": {"properties": {"a": {"$ref": "#/$defs/none"}}}}
    with pytest.raises(DataError, match="'f' refers to what it does not have"):
        wrong(Call("f", {"a": 1}), [tool])


def test_two_tools_of_one_name_are_an_error():
    with pytest.raises(DataError, match="two tools are called 'weather'"):
        parameters([WEATHER, WEATHER])
