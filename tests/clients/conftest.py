"""Fixtures: one server for all tests, and the official client on it."""

import openai
import pytest
from server import Server


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
