"""LlamaIndex by its client for servers like OpenAI's."""

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike, OpenAILikeResponses
from server import SHOWN, Server, lighthouse

SAID = "The keeper of the lighthouse is Maren Holt [1]. An invented source [99] is not shown."


@pytest.fixture(scope="module")
def base_url():
    server = Server()
    yield server.base_url + "/v1"
    server.close()


@pytest.fixture(scope="module")
def llm(base_url):
    return OpenAILike(model="scripted", api_base=base_url, api_key="none", is_chat_model=True, context_window=2048)


def test_chat(llm):
    answer = llm.chat([ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="Who?")])
    assert answer.message.content == SAID
    assert answer.raw.usage.completion_tokens > 0


def test_chat_streamed(llm):
    pieces = list(llm.stream_chat([ChatMessage(role="user", content="Who?")]))
    assert "".join(piece.delta or "" for piece in pieces) == SAID
    assert pieces[-1].message.content == SAID


async def test_chat_from_async_code(llm):
    answer = await llm.achat([ChatMessage(role="user", content="Who?")])
    assert answer.message.content == SAID


def test_a_plain_completion(base_url):
    llm = OpenAILike(model="scripted", api_base=base_url, api_key="none", is_chat_model=False, max_tokens=5)
    assert llm.complete("Who keeps the lighthouse?").text


def test_embeddings(base_url):
    model = OpenAILikeEmbedding(model_name="tiny-bert", api_base=base_url, api_key="none")
    one = model.get_text_embedding("the keeper of the lighthouse")
    many = model.get_text_embedding_batch(["the keeper of the lighthouse", "smoked eel"])
    assert many[0] == pytest.approx(one) and len(many) == 2


def test_a_question_about_documents(base_url):
    search = {"type": "file_search", "vector_store_ids": [lighthouse(base_url)]}
    llm = OpenAILikeResponses(
        model="scripted", api_base=base_url, api_key="none", context_window=2048, built_in_tools=[search]
    )
    answer = llm.chat([ChatMessage(role="user", content="Who is the keeper of the lighthouse?")])
    assert answer.message.content == SHOWN
