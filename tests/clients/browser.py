"""Runs the browser test of web/ against a real server. Screenshots go to SCREENSHOT_DIR, if that is set."""

import os
import subprocess
import sys

from server import ROOT, Server


def main():
    server = Server()
    try:
        environment = os.environ | {"BASE_URL": server.base_url}
        return subprocess.run(["node", "tests/browser.mjs"], cwd=ROOT / "web", env=environment).returncode
    finally:
        server.close()


if __name__ == "__main__":
    sys.exit(main())
