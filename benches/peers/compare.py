"""Runs Inglenook and another program in turn on the same models and prints how they compare: llama.cpp on GGUF files,
ONNX Runtime on the folder of an embedding model.

    cargo build --release --examples
    python make_models.py FOLDER
    python compare.py target/release/examples/engine_speed [--rounds N] [--threads N] FILE ...
    python make_embedder.py FOLDER
    python compare.py target/release/examples/embed_speed --peer onnxruntime [--rounds N] [--threads N] FOLDER

Of several rounds the best figure counts, since whatever else runs on the machine only makes one slower. The ratio is
ours over the other's; for memory and load_s, less is better.
"""

import argparse
import json
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent


def best(results):
    return {key: (max if key.endswith("per_s") else min)(r[key] for r in results) for key in results[0]}


def measured(sides, rounds):
    """The best figures of each side's command."""
    results = {side: [] for side in sides}
    for _ in range(rounds):
        for side, command in sides.items():
            ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            if ended.returncode != 0:
                sys.exit(f"{side} failed: {ended.stderr[-2000:]}")
            results[side].append(json.loads(ended.stdout))
    return [best(results[side]) for side in sides]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the built example engine_speed or embed_speed")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--peer", choices=["llama.cpp", "onnxruntime"], default="llama.cpp")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--without-repacking", action="store_true", help="see llama_cpp_speed.py")
    options = parser.parse_args()
    threads = str(options.threads)
    peer = [sys.executable, str(HERE / f"{options.peer.replace('.', '_')}_speed.py")]
    if options.without_repacking:
        if options.peer != "llama.cpp":
            parser.error("--without-repacking is for llama.cpp")
        peer.append("--without-repacking")
    sides = {"inglenook": [options.program], options.peer: peer}
    for model in options.models:
        commands = {side: [*command, model, threads] for side, command in sides.items()}
        ours, theirs = measured(commands, options.rounds)
        print(f"{model}, {threads} threads: inglenook, {options.peer}")
        for key in ours:
            print(f"  {key:24} {ours[key]:9.1f} {theirs[key]:9.1f}  ratio {ours[key] / theirs[key]:.2f}")


if __name__ == "__main__":
    main()
