"""Fixtures: one server for all tests, and the official client on it."""

import openai
import pytest
from server import Server, lighthouse


@pytest.fixture(scope="session")
def server():
    server = Server("--api-key", "test-key")
    yield server
    server.close()


@pytest.fixture(scope="session")
def client(server):
    return openai.OpenAI(base_url=server.base_url + "/v1", api_key="test-key")


@pytest.fixture(scope="session")
def async_client(server):
    return openai.AsyncOpenAI(base_url=server.base_url + "/v1", api_key="test-key")


def connected(request, chat_model):
    """A client of the test's own kind, made by `connect` of its module, on a server with this chat model."""
    server = Server(chat_model=chat_model)
    yield request.module.connect(server)
    server.close()


@pytest.fixture(scope="module")
def quoting(request):
    """A client of the test's own kind on a server with a document, which is quoted by the models that come along."""
    server = Server(chat_model=None)
    lighthouse(server.base_url + "/v1")
    yield request.module.connect(server)
    server.close()


@pytest.fixture(scope="module")
def calling(request):
    yield from connected(request, "calling")


@pytest.fixture(scope="module")
def thinking(request):
    yield from connected(request, "thinking")


@pytest.fixture(scope="module")
def babbling(request):
    yield from connected(request, "babbling")
