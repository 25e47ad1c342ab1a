"""Measures Inglenook on a GPU beside llama.cpp and transformers, and what the GPU's memory and tensor cores allow, all in one
run, and prints tables in Markdown.

    pip install torch transformers tokenizers gguf numpy
    CMAKE_ARGS="-DGGML_CUDA=on -DCMAKE_CUDA_ARCHITECTURES=90" pip install llama-cpp-python
    CUDA_COMPUTE_CAP=90 cargo build --release --features cuda --examples
    python gpu.py target/release/examples FOLDER [--rounds N] [--models NAME ...]

Models are made in FOLDER where they are not there yet. On another device, such as `--device cpu`, it shows only that the
programs work.
"""

import argparse
import pathlib
import subprocess
import sys
import time

import torch

from compare import HERE, measured

PROMPT, SEQUENCES, TOKENS = 2048, 32, 512
MODELS = ["llama-3.2-1b-q4_k_m", "llama-3.1-8b-q4_k_m"]
EMBEDDER = "bge-base"


def seconds(work, device, repeats=10):
    """Of the fastest run."""
    wait = torch.cuda.synchronize if device != "cpu" else lambda: None
    fastest = float("inf")
    for _ in range(repeats):
        wait()
        start = time.perf_counter()
        work()
        wait()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


def bandwidth(device):
    """Bytes a second that are read and written."""
    count = (1 << 30) if device != "cpu" else (1 << 25)
    source = torch.empty(count, dtype=torch.float32, device=device).normal_()
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds(lambda: target.copy_(source), device)


def tensor_rate(device):
    """Operations a second of bf16 products, on random numbers."""
    size = 8192 if device != "cpu" else 1024
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / seconds(lambda: left @ right, device)


def make(folder, name):
    path = folder / f"{name}.gguf"
    if not path.exists():
        subprocess.run([sys.executable, HERE / "make_models.py", folder, name], check=True, stdout=subprocess.DEVNULL)
    return path


class Shape:
    """What a step of a model has to read and to compute, at least."""

    def __init__(self, path):
        import gguf

        reader = gguf.GGUFReader(path)
        field = lambda name: int(reader.fields[f"llama.{name}"].contents())
        tensors = {tensor.name: tensor for tensor in reader.tensors}
        has_output = "output.weight" in tensors
        # The table of tokens' vectors is read whole only where logits are computed with it.
        read = [it for name, it in tensors.items() if name != "token_embd.weight" or not has_output]
        self.weight_bytes = sum(int(it.n_bytes) for it in read)
        self.layer_weights = sum(int(it.n_elements) for name, it in tensors.items() if name.startswith("blk."))
        heads = field("attention.head_count_kv") * field("rope.dimension_count")
        # Keys and values in f16.
        self.position_bytes = 2 * 2 * heads * field("block_count")


def report_engine(programs, path, options, limits):
    arguments = ["2", options.device, str(PROMPT), str(SEQUENCES)]
    sides = {
        "inglenook": [programs / "engine_speed", path, *arguments],
        "llama.cpp": [sys.executable, HERE / "llama_cpp_speed.py", path, *arguments],
    }
    ours, theirs = measured(sides, options.rounds)
    memory, tensors = limits
    shape = Shape(path)
    short = 64
    bounds = {
        "decode_tokens_per_s": memory / (shape.weight_bytes + PROMPT * shape.position_bytes),
        "together_tokens_per_s": SEQUENCES * memory / (shape.weight_bytes + SEQUENCES * short * shape.position_bytes),
        "prefill_tokens_per_s": tensors / (2 * shape.layer_weights),
    }
    print(f"\n{path.stem}, prompt of {PROMPT}, {SEQUENCES} together\n")
    table(ours, theirs, "llama.cpp", bounds)


def report_embedder(programs, folder, options, limits):
    if not folder.exists():
        subprocess.run([sys.executable, HERE / "make_embedder.py", folder, "base"], check=True)
    # Eight bits are what Inglenook is asked for by default, and f16 what that is on a GPU.
    arguments = [folder, "2", "int8", options.device, str(TOKENS)]
    sides = {
        "inglenook": [programs / "embed_speed", *arguments],
        "transformers": [sys.executable, HERE / "transformers_speed.py", *arguments],
    }
    ours, theirs = measured(sides, options.rounds)
    hidden, layers = 768, 12
    per_token = layers * (2 * 12 * hidden**2 + 4 * TOKENS * hidden)
    print(f"\n{folder.name}, texts of {TOKENS} tokens\n")
    table(ours, theirs, "transformers", {"tokens_per_s": limits[1] / per_token})


def table(ours, theirs, peer, bounds):
    print(f"| | inglenook | {peer} | ratio | limit | of the limit |\n|---|---|---|---|---|---|")
    for key, figure in ours.items():
        limit = bounds.get(key)
        share = f"{limit:.0f} | {figure / limit:.0%}" if limit else "| "
        print(f"| {key} | {figure:.1f} | {theirs[key]:.1f} | {figure / theirs[key]:.2f} | {share} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=pathlib.Path, help="the folder of the built examples")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--models", nargs="*", default=MODELS)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.device != "cpu":
        print(torch.cuda.get_device_name())
    limits = bandwidth(options.device), tensor_rate(options.device)
    if options.device != "cpu":
        torch.cuda.empty_cache()
    print(f"memory {limits[0] / 1e12:.2f} TB/s, products in bf16 {limits[1] / 1e12:.0f} TFLOP/s", flush=True)
    report_embedder(options.programs, options.folder / EMBEDDER, options, limits)
    for name in options.models:
        report_engine(options.programs, make(options.folder, name), options, limits)


if __name__ == "__main__":
    main()
