"""The official Anthropic client does its work against Inglenook by a change of its base URL alone."""

import asyncio
import typing

import anthropic
import pydantic
import pytest

SAID = "The keeper of the lighthouse is Maren Holt [1]. An invented source [99] is not shown."
QUESTION = [{"role": "user", "content": "How is the weather in Oslo?"}]
QUOTED = "\u201cThe keeper of the lighthouse is Maren Holt, who came in 1998.\u201d [1]"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}, "days": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS = [{"name": "weather", "description": "The weather of a place", "input_schema": SCHEMA}]


@pytest.fixture(scope="module")
def local(server):
    return anthropic.Anthropic(base_url=server.base_url, api_key="test-key", max_retries=0)


def connect(server):
    return anthropic.Anthropic(base_url=server.base_url, api_key="none", max_retries=0)


def test_a_message(local):
    message = local.messages.create(model="scripted", max_tokens=100, system="Be brief.", messages=QUESTION)
    assert message.content[0].text == SAID and message.stop_reason == "end_turn"
    assert message._request_id.startswith("req_")
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    again = local.messages.create(
        model="scripted", max_tokens=100, system=system, messages=QUESTION, stop_sequences=["Maren"]
    )
    assert again.stop_reason == "stop_sequence" and again.stop_sequence == "Maren"
    assert again.usage.cache_read_input_tokens > 0
    total = message.usage.input_tokens + message.usage.cache_read_input_tokens
    counted = local.messages.count_tokens(model="scripted", system="Be brief.", messages=QUESTION)
    assert counted.input_tokens == total


def test_documents_answer_in_their_own_words(quoting):
    asked = [{"role": "user", "content": "Who is the keeper of the lighthouse?"}]
    message = quoting.messages.create(model="inglenook-quote", max_tokens=100, messages=asked)
    assert message.content[0].text == QUOTED and message.stop_reason == "end_turn"
    with quoting.messages.stream(model="inglenook-quote", max_tokens=100, messages=asked) as stream:
        assert "".join(stream.text_stream) == QUOTED
    with pytest.raises(anthropic.BadRequestError, match="tools is not served for 'inglenook-quote'"):
        quoting.messages.create(model="inglenook-quote", max_tokens=100, messages=asked, tools=TOOLS)


def test_a_streamed_message_by_the_helper(local):
    with local.messages.stream(model="scripted", max_tokens=100, messages=QUESTION) as stream:
        assert "".join(stream.text_stream) == SAID
        final = stream.get_final_message()
    assert final.content[0].text == SAID and final.usage.output_tokens > 5


def test_a_tool_is_used_and_its_result_goes_back(calling):
    message = calling.messages.create(model="calling", max_tokens=300, messages=QUESTION, tools=TOOLS)
    text, call = message.content
    assert text.text == "I will look." and message.stop_reason == "tool_use"
    assert call.name == "weather" and call.input == {"city": "Oslo", "days": 2}
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "sunny"}]}
    turns = [{"role": "assistant", "content": message.content}, {"role": "user", "content": [result]}]
    calling.messages.create(model="calling", max_tokens=300, messages=[*QUESTION, *turns], tools=TOOLS)


def test_a_streamed_tool_use_by_the_helper(calling):
    fragments = []
    with calling.messages.stream(model="calling", max_tokens=300, messages=QUESTION, tools=TOOLS) as stream:
        for event in stream:
            if event.type == "input_json":
                fragments.append(event.partial_json)
        call = stream.get_final_message().content[1]
    assert len(fragments) > 3 and call.input == {"city": "Oslo", "days": 2}


def test_a_tool_is_demanded(babbling):
    choice = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    message = babbling.messages.create(
        model="babbling", max_tokens=400, messages=QUESTION, tools=TOOLS, tool_choice=choice
    )
    assert message.stop_reason == "tool_use"
    assert set(message.content[-1].input) == {"city", "days"}


def test_thoughts(thinking):
    ask = {"model": "thinking", "max_tokens": 2000, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    thought, said = thinking.messages.create(messages=QUESTION, **ask).content
    assert (thought.thinking, said.text) == ("It is so.", "Yes, indeed.")
    with thinking.messages.stream(messages=QUESTION, **ask) as stream:
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text"]
    turns = [{"role": "assistant", "content": final.content}, {"role": "user", "content": "Sure?"}]
    thinking.messages.create(messages=[*QUESTION, *turns], **ask)


class Author(pydantic.BaseModel):
    name: typing.Literal["Undset", "Hamsun"]
    is_alive: bool


def test_a_schema_is_held(babbling):
    message = babbling.messages.parse(model="babbling", max_tokens=500, messages=QUESTION, output_format=Author)
    assert isinstance(message.parsed_output, Author)


def test_async_client(server):
    async def ask():
        client = anthropic.AsyncAnthropic(base_url=server.base_url, api_key="test-key")
        async with client.messages.stream(model="scripted", max_tokens=100, messages=QUESTION) as stream:
            return "".join([text async for text in stream.text_stream])

    assert asyncio.run(ask()) == SAID


def test_errors_are_the_clients_own(local, server):
    with pytest.raises(anthropic.NotFoundError) as error:
        local.messages.create(model="claude-none", max_tokens=9, messages=QUESTION)
    assert error.value.body["error"]["type"] == "not_found_error"
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    with pytest.raises(anthropic.BadRequestError) as error:
        local.messages.create(model="scripted", max_tokens=9, messages=[{"role": "user", "content": [image]}])
    assert "image" in error.value.message
    stranger = anthropic.Anthropic(base_url=server.base_url, api_key="wrong", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError):
        stranger.messages.create(model="scripted", max_tokens=9, messages=QUESTION)
