"""Vector stores, file batches, files that expire and uploads in parts, through the official client's own helpers."""

import asyncio
import hashlib
import io
import random

import openai
import pytest

MILLS = [(f"mill-{number}.txt", f"The mill number {number} grinds at dawn.".encode()) for number in range(12)]


@pytest.fixture
def store(client):
    store = client.vector_stores.create(name="mills")
    yield store
    client.vector_stores.delete(store.id)


def upload(client, name="mill.txt", content=b"The mill grinds at dawn.", **options):
    return client.files.create(file=(name, io.BytesIO(content)), purpose="assistants", **options)


def test_a_vector_store_with_everything(client):
    file = upload(client)
    store = client.vector_stores.create(
        name="full",
        file_ids=[file.id],
        chunking_strategy={"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 10}},
        expires_after={"anchor": "last_active_at", "days": 3},
        metadata={"team": "millers"},
    )
    assert store.expires_after.days == 3 and store.expires_at == store.last_active_at + 3 * 86400
    attached = client.vector_stores.files.poll(file.id, vector_store_id=store.id)
    assert attached.status == "completed" and attached.chunking_strategy.type == "static"
    changed = client.vector_stores.update(store.id, name=None, expires_after=None, metadata={"team": "bakers"})
    assert changed.name == "" and changed.expires_at is None and changed.metadata == {"team": "bakers"}
    assert store.id in {listed.id for listed in client.vector_stores.list()}
    assert client.vector_stores.delete(store.id).object == "vector_store.deleted"
    with pytest.raises(openai.BadRequestError) as error:
        client.vector_stores.create(expires_after={"anchor": "last_active_at", "days": 1000})
    assert error.value.param == "expires_after.days"


def test_a_batch_of_uploads(client, store):
    files = [(name, io.BytesIO(content)) for name, content in MILLS]
    already = upload(client, "already.txt")
    batch = client.vector_stores.file_batches.upload_and_poll(store.id, files=files, file_ids=[already.id])
    assert batch.status == "completed" and batch.id.startswith("vsfb_")
    assert batch.file_counts.completed == batch.file_counts.total == 13
    # Page by page, as the client does it by itself.
    listed = list(client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, limit=5))
    assert len({file.id for file in listed}) == 13
    assert client.vector_stores.retrieve(store.id).file_counts.completed == 13


def test_a_batch_with_attributes_is_searched_by_them(client, store):
    files = [
        {"file_id": upload(client, name, content).id, "attributes": {"number": number, "even": number % 2 == 0}}
        for number, (name, content) in enumerate(MILLS[:4])
    ]
    batch = client.vector_stores.file_batches.create_and_poll(store.id, files=files)
    assert batch.file_counts.completed == 4
    found = client.vector_stores.search(
        store.id,
        query=["mill", "dawn"],
        filters={
            "type": "and",
            "filters": [{"type": "eq", "key": "even", "value": True}, {"type": "gt", "key": "number", "value": 0}],
        },
        rewrite_query=True,
        ranking_options={"ranker": "auto", "score_threshold": 0},
    )
    assert [result.filename for result in found] == ["mill-2.txt"]
    changed = client.vector_stores.files.update(files[2]["file_id"], vector_store_id=store.id, attributes={"number": 0})
    assert changed.attributes == {"number": 0}
    content = client.vector_stores.files.content(files[2]["file_id"], vector_store_id=store.id)
    assert [part.text for part in content] == [MILLS[2][1].decode()]


def test_failures_are_told_file_by_file(client, store):
    good, blank = upload(client, "good.txt"), upload(client, "blank.txt", b" \n")
    batch = client.vector_stores.file_batches.create_and_poll(store.id, file_ids=[good.id, blank.id])
    assert (batch.file_counts.completed, batch.file_counts.failed) == (1, 1)
    [failed] = client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, filter="failed")
    assert failed.id == blank.id and failed.last_error.code == "invalid_file"
    cancelled = client.vector_stores.file_batches.cancel(batch.id, vector_store_id=store.id)
    assert cancelled.status == "completed"


def test_the_async_client_uploads_a_batch(server):
    async def run():
        async with openai.AsyncOpenAI(base_url=server.base_url + "/v1", api_key="test-key") as client:
            store = await client.vector_stores.create()
            batch = await client.vector_stores.file_batches.upload_and_poll(store.id, files=MILLS)
            await client.vector_stores.delete(store.id)
            return batch.file_counts.completed

    assert asyncio.run(run()) == len(MILLS)


def test_a_file_that_expires(client):
    file = upload(client, expires_after={"anchor": "created_at", "seconds": 3600})
    assert file.expires_at == file.created_at + 3600
    assert upload(client).expires_at is None
    with pytest.raises(openai.BadRequestError):
        upload(client, expires_after={"anchor": "created_at", "seconds": 1})


def test_an_upload_in_chunks(client, tmp_path):
    content = random.Random(7).randbytes(5_000_000)
    path = tmp_path / "large.bin"
    path.write_bytes(content)
    upload = client.uploads.upload_file_chunked(
        file=path,
        mime_type="application/octet-stream",
        purpose="user_data",
        part_size=1_500_000,
        md5=hashlib.md5(content).hexdigest(),
    )
    assert upload.status == "completed" and upload.file.bytes == len(content)
    assert upload.file.filename == "large.bin" and upload.file.purpose == "user_data"
    assert client.files.content(upload.file.id).read() == content
    with pytest.raises(openai.BadRequestError) as error:
        client.uploads.upload_file_chunked(
            file=path, mime_type="text/plain", purpose="user_data", md5=hashlib.md5(b"other").hexdigest()
        )
    assert error.value.param == "md5"


def test_an_upload_is_cancelled(client):
    upload = client.uploads.create(bytes=4, filename="a.txt", mime_type="text/plain", purpose="assistants")
    part = client.uploads.parts.create(upload.id, data=b"abcd")
    assert part.upload_id == upload.id
    assert client.uploads.cancel(upload.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        client.uploads.complete(upload.id, part_ids=[part.id])
