"""Runs Inglenook and llama.cpp in turn on the same GGUF files and prints how they compare.

    cargo build --release --example engine_speed
    python make_models.py FOLDER
    python compare.py target/release/examples/engine_speed [--rounds N] [--threads N] FILE ...

Of several rounds the best figure counts, since whatever else runs on the machine only makes one slower. The ratio is
ours over llama.cpp's; for memory, less is better.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent


def best(results):
    return {key: (max if key.endswith("per_s") else min)(r[key] for r in results) for key in results[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the built example engine_speed")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--without-repacking", action="store_true", help="see llama_cpp_speed.py")
    options = parser.parse_args()
    threads = str(options.threads)
    sides = {
        "inglenook": [options.program],
        "llama.cpp": [sys.executable, str(HERE / "llama_cpp_speed.py")],
    }
    if options.without_repacking:
        sides["llama.cpp"].append("--without-repacking")
    for file in options.files:
        results = {side: [] for side in sides}
        for _ in range(options.rounds):
            for side, command in sides.items():
                output = subprocess.run([*command, file, threads], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
                results[side].append(json.loads(output))
        ours, theirs = (best(results[side]) for side in sides)
        print(f"{file} ({os.path.getsize(file) / 2**20:.0f} MiB), {threads} threads")
        for key in ours:
            print(f"  {key:24} {ours[key]:9.1f} {theirs[key]:9.1f}  ratio {ours[key] / theirs[key]:.2f}")


if __name__ == "__main__":
    main()
