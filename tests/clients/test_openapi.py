"""The OpenAPI document against the program: schemathesis calls every operation with requests made from its schemas, right
and wrong ones, and holds the answers against what the document says of them."""

import io
import itertools

import openai
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from openapi_spec_validator import validate
from schemathesis import GenerationMode, checks
from schemathesis.core.failures import FailureGroup
from server import Server, lighthouse

# Not among them is positive_data_acceptance: which fields of a message its role needs, and other rules between fields, are
# not in the schemas; and a whole number written as 13.0 is refused, which a schema cannot say.
CHECKS = [
    checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
# Left to tests/ingestion.rs: the document describes what stands in an event's data, as OpenAPI 3.1 has no words for the
# event around it, which schemathesis expects where an answer is only events.
ONLY_EVENTS = {"GET /api/vector_stores/{id}/progress"}
# What a wrong request may be answered with: what schemathesis expects, and that a file is too large.
REFUSED = [400, 401, 403, 404, 405, 406, 409, 413, 415, 422, 428, 429, "5xx"]
# What a server with tiny models cannot do, and says so.
MISSING_HERE = {503}
# There is no rerank model, nothing is pulled over the API, and nothing is fetched from the web (tests/imports does, from
# servers of its own).
NEVER_SUCCEED = {"POST /v1/rerank", "POST /v2/rerank", "POST /api/pull", "POST /api/imports"} | {
    f"{method} /api/imports/{{id}}{rest}" for method, rest in (("GET", ""), ("DELETE", ""), ("GET", "/events"))
}
QUESTION = [{"role": "user", "content": [{"type": "text", "text": "Who keeps the lighthouse?"}]}]
# Requests that succeed, to operations for which the document has no example.
EXAMPLES = {path: {"input": "Who keeps the lighthouse?"} for path in ("/v1/responses", "/v1/responses/input_tokens")} | {
    "/v1/vector_stores/{id}/search": {"query": "Who keeps the lighthouse?"},
    "/api/chunks/preview": {"text": "Five smoked eels."},
}
# Of right and of wrong requests, to each operation.
NUM_EXAMPLES = 6


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def document(server):
    return requests.get(server.base_url + "/openapi.json", timeout=60).json()


@pytest.fixture(scope="module")
def schema(server):
    refused = {"expected-statuses": REFUSED}
    config = {"generation": {"deterministic": True, "database": "none"}, "checks": {"negative_data_rejection": refused}}
    config = schemathesis.Config.from_dict(config)
    return schemathesis.openapi.from_url(server.base_url + "/openapi.json", config=config)


@pytest.fixture(scope="module")
def stored(server):
    return Stored(server.base_url)


class Stored:
    """Objects for requests to name: new ones for every operation, since some operations delete them."""

    def __init__(self, base_url):
        self.base_url = base_url
        self.client = openai.OpenAI(base_url=base_url + "/v1", api_key="none")
        self.names = {}
        self.num_calls = itertools.count()

    def place(self, case):
        """Of three requests, makes one name what is stored, one be the document's example of it, and leaves one as it is."""
        turn = next(self.num_calls) % 3
        if turn == 0:
            return
        operation = case.operation
        if operation.label not in self.names:
            self.names[operation.label] = self.made(operation.path)
        names = self.names[operation.label]
        if turn == 1 and isinstance(case.body, dict) and case.media_type == "application/json":
            content = operation.definition.raw["requestBody"]["content"]["application/json"]
            plain = content.get("example") or EXAMPLES.get(operation.path)
            case.body = dict(plain or {name: names[name] for name in case.body if name in names})
        for part in ("path_parameters", "query", "body"):
            fields = getattr(case, part)
            if isinstance(fields, dict) and (placed := {name: names[name] for name in names if name in fields}):
                fields.update(placed)
                # Set anew, so that what was wrong before and is right now is not taken for wrong. Forms carry bytes, which
                # no schema is asked about.
                if part != "body" or case.media_type == "application/json":
                    setattr(case, part, dict(fields))

    def made(self, path):
        """What a request to `path` may name, by the names of parameters and fields."""
        client = self.client
        if path.startswith(("/v1/vector_stores/", "/api/vector_stores/")):
            store = lighthouse(self.base_url + "/v1")
            (file,) = client.vector_stores.files.list(store).data
            batch = client.vector_stores.file_batches.create(store, file_ids=[self.file()])
            new = self.file()
            return {"id": store, "file": file.id, "batch": batch.id, "file_id": new, "file_ids": [new]}
        if path.startswith("/v1/files/"):
            return {"id": self.file()}
        if path.startswith("/api/files/"):
            (file,) = client.vector_stores.files.list(lighthouse(self.base_url + "/v1")).data
            return {"id": file.id, "start": 2, "end": 16}
        if path.startswith("/v1/uploads/"):
            upload = client.uploads.create(bytes=5, filename="a.txt", mime_type="text/plain", purpose="assistants")
            if not path.endswith("/complete"):
                return {"id": upload.id, "data": b"Five"}
            part = client.uploads.parts.create(upload.id, data=b"Five.")
            return {"id": upload.id, "part_ids": [part.id], "md5": None}
        if path.startswith("/v1/chat/completions/"):
            return {"id": client.chat.completions.create(model="scripted", messages=QUESTION, store=True).id}
        if path.startswith("/v1/responses/{id}"):
            made = client.responses.create(model="scripted", input="Who keeps the lighthouse?", background=True)
            return {"id": made.id}
        if path.startswith("/v1/conversations/"):
            conversation = client.conversations.create(items=[{"type": "message", "role": "user", "content": "Who?"}])
            (item,) = client.conversations.items.list(conversation.id).data
            return {"id": conversation.id, "item": item.id}
        if path.startswith("/v1/models/"):
            return {"id": "scripted"}
        if path.startswith("/api/models/loaded/"):
            return {"name": "scripted"}
        if path in ("/v1/embeddings", "/api/embed", "/api/embeddings"):
            return {"model": "tiny-bert"}
        return {"model": "scripted", "file_ids": [self.file()]}

    def file(self):
        return self.client.files.create(file=("a.txt", io.BytesIO(b"Five smoked eels.")), purpose="assistants").id


def test_the_document_is_valid(document):
    assert document["openapi"].startswith("3.1")
    validate(document)


def test_every_operation_answers_as_the_document_says(schema, stored):
    failures, succeeded = [], set()
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.label in ONLY_EVENTS:
            continue
        for mode in GenerationMode:
            try:
                call(operation, mode, stored, succeeded)
            except Unsatisfiable:
                # Nothing wrong can be said to an operation without parameters.
                assert mode == GenerationMode.NEGATIVE, operation.label
            except (Exception, FailureGroup) as error:
                failures.append(f"{operation.label}, {mode.value}: {error}")
        if operation.label not in succeeded | NEVER_SUCCEED:
            failures.append(f"{operation.label}: no request succeeded, so no answer was looked at")
    assert not failures, "\n\n".join(failures)


def call(operation, mode, stored, succeeded):
    """Sends an operation a few requests of its own making, the same ones in every run."""

    @settings(
        max_examples=NUM_EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def answers(case):
        stored.place(case)
        response = case.call(timeout=60)
        if response.status_code == 200:
            succeeded.add(operation.label)
        if response.status_code not in MISSING_HERE:
            case.validate_response(response, checks=CHECKS)

    answers()
