"""Starts the real program with tiny models on a free port, for tests written in Python."""

import io
import os
import pathlib
import subprocess
import tempfile

import openai

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = TARGET / "debug" / "inglenook"
SHOWN = "The keeper of the lighthouse is Maren Holt [1]. An invented source is not shown."


class Server:
    """A running server; `base_url` is its address. Without a chat model it has those that come with the program. Ended by
    `close`."""

    def __init__(self, *args, chat_model="scripted"):
        self.dir = tempfile.TemporaryDirectory()
        folder = pathlib.Path(self.dir.name)
        models = folder / "models"
        models.mkdir()
        subprocess.run([TARGET / "debug" / "examples" / "tiny_models", models], check=True)
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("INGLENOOK_", "HF_"))
        }
        command = [PROGRAM, "serve", "--port", "0", "--data-dir", folder / "data", "--log", "warn", *args]
        if chat_model:
            command += ["--chat-model", models / f"{chat_model}.gguf", "--embedding-model", models / "tiny-bert"]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment | {"HOME": str(folder)}, stdout=subprocess.PIPE, text=True
        )
        for line in self.process.stdout:
            if line.startswith("Open "):
                self.base_url = line.split()[1]
                return
        raise RuntimeError("the server ended at start")

    def close(self):
        self.process.terminate()
        self.process.wait(timeout=60)
        self.dir.cleanup()


def lighthouse(base_url, api_key="none"):
    """The id of a new vector store with one document, which says who keeps the lighthouse."""
    client = openai.OpenAI(base_url=base_url, api_key=api_key)
    text = "# The lighthouse\n\nThe keeper of the lighthouse is Maren Holt, who came in 1998.\n"
    store = client.vector_stores.create(name="tests")
    file = client.files.create(file=("lighthouse.md", io.BytesIO(text.encode())), purpose="assistants")
    attached = client.vector_stores.files.create_and_poll(vector_store_id=store.id, file_id=file.id)
    assert attached.status == "completed", attached.last_error
    return store.id
