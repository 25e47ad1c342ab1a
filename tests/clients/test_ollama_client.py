"""The official Ollama client does its work against Inglenook by a change of its host alone."""

import asyncio
import json

import ollama
import pydantic
import pytest

SAID = "The keeper of the lighthouse is Maren Holt [1]. An invented source [99] is not shown."
QUESTION = [{"role": "user", "content": "How is the weather in Oslo?"}]
QUOTED = "\u201cThe keeper of the lighthouse is Maren Holt, who came in 1998.\u201d [1]"
HEADERS = {"authorization": "Bearer test-key"}


@pytest.fixture(scope="module")
def local(server):
    return ollama.Client(host=server.base_url, headers=HEADERS)


def connect(server):
    return ollama.Client(host=server.base_url)


def test_models(local):
    listed = {model.model: model for model in local.list().models}
    assert {"scripted", "tiny-bert"} <= set(listed)
    assert listed["scripted"].size > 0 and listed["scripted"].details.family == "llama"
    assert listed["scripted"].modified_at.year >= 2024
    shown = local.show("scripted")
    assert shown.capabilities == ["completion", "tools"] and "llama.context_length" in shown.modelinfo
    running = {model.model: model for model in local.ps().models}
    assert running["scripted"].context_length > 1000


def test_chat_whole_and_streamed(local):
    answer = local.chat("scripted", QUESTION)
    assert answer.message.content == SAID and answer.done_reason == "stop"
    assert answer.total_duration >= answer.prompt_eval_duration + answer.eval_duration > 0
    parts = list(local.chat("scripted:latest", QUESTION, stream=True))
    assert "".join(part.message.content for part in parts) == SAID
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].eval_count == answer.eval_count


def test_generate(local):
    answer = local.generate("scripted", "Say:", system="Be brief.", options={"num_predict": 3, "temperature": 0})
    assert answer.response == "The keeper of " and answer.done_reason == "length"
    parts = local.generate("scripted", "Say:", raw=True, stream=True, options=ollama.Options(stop=["Maren"]))
    assert "".join(part.response for part in parts) == "The keeper of the lighthouse is "


def test_documents_answer_in_their_own_words(quoting):
    asked = [{"role": "user", "content": "Who is the keeper of the lighthouse?"}]
    answer = quoting.chat("inglenook-quote", asked)
    assert answer.message.content == QUOTED and answer.done_reason == "stop"
    parts = list(quoting.chat("inglenook-quote:latest", asked, stream=True))
    assert "".join(part.message.content for part in parts) == QUOTED and parts[-1].done
    assert quoting.generate("inglenook-quote", asked[0]["content"]).response == QUOTED


def test_embeddings(local):
    answer = local.embed("tiny-bert", ["the lighthouse", "smoked eel"])
    assert len(answer.embeddings) == 2 and answer.prompt_eval_count > 0
    assert list(local.embeddings("tiny-bert", "smoked eel").embedding) == list(answer.embeddings[1])


def weather(city: str, days: int) -> str:
    """The weather of a place.

    Args:
      city: its name
      days: how many
    """
    return f"{city}: sunny for {days} days"


def test_a_function_is_called_and_its_result_goes_back(calling):
    answer = calling.chat("calling", QUESTION, tools=[weather])
    [call] = answer.message.tool_calls
    assert call.function.name == "weather" and call.function.arguments == {"city": "Oslo", "days": 2}
    result = {"role": "tool", "tool_name": "weather", "content": weather(**call.function.arguments)}
    more = calling.chat("calling", [*QUESTION, answer.message, result], tools=[weather])
    assert more.prompt_eval_count > answer.prompt_eval_count
    parts = list(calling.chat("calling", QUESTION, tools=[weather], stream=True))
    calls = [call for part in parts for call in part.message.tool_calls or []]
    assert [call.function.arguments for call in calls] == [{"city": "Oslo", "days": 2}]


def test_thoughts(thinking):
    answer = thinking.chat("thinking", QUESTION, think=True)
    assert (answer.message.thinking, answer.message.content) == ("It is so.", "Yes, indeed.")
    assert thinking.generate("thinking", "So?", think="high").thinking == "It is so."


class Author(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=8)
    born: int


def test_a_schema_is_held(babbling):
    options = {"seed": 7, "num_predict": 400}
    answer = babbling.chat("babbling", QUESTION, format=Author.model_json_schema(), options=options)
    assert isinstance(Author.model_validate_json(answer.message.content), Author)
    answer = babbling.generate("babbling", "An author:", format="json", options={"seed": 3, "num_predict": 2000})
    if answer.done_reason == "stop":
        assert isinstance(json.loads(answer.response), dict)


def test_async_client(server):
    async def ask():
        client = ollama.AsyncClient(host=server.base_url, headers=HEADERS)
        return "".join([part.message.content async for part in await client.chat("scripted", QUESTION, stream=True)])

    assert asyncio.run(ask()) == SAID


def test_errors_are_the_clients_own(local, server):
    with pytest.raises(ollama.ResponseError) as error:
        local.chat("nobody", QUESTION)
    assert error.value.status_code == 404 and error.value.error == "model 'nobody' not found"
    with pytest.raises(ollama.ResponseError) as error:
        local.chat("scripted", QUESTION, think=True)
    assert error.value.status_code == 400
    with pytest.raises(ollama.ResponseError) as error:
        local.pull("qwen3-0.6b")
    assert error.value.status_code == 403 and "api_pull" in error.value.error
    with pytest.raises(ollama.ResponseError) as error:
        ollama.Client(host=server.base_url).list()
    assert error.value.status_code == 401
