"""Conversations, background responses, files in messages and stored completions, through the official client."""

import base64
import time

import openai
import pytest
from test_openai_client import SAID


def test_a_conversation_and_its_items(client):
    conversation = client.conversations.create(
        metadata={"topic": "light"}, items=[{"type": "message", "role": "user", "content": "I am Ada."}]
    )
    response = client.responses.create(model="scripted", input="Who am I?", conversation=conversation.id)
    assert response.conversation.id == conversation.id
    items = list(client.conversations.items.list(conversation.id, order="asc"))
    assert [item.role for item in items] == ["user", "user", "assistant"]
    assert items[2].content[0].text == SAID and items[2].id == response.output[0].id
    # The client follows the pages by itself.
    assert [item.id for item in client.conversations.items.list(conversation.id, limit=1)] == [
        item.id for item in reversed(items)
    ]
    added = client.conversations.items.create(
        conversation.id,
        items=[{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "More"}]}],
        include=["file_search_call.results"],
    )
    item = client.conversations.items.retrieve(added.data[0].id, conversation_id=conversation.id)
    assert item.content[0].text == "More" and item.status == "completed"
    client.conversations.items.delete(item.id, conversation_id=conversation.id)
    changed = client.conversations.update(conversation.id, metadata={"topic": "dark"})
    assert changed.metadata == {"topic": "dark"}
    assert client.conversations.retrieve(conversation.id).metadata == {"topic": "dark"}
    assert client.conversations.delete(conversation.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(conversation.id)
    with pytest.raises(openai.BadRequestError):
        client.responses.create(
            model="scripted", input="x", conversation=conversation.id, previous_response_id=response.id
        )


def test_a_streamed_response_continues_a_conversation(client):
    conversation = client.conversations.create()
    with client.responses.stream(model="scripted", input="Go", conversation=conversation.id) as stream:
        for _ in stream:
            pass
        final = stream.get_final_response()
    assert final.output_text == SAID
    assert len(client.conversations.items.list(conversation.id).data) == 2


def test_background_polls_and_cancels(client):
    response = client.responses.create(model="scripted", input="Go", background=True)
    assert response.status == "queued" and response.background
    deadline = time.monotonic() + 60
    while response.status in ("queued", "in_progress"):
        assert time.monotonic() < deadline
        response = client.responses.retrieve(response.id)
    assert response.status == "completed" and response.output_text == SAID
    assert client.responses.cancel(response.id).status == "completed"
    foreground = client.responses.create(model="scripted", input="Go")
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(foreground.id)


def test_a_streamed_background_response_is_read_on(client):
    seen = []
    with client.responses.create(model="scripted", input="Go", background=True, stream=True) as stream:
        for event in stream:
            seen.append(event)
            if event.type == "response.output_text.delta":
                break
    response_id = seen[0].response.id
    assert [event.type for event in seen[:2]] == ["response.created", "response.queued"]
    rest = client.responses.retrieve(response_id, stream=True, starting_after=seen[-1].sequence_number)
    seen.extend(rest)
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    assert seen[-1].type == "response.completed" and seen[-1].response.output_text == SAID
    assert "".join(event.delta for event in seen if event.type == "response.output_text.delta") == SAID
    with client.responses.stream(response_id=response_id) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_text == SAID
    foreground = client.responses.create(model="scripted", input="Go")
    with pytest.raises(openai.BadRequestError) as error:
        client.responses.retrieve(foreground.id, stream=True)
    assert error.value.param == "stream"


def test_input_items_and_input_tokens(client):
    request = {"model": "scripted", "input": [{"role": "user", "content": "One"}, {"role": "user", "content": "Two"}]}
    response = client.responses.create(**request)
    counted = client.responses.input_tokens.count(**request)
    assert counted.object == "response.input_tokens" and counted.input_tokens == response.usage.input_tokens
    items = list(client.responses.input_items.list(response.id, limit=1))
    assert [item.content[0].text for item in items] == ["Two", "One"]
    reference = [{"type": "item_reference", "id": items[1].id}, {"role": "user", "content": "Two"}]
    again = client.responses.create(model="scripted", input=reference)
    assert again.usage.input_tokens == response.usage.input_tokens


def test_log_probabilities(client):
    response = client.responses.create(
        model="scripted", input="Go", include=["message.output_text.logprobs"], top_logprobs=2
    )
    logprobs = response.output[0].content[0].logprobs
    assert b"".join(bytes(one.bytes) for one in logprobs).decode().strip() == SAID
    assert all(one.logprob <= 0 and len(one.top_logprobs) == 2 for one in logprobs)


def test_files_in_messages(client):
    data = "data:text/markdown;base64," + base64.b64encode(b"# Note\n\nBring the smoked eel.\n").decode()
    question = {"type": "text", "text": "What?"}
    short = client.chat.completions.create(model="scripted", messages=[{"role": "user", "content": [question]}])
    file = {"type": "file", "file": {"file_data": data, "filename": "note.md"}}
    long = client.chat.completions.create(model="scripted", messages=[{"role": "user", "content": [file, question]}])
    assert long.usage.prompt_tokens > short.usage.prompt_tokens + 5
    stored = client.files.create(file=("note.md", b"# Note\n\nBring the smoked eel.\n"), purpose="user_data")
    part = {"type": "input_file", "file_id": stored.id}
    response = client.responses.create(
        model="scripted", input=[{"role": "user", "content": [part, {"type": "input_text", "text": "What?"}]}]
    )
    assert response.usage.input_tokens == long.usage.prompt_tokens
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="scripted", messages=[{"role": "user", "content": [image]}])


def test_stored_completions(client):
    messages = [{"role": "user", "content": "Hello"}]
    kept = [
        client.chat.completions.create(
            model="scripted", messages=messages, store=True, metadata={"run": "py", "at": str(at)}
        )
        for at in range(3)
    ]
    found = list(client.chat.completions.list(metadata={"run": "py"}, limit=1))
    assert [one.id for one in found] == [one.id for one in kept]
    newest = client.chat.completions.list(metadata={"run": "py"}, order="desc", model="scripted").data
    assert newest[0].id == kept[2].id
    one = client.chat.completions.retrieve(kept[0].id)
    assert one.choices[0].message.content == SAID
    given = client.chat.completions.messages.list(kept[0].id).data
    assert [message.content for message in given] == ["Hello"]
    assert client.chat.completions.update(kept[0].id, metadata={"run": "other"}).metadata == {"run": "other"}
    assert len(list(client.chat.completions.list(metadata={"run": "py"}))) == 2
    assert client.chat.completions.delete(kept[0].id).deleted
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve(kept[0].id)
