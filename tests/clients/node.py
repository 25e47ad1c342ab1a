"""Runs the tests of node/ against real servers, one for each of their models."""

import json
import os
import subprocess
import sys

from server import ROOT, Server

MODELS = ("scripted", "calling", "babbling", "thinking")


def main():
    servers = {}
    try:
        for model in MODELS:
            servers[model] = Server(chat_model=model)
        urls = json.dumps({model: server.base_url for model, server in servers.items()})
        command = ["node", "--test", *sys.argv[1:]]
        return subprocess.run(command, cwd=ROOT / "tests/clients/node", env=os.environ | {"INGLENOOK_TEST_URLS": urls}).returncode
    finally:
        for server in servers.values():
            server.close()


if __name__ == "__main__":
    sys.exit(main())
