"""The official OpenAI client does its work against Inglenook by a change of its base URL alone."""

import asyncio
import io
import math

import openai
import pytest
from server import SHOWN

LIGHTHOUSE = (
    "# The lighthouse\n\nThe lighthouse stands on the northern cliff. The keeper of the lighthouse is Maren Holt, "
    "who came in 1998.\n\n# The harbour\n\nThe harbour master sells smoked eel on Fridays.\n"
)
SAID = "The keeper of the lighthouse is Maren Holt [1]. An invented source [99] is not shown."


@pytest.fixture(scope="module")
def store(client):
    """A vector store with one document, made only with the client's own helpers."""
    store = client.vector_stores.create(name="tests")
    file = client.files.create(file=("lighthouse.md", io.BytesIO(LIGHTHOUSE.encode())), purpose="assistants")
    attached = client.vector_stores.files.create_and_poll(vector_store_id=store.id, file_id=file.id)
    assert attached.status == "completed", attached.last_error
    return store


def test_models_are_listed(client):
    ids = [model.id for model in client.models.list()]
    # What was chosen comes first; what came with the program can be named too.
    assert ids[0] == "scripted"
    assert set(ids) == {"scripted", "inglenook-quote", "tiny-bert", "inglenook-demo-chat", "inglenook-demo-embedder"}
    assert client.models.retrieve("scripted").object == "model"


def test_chat_whole(client):
    answer = client.chat.completions.create(
        model="scripted", messages=[{"role": "user", "content": "Who keeps the lighthouse?"}], temperature=0
    )
    assert answer.choices[0].message.content == SAID
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id.startswith("req_")


def test_chat_streamed(client):
    chunks = list(
        client.chat.completions.create(
            model="scripted",
            messages=[{"role": "user", "content": "Hello"}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == SAID
    assert chunks[-1].usage.completion_tokens > 0


def test_chat_streamed_by_the_helper(client):
    with client.chat.completions.stream(
        model="scripted", messages=[{"role": "user", "content": "Hello"}]
    ) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content == SAID


def test_logprobs_are_probabilities(client):
    answer = client.chat.completions.create(
        model="scripted",
        messages=[{"role": "user", "content": "Hello"}],
        logprobs=True,
        top_logprobs=3,
        max_tokens=4,
    )
    tokens = answer.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == answer.choices[0].message.content
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob >= token.logprob - 1e-6


def test_completions(client):
    answer = client.completions.create(model="scripted", prompt="Say:", max_tokens=3)
    assert answer.choices[0].text == "The keeper of "
    assert answer.choices[0].finish_reason == "length"


def test_embeddings_have_length_one(client):
    answer = client.embeddings.create(model="tiny-bert", input=["the lighthouse", "smoked eel"])
    for item in answer.data:
        assert math.isclose(math.hypot(*item.embedding), 1, abs_tol=1e-3)


def test_files_come_back_as_they_went(client):
    content = "Grüße aus dem Hafen\n".encode()
    file = client.files.create(file=("Grüße.txt", io.BytesIO(content)), purpose="assistants")
    assert file.filename == "Grüße.txt" and file.bytes == len(content)
    assert client.files.content(file.id).read() == content
    assert file.id in {listed.id for listed in client.files.list()}
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_upload_and_poll(client):
    store = client.vector_stores.create(name="poll")
    attached = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("note.txt", io.BytesIO(b"The mill grinds at dawn."))
    )
    assert attached.status == "completed"
    assert client.vector_stores.retrieve(store.id).file_counts.completed == 1
    assert client.vector_stores.delete(store.id).deleted


def test_search(client, store):
    results = client.vector_stores.search(store.id, query="Who is the keeper of the lighthouse?")
    best = results.data[0]
    assert best.filename == "lighthouse.md" and 0 <= best.score <= 1
    assert "Maren Holt" in best.content[0].text


def tools(store):
    return [{"type": "file_search", "vector_store_ids": [store.id], "max_num_results": 4}]


def check_citation(text, annotations):
    assert text == SHOWN
    [citation] = annotations
    assert citation.type == "file_citation" and citation.filename == "lighthouse.md"
    assert text[citation.index :].startswith("[1]")
    quote = LIGHTHOUSE.encode()[citation.start : citation.end].decode()
    assert citation.quote == quote and "Maren Holt" in quote


def test_response_with_file_search(client, store):
    response = client.responses.create(
        model="scripted",
        input="Who is the keeper of the lighthouse?",
        tools=tools(store),
        include=["file_search_call.results"],
    )
    search, message = response.output
    assert search.type == "file_search_call" and search.results[0].filename == "lighthouse.md"
    check_citation(response.output_text, message.content[0].annotations)
    assert client.responses.retrieve(response.id).output_text == SHOWN


def test_response_streamed_with_file_search(client, store):
    text, annotations, kinds = "", [], []
    stream = client.responses.create(
        model="scripted", input="Who is the keeper of the lighthouse?", tools=tools(store), stream=True
    )
    for number, event in enumerate(stream):
        assert event.sequence_number == number
        kinds.append(event.type)
        if event.type == "response.output_text.delta":
            text += event.delta
        elif event.type == "response.output_text.annotation.added":
            annotations.append(event.annotation)
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert text == SHOWN
    [citation] = annotations
    assert (citation["type"] if isinstance(citation, dict) else citation.type) == "file_citation"


def test_response_streamed_by_the_helper(client, store):
    with client.responses.stream(
        model="scripted", input="Who is the keeper of the lighthouse?", tools=tools(store)
    ) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    check_citation(final.output_text, final.output[-1].content[0].annotations)


def test_conversation_continues(client):
    first = client.responses.create(model="scripted", input="Hello")
    second = client.responses.create(model="scripted", input="And?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.input_tokens


def test_async_client(async_client):
    async def ask():
        stream = await async_client.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "Hello"}], stream=True
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    assert asyncio.run(ask()) == SAID


def test_errors_are_the_clients_own(client, server):
    message = [{"role": "user", "content": "Hello"}]
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model="gpt-unknown", messages=message)
    assert error.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="scripted", messages=message, temperature=9)
    assert error.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="scripted", messages=message, tools=[{"type": "custom", "custom": {}}])
    assert error.value.param == "tools[0]"
    with pytest.raises(openai.NotFoundError):
        client.batches.list()
    stranger = openai.OpenAI(base_url=server.base_url + "/v1", api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()
