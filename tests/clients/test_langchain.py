"""LangChain's own standard tests for chat models and embeddings, with nothing but a base URL of ours.

The tiny models say what they are told to whatever they are asked, so each test has the model that can answer it: one talks,
others make the one call that a test asks for, one talks nonsense that is held to a shape. What is held to anything else than
what its model says is nonsense too, of any length, so all answers have a seed.
"""

import pytest
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_tests.integration_tests import ChatModelIntegrationTests, EmbeddingsIntegrationTests
from server import SHOWN, Server, lighthouse

SERVERS = {}


@pytest.fixture(scope="module", autouse=True)
def servers():
    yield
    for server in SERVERS.values():
        server.close()


def url(served):
    """The base URL of a server with this model, which is started when it is first asked for."""
    if served not in SERVERS:
        SERVERS[served] = Server(chat_model=served)
    return SERVERS[served].base_url + "/v1"


class Suite(ChatModelIntegrationTests):
    served = "scripted"

    @property
    def chat_model_class(self):
        return ChatOpenAI

    @property
    def chat_model_params(self):
        return {"model": self.served, "base_url": url(self.served), "api_key": "none", "max_tokens": 400,
                "stream_usage": True, "seed": 1}

    @property
    def model_override_value(self):
        return self.served

    @property
    def has_tool_calling(self):
        return False

    @property
    def has_structured_output(self):
        return False

    @property
    def supports_json_mode(self):
        return False

    @property
    def supports_image_inputs(self):
        return False


class TestTalk(Suite):
    @property
    def returns_usage_metadata(self):
        return True


# The models that make the calls that tests ask for; the other tests ask for `magic_function`.
CALLING = {
    "test_agent_loop": "forecast",
    "test_bind_runnables_as_tools": "greeting",
    "test_tool_calling_with_no_arguments": "magic-alone",
    "test_unicode_tool_call_integration": "customer",
}


class TestCalls(Suite):
    @pytest.fixture(autouse=True)
    def model_that_makes_the_call(self, request):
        self.served = CALLING.get(request.function.__name__, "magic")

    @property
    def has_tool_calling(self):
        return True

    @property
    def has_tool_choice(self):
        return True


class Shapes(Suite):
    served = "babbling"

    @property
    def has_structured_output(self):
        return True

    @property
    def supports_json_mode(self):
        return True


class TestShapes:
    """Those of the standard tests in which an answer is to fit a schema."""

    @pytest.fixture
    def suite(self):
        return Shapes()

    @pytest.fixture
    def model(self, suite):
        return ChatOpenAI(**suite.chat_model_params | {"max_tokens": 2000})

    @pytest.mark.parametrize("schema_type", ["pydantic", "typeddict", "json_schema"])
    def test_structured_output(self, suite, model, schema_type):
        suite.test_structured_output(model, schema_type)

    @pytest.mark.parametrize("schema_type", ["pydantic", "typeddict", "json_schema"])
    async def test_structured_output_async(self, suite, model, schema_type):
        await suite.test_structured_output_async(model, schema_type)


class TestEmbeddings(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self):
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self):
        # Token ids of another vocabulary mean nothing to our models, so the text itself is sent.
        return {"model": "tiny-bert", "base_url": url("scripted"), "api_key": "none", "check_embedding_ctx_length": False}


def test_a_question_about_documents():
    store = lighthouse(url("scripted"))
    model = ChatOpenAI(model="scripted", base_url=url("scripted"), api_key="none", use_responses_api=True)
    search = {"type": "file_search", "vector_store_ids": [store]}
    answer = model.bind_tools([search]).invoke("Who is the keeper of the lighthouse?")
    assert answer.text == SHOWN
    (annotation,) = answer.content[-1]["annotations"]
    assert annotation["filename"] == "lighthouse.md"
