"""Calls of functions, thoughts and structured answers as the official client and its helpers read them."""

import json

import jsonschema
import openai
import pydantic
import pytest
from server import lighthouse

QUESTION = [{"role": "user", "content": "How is the weather in Oslo?"}]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS, "strict": True}}]


def connect(server):
    return openai.OpenAI(base_url=server.base_url + "/v1", api_key="none", max_retries=0)


def test_a_call_and_its_result(calling):
    answer = calling.chat.completions.create(model="calling", messages=QUESTION, tools=TOOLS, temperature=0)
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content == "I will look."
    [call] = choice.message.tool_calls
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments) == {"city": "Oslo", "days": 2}
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    calling.chat.completions.create(model="calling", messages=[*QUESTION, choice.message, result], tools=TOOLS)


def test_a_streamed_call_by_the_helper(calling):
    fragments = []
    with calling.chat.completions.stream(model="calling", messages=QUESTION, tools=TOOLS, temperature=0) as stream:
        for event in stream:
            if event.type == "tool_calls.function.arguments.delta":
                fragments.append(event.arguments_delta)
        message = stream.get_final_completion().choices[0].message
    assert len(fragments) > 3
    assert json.loads("".join(fragments)) == {"city": "Oslo", "days": 2}
    assert message.tool_calls[0].function.parsed_arguments == {"city": "Oslo", "days": 2}


def test_a_call_in_a_response(calling):
    tool = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}
    with calling.responses.stream(model="calling", input="Weather in Oslo?", tools=[tool]) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    message, call = final.output
    assert message.content[0].text == "I will look." and call.type == "function_call"
    output = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]
    calling.responses.create(model="calling", input=output, previous_response_id=final.id, tools=[tool])


def test_a_call_beside_a_search(calling):
    tool = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}
    search = {"type": "file_search", "vector_store_ids": [lighthouse(str(calling.base_url))]}
    request = {"model": "calling", "tools": [search, tool], "include": ["file_search_call.results"]}
    with calling.responses.stream(input="Who is the keeper of the lighthouse?", **request) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    found, message, call = final.output
    assert found.results[0].filename == "lighthouse.md" and message.content[0].text == "I will look."
    assert json.loads(call.arguments) == {"city": "Oslo", "days": 2}
    output = [{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]
    goes_on = calling.responses.create(input=output, previous_response_id=final.id, **request)
    assert [item.type for item in goes_on.output] == ["message", "function_call"]
    forced = calling.responses.create(input="Who?", tool_choice={"type": "file_search"}, **request)
    assert [item.type for item in forced.output] == ["file_search_call", "message"]


def test_thoughts(thinking):
    answer = thinking.chat.completions.create(model="thinking", messages=QUESTION, reasoning_effort="low")
    assert answer.choices[0].message.content == "Yes, indeed."
    assert answer.choices[0].message.reasoning_content == "It is so."
    assert 0 < answer.usage.completion_tokens_details.reasoning_tokens < answer.usage.completion_tokens
    response = thinking.responses.create(model="thinking", input="Is it so?", reasoning={"effort": "low"})
    reasoning, _ = response.output
    assert reasoning.content[0].text == "It is so." and response.output_text == "Yes, indeed."


class Author(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=8)
    born: int | None


class Book(pydantic.BaseModel):
    title: str = pydantic.Field(max_length=12)
    pages: int = pydantic.Field(ge=1, le=5000)
    authors: list[Author] = pydantic.Field(min_length=1, max_length=2)
    is_lent: bool


def test_parse_gives_an_object_of_the_class(babbling):
    for seed in range(5):
        parsed = babbling.chat.completions.parse(
            model="babbling", messages=QUESTION, response_format=Book, temperature=1, seed=seed
        )
        book = parsed.choices[0].message.parsed
        assert isinstance(book, Book) and 1 <= book.pages <= 5000
    response = babbling.responses.parse(model="babbling", input="A book", text_format=Book)
    assert isinstance(response.output_parsed, Book)


def test_another_validator_agrees(babbling):
    schema = {
        "type": "object",
        "properties": {
            "kind": {"enum": ["a", "b", 3, None]},
            "size": {"anyOf": [{"type": "integer", "minimum": -5, "exclusiveMaximum": 1000}, {"type": "null"}]},
            "when": {"type": "string", "format": "date"},
            "codes": {"type": "array", "items": {"type": "string", "pattern": "^[A-F]{2}-[0-9]+$", "maxLength": 6}, "maxItems": 3},
            "nested": {"$ref": "#/$defs/node"},
        },
        "required": ["kind", "size", "when", "codes", "nested"],
        "additionalProperties": False,
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"value": {"type": "boolean"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                "required": ["value", "next"],
                "additionalProperties": False,
            }
        },
    }
    format = {"type": "json_schema", "json_schema": {"name": "all", "strict": True, "schema": schema}}
    for seed in range(12):
        answer = babbling.chat.completions.create(
            model="babbling", messages=QUESTION, response_format=format, temperature=1, seed=seed
        )
        assert answer.choices[0].finish_reason == "stop"
        jsonschema.validate(json.loads(answer.choices[0].message.content), schema)


def test_a_required_call_fits_its_parameters(babbling):
    for seed in range(3):
        answer = babbling.chat.completions.create(
            model="babbling", messages=QUESTION, tools=TOOLS, tool_choice="required", parallel_tool_calls=False,
            temperature=1, seed=seed, max_tokens=3000,
        )
        [call] = answer.choices[0].message.tool_calls
        if answer.choices[0].finish_reason == "tool_calls":
            jsonschema.validate(json.loads(call.function.arguments), PARAMETERS)
