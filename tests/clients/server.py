"""Starts the real program with tiny models on a free port, for tests written in Python."""

import os
import pathlib
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = TARGET / "debug" / "inglenook"
SHOWN = "The keeper of the lighthouse is Maren Holt [1]. An invented source is not shown."


class Server:
    """A running server; `base_url` is its address. Ended by `close`."""

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
        command = [
            PROGRAM, "serve", "--port", "0", "--data-dir", folder / "data", "--log", "warn",
            "--chat-model", models / f"{chat_model}.gguf", "--embedding-model", models / "tiny-bert", *args,
        ]
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
