"""Writes GGUF files with random weights in the shapes and quantizations of well-known models, to measure speed on:
what a model says costs the same time as what it should say. Nothing is downloaded.

    pip install gguf numpy
    python make_models.py FOLDER [NAME ...]

Names are those of MODELS, each followed by its quantization, such as `qwen2.5-0.5b-q8_0`; all but those of 8B by default.
"""

import pathlib
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

MODELS = {
    "qwen2.5-0.5b": dict(arch="qwen2", hidden=896, layers=24, heads=14, kv_heads=2, ffn=4864, vocab=151936,
                         head_dim=64, rope_base=1000000.0, bias=True, context=32768, rope_freqs=False),
    "llama-3.2-1b": dict(arch="llama", hidden=2048, layers=16, heads=32, kv_heads=8, ffn=8192, vocab=128256,
                         head_dim=64, rope_base=500000.0, bias=False, context=131072, rope_freqs=True),
    # Its output matrix is one of its own.
    "llama-3.1-8b": dict(arch="llama", hidden=4096, layers=32, heads=32, kv_heads=8, ffn=14336, vocab=128256,
                         head_dim=128, rope_base=500000.0, bias=False, context=131072, rope_freqs=True, output=True),
}
QUANTIZATIONS = ["q8_0", "q4_k_m"]

# Where the half-precision scales stand in a block, and what they are multiplied by to give the weights.
SCALES = {
    Type.Q8_0: ([0], 127), Type.Q4_0: ([0], 8), Type.Q5_0: ([0], 16),
    Type.Q4_K: ([0, 2], 63 * 15), Type.Q6_K: ([208], 127 * 32),
}
SPREAD = 0.05


def random_weights(rng, rows, columns, type):
    """Blocks of random bytes with scales that make weights of about the size of real ones."""
    block, size = gguf.GGML_QUANT_SIZES[type]
    blocks = rng.integers(0, 256, (rows * columns // block, size), dtype=np.uint8)
    places, largest = SCALES[type]
    scale = np.frombuffer(np.float16(SPREAD / largest).tobytes(), np.uint8)
    for place in places:
        blocks[:, place:place + 2] = scale
    return blocks.reshape(rows, columns // block * size)


def tensor_type(quantization, name, layer, layers, columns, has_output):
    """As llama.cpp chooses it (llama-quant.cpp), with its fallback for rows that are no whole number of blocks."""
    if quantization == "q8_0":
        return Type.Q8_0
    more_bits = layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2
    # The output matrix, which is the table of tokens' vectors where it has none of its own.
    wants_more = name == ("output" if has_output else "token_embd") or (name in ("attn_v", "ffn_down") and more_bits)
    if columns % 256 != 0:
        return Type.Q8_0 if wants_more else Type.Q5_0
    return Type.Q6_K if wants_more else Type.Q4_K


def byte_tokens():
    """GPT-2's printable stand-ins for the 256 bytes."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b if b in kept else 256 + n) for b, n in
            ((b, sum(1 for c in range(b) if c not in kept)) for b in range(256))]


def write(path, model, quantization):
    rng = np.random.default_rng(1)
    arch, hidden, layers = model["arch"], model["hidden"], model["layers"]
    queries, keys = model["heads"] * model["head_dim"], model["kv_heads"] * model["head_dim"]
    writer = gguf.GGUFWriter(path, arch, use_temp_file=True)
    writer.add_name(path.stem)
    writer.add_context_length(model["context"])
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(model["ffn"])
    writer.add_head_count(model["heads"])
    writer.add_head_count_kv(model["kv_heads"])
    writer.add_rope_dimension_count(model["head_dim"])
    writer.add_rope_freq_base(model["rope_base"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(model["vocab"])
    tokens = byte_tokens()
    end = model["vocab"] - 1
    types = [gguf.TokenType.NORMAL] * model["vocab"]
    types[end] = gguf.TokenType.CONTROL
    tokens += ["he"] + [f"token{i}" for i in range(len(tokens) + 1, end)] + ["<|endoftext|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2" if arch == "qwen2" else "llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(["h e"])
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)

    def matrix(name, rows, columns, prefix="", layer=0):
        type = tensor_type(quantization, name, layer, layers, columns, model.get("output", False))
        writer.add_tensor(f"{prefix}{name}.weight", random_weights(rng, rows, columns, type), raw_dtype=type)

    def vector(name, numbers):
        writer.add_tensor(name, numbers.astype(np.float32))

    matrix("token_embd", model["vocab"], hidden)
    if model.get("output"):
        matrix("output", model["vocab"], hidden)
    vector("output_norm.weight", np.ones(hidden))
    if model["rope_freqs"]:
        vector("rope_freqs.weight", np.geomspace(1, 32, model["head_dim"] // 2))
    for layer in range(layers):
        prefix = f"blk.{layer}."
        vector(f"{prefix}attn_norm.weight", np.ones(hidden))
        vector(f"{prefix}ffn_norm.weight", np.ones(hidden))
        for name, rows, columns in [
            ("attn_q", queries, hidden), ("attn_k", keys, hidden), ("attn_v", keys, hidden),
            ("attn_output", hidden, queries), ("ffn_gate", model["ffn"], hidden), ("ffn_up", model["ffn"], hidden),
            ("ffn_down", hidden, model["ffn"]),
        ]:
            matrix(name, rows, columns, prefix, layer)
            if model["bias"] and name in ("attn_q", "attn_k", "attn_v"):
                vector(f"{prefix}{name}.bias", rng.normal(0, 0.1, rows))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    all_names = [f"{model}-{quantization}" for model in MODELS for quantization in QUANTIZATIONS]
    for name in sys.argv[2:] or [name for name in all_names if "-8b-" not in name]:
        if name not in all_names:
            sys.exit(f"unknown model {name!r}; known are {', '.join(all_names)}")
        model = next(model for model in MODELS if name.startswith(model))
        path = folder / f"{name}.gguf"
        write(path, MODELS[model], name.removeprefix(f"{model}-"))
        print(path, path.stat().st_size)


if __name__ == "__main__":
    main()
