"""Writes llm_goldens.json: logits of tiny seeded models, computed by transformers, and quantized blocks, expanded by
gguf-py; llm_checkpoints.json: what transformers writes beside the weights when it saves these models; and, given the
folder with the quantized stories260K files, stories_goldens.json: their logits.

    pip install torch transformers gguf safetensors numpy
    python make_llm_goldens.py [FOLDER]

The weights follow from tensor names by integer arithmetic (`seeded_numbers`), the same as in src/llm/testing.rs, so
the Rust tests make the same models without Python. Everything else, from the rotation to the order of heads, is
transformers' own: f32, eager attention, CPU.
"""

import json
import math
import pathlib
import sys
import tempfile

import gguf
import numpy as np
import safetensors
import torch
import transformers

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 256,
}
LINEAR = {"rope_type": "linear", "factor": 4.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
# Phi-3's divisors, their lengths half of the rotated dimensions. The tests have the same numbers.
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0 + pair / 16 for pair in range(6)],
    "long_factor": [1.5 + pair * 1.25 for pair in range(6)],
    "original_max_position_embeddings": 32,
    "partial_rotary_factor": 0.75,
}
GRANITE = dict(embedding_multiplier=1.5, residual_multiplier=0.6, attention_multiplier=0.125, logits_scaling=3.0)

# The same models, by the same names, are in src/llm/decoder/tests/models.rs.
MODELS = {
    "llama": dict(architecture="llama", num_kv_heads=4),
    "llama-tied-llama3-rope": dict(architecture="llama", tied=True, rope_base=500000.0, rope=LLAMA3),
    "llama-linear-rope": dict(architecture="llama", rope=LINEAR),
    "qwen2": dict(architecture="qwen2"),
    "qwen2-tied": dict(architecture="qwen2", tied=True, rope_base=1000000.0, seed=2),
    "qwen3": dict(architecture="qwen3", head_dim=24),
    "qwen3-tied": dict(architecture="qwen3", head_dim=24, tied=True, rope_base=1000000.0, seed=3),
    "mistral": dict(architecture="mistral", window=24),
    "mistral-yarn": dict(architecture="mistral", rope=YARN, seed=4),
    "gemma3": dict(architecture="gemma3", layers=7, head_dim=24, rope_base=1000000.0, window=16,
                   rope=dict(LINEAR, factor=8.0)),
    "phi3": dict(architecture="phi3", window=20),
    "phi3-longrope": dict(architecture="phi3", rope=LONGROPE),
    "smollm3": dict(architecture="smollm3", layers=5, rope_base=2000000.0),
    "granite": dict(architecture="granite", extra=GRANITE),
    "qwen3moe": dict(architecture="qwen3moe", head_dim=24, experts=5, experts_used=2, ffn=48),
}
DEFAULTS = dict(vocab_size=160, hidden=64, layers=3, num_heads=4, num_kv_heads=2, head_dim=16, ffn=96,
                rope_base=10000.0, rope=None, tied=False, seed=1, window=None, experts=0, experts_used=0, extra={})
# Families whose GGUF files pair neighbouring rows.
NEIGHBOURS = ("llama", "mistral", "smollm3", "granite")

# Models for which the long prompt shows nothing that the medium one does not.
MEDIUM_IS_ENOUGH = ("mistral", "phi3", "smollm3", "granite", "qwen3moe")

U64 = np.uint64


def seeded_numbers(seed, name, count):
    mask = (1 << 64) - 1
    fnv = 0xCBF29CE484222325
    for byte in name.encode():
        fnv = ((fnv ^ byte) * 0x100000001B3) & mask
    steps = ((seed * 0xD1342543DE82EF95) & mask) ^ fnv
    with np.errstate(over="ignore"):
        z = U64(steps) + np.arange(1, count + 1, dtype=U64) * U64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> U64(30))) * U64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> U64(27))) * U64(0x94D049BB133111EB)
        z = z ^ (z >> U64(31))
    return (z >> U64(40)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)


def tensor(model, name, shape, center, spread):
    numbers = seeded_numbers(model["seed"], name, math.prod(shape))
    return (np.float32(center) + np.float32(spread) * numbers).reshape(shape)


def matrix(model, name, outputs, inputs, sharper=False):
    spread = np.float32(math.sqrt(3.0 / inputs))
    if sharper:
        spread = np.float32(math.sqrt(2.0)) * spread
    return tensor(model, name, (outputs, inputs), 0.0, spread)


def experts(model, name, outputs, inputs):
    return tensor(model, name, (model["experts"], outputs, inputs), 0.0, np.float32(math.sqrt(3.0 / inputs)))


def neighbours_to_halves(rows, num_heads):
    """GGUF's llama files pair neighbouring rows of a head for rotation, transformers the halves of a head."""
    head_dim = rows.shape[0] // num_heads
    return rows.reshape(num_heads, head_dim // 2, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def weights(m):
    """transformers' names to arrays."""
    hidden, ffn, d = m["hidden"], m["ffn"], m["head_dim"]
    queries, keys = m["num_heads"] * d, m["num_kv_heads"] * d
    out = {"model.embed_tokens.weight": tensor(m, "token_embd.weight", (m["vocab_size"], hidden), 0.0, 1.0)}
    for i in range(m["layers"]):
        b, t = f"blk.{i}.", f"model.layers.{i}."
        norm = lambda name, size: tensor(m, b + name + ".weight", (size,), 1.0, 0.25)
        if m["architecture"] == "phi3":
            out[t + "self_attn.qkv_proj.weight"] = matrix(m, b + "attn_qkv.weight", queries + 2 * keys, hidden)
            out[t + "mlp.gate_up_proj.weight"] = matrix(m, b + "ffn_up.weight", 2 * ffn, hidden)
        else:
            q = matrix(m, b + "attn_q.weight", queries, hidden, sharper=True)
            k = matrix(m, b + "attn_k.weight", keys, hidden, sharper=True)
            if m["architecture"] in NEIGHBOURS:
                q, k = neighbours_to_halves(q, m["num_heads"]), neighbours_to_halves(k, m["num_kv_heads"])
            out[t + "self_attn.q_proj.weight"] = q
            out[t + "self_attn.k_proj.weight"] = k
            out[t + "self_attn.v_proj.weight"] = matrix(m, b + "attn_v.weight", keys, hidden)
        out[t + "self_attn.o_proj.weight"] = matrix(m, b + "attn_output.weight", hidden, queries)
        if m["experts"]:
            out[t + "mlp.gate.weight"] = matrix(m, b + "ffn_gate_inp.weight", m["experts"], hidden)
            gate, up = (experts(m, b + f"ffn_{part}_exps.weight", ffn, hidden) for part in ("gate", "up"))
            out[t + "mlp.experts.gate_up_proj"] = np.concatenate([gate, up], axis=1)
            out[t + "mlp.experts.down_proj"] = experts(m, b + "ffn_down_exps.weight", hidden, ffn)
        else:
            out[t + "mlp.down_proj.weight"] = matrix(m, b + "ffn_down.weight", hidden, ffn)
            if m["architecture"] != "phi3":
                out[t + "mlp.gate_proj.weight"] = matrix(m, b + "ffn_gate.weight", ffn, hidden)
                out[t + "mlp.up_proj.weight"] = matrix(m, b + "ffn_up.weight", ffn, hidden)
        out[t + "input_layernorm.weight"] = norm("attn_norm", hidden)
        if m["architecture"] == "gemma3":
            out[t + "post_attention_layernorm.weight"] = norm("post_attention_norm", hidden)
            out[t + "pre_feedforward_layernorm.weight"] = norm("ffn_norm", hidden)
            out[t + "post_feedforward_layernorm.weight"] = norm("post_ffw_norm", hidden)
        else:
            out[t + "post_attention_layernorm.weight"] = norm("ffn_norm", hidden)
        if m["architecture"] == "qwen2":
            for part, size in (("q", queries), ("k", keys), ("v", keys)):
                out[t + f"self_attn.{part}_proj.bias"] = tensor(m, b + f"attn_{part}.bias", (size,), 0.0, 0.5)
        if m["architecture"] in ("qwen3", "qwen3moe", "gemma3"):
            out[t + "self_attn.q_norm.weight"] = norm("attn_q_norm", d)
            out[t + "self_attn.k_norm.weight"] = norm("attn_k_norm", d)
    out["model.norm.weight"] = tensor(m, "output_norm.weight", (hidden,), 1.0, 0.25)
    out["lm_head.weight"] = (out["model.embed_tokens.weight"] if m["tied"]
                             else matrix(m, "output.weight", m["vocab_size"], hidden))
    if m["architecture"] == "gemma3":
        # Its files have the weights of norms less 1; GGUF files, as they are multiplied by.
        out = {name: array - 1 if "norm" in name else array for name, array in out.items()}
    return out


def build(m):
    rope = dict(m["rope"] or {"rope_type": "default"}, rope_theta=m["rope_base"])
    common = dict(
        vocab_size=m["vocab_size"], hidden_size=m["hidden"], intermediate_size=m["ffn"],
        num_hidden_layers=m["layers"], num_attention_heads=m["num_heads"], num_key_value_heads=m["num_kv_heads"],
        head_dim=m["head_dim"], max_position_embeddings=4096, rms_norm_eps=1e-5, tie_word_embeddings=m["tied"],
        rope_parameters=rope, attn_implementation="eager", dtype=torch.float32,
    )
    if m["architecture"] == "gemma3":
        common.update(rope_parameters={"full_attention": rope, "sliding_attention": {
            "rope_type": "default", "rope_theta": 10000.0}}, query_pre_attn_scalar=m["head_dim"])
    if m["architecture"] == "phi3":
        common.update(original_max_position_embeddings=rope.get("original_max_position_embeddings", 4096),
                      pad_token_id=None, bos_token_id=None, eos_token_id=None)
    if m["architecture"] in ("mistral", "gemma3", "phi3"):
        common.update(sliding_window=m["window"])
    if m["experts"]:
        common.update(num_experts=m["experts"], num_experts_per_tok=m["experts_used"],
                      moe_intermediate_size=m["ffn"], norm_topk_prob=True)
    common.update(pad_token_id=None, bos_token_id=None, eos_token_id=None, **m["extra"])
    config_class, model_class = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
        "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
        "gemma3": (transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM),
        "phi3": (transformers.Phi3Config, transformers.Phi3ForCausalLM),
        "smollm3": (transformers.SmolLM3Config, transformers.SmolLM3ForCausalLM),
        "granite": (transformers.GraniteConfig, transformers.GraniteForCausalLM),
        "qwen3moe": (transformers.Qwen3MoeConfig, transformers.Qwen3MoeForCausalLM),
    }[m["architecture"]]
    model = model_class(config_class(**common)).eval()
    state = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in weights(m).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not missing and not unexpected, (missing, unexpected)
    return model


def saved(model):
    """The configuration that transformers saves with the model, and the names and shapes of the saved tensors."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        config = json.loads((pathlib.Path(folder) / "config.json").read_text())
        with safetensors.safe_open(pathlib.Path(folder) / "model.safetensors", "np") as file:
            tensors = {name: file.get_slice(name).get_shape() for name in sorted(file.keys())}
    return {"config": config, "tensors": tensors}


def greedy(model, tokens, count):
    """The ids that follow greedily, every step computed anew."""
    tokens = list(tokens)
    for _ in range(count):
        with torch.no_grad():
            tokens.append(int(model(torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
    return tokens[-count:]


def prompt(name, count, vocab_size):
    return [int((x + 1) / 2 * vocab_size) % vocab_size for x in seeded_numbers(7, name, count)]


# Where a block's 16-bit scales begin.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
          "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208]}


def quantized_blocks(name):
    """256 numbers of one type: random blocks with small scales, and what they stand for."""
    kind = gguf.GGMLQuantizationType[name]
    block, num_bytes = gguf.GGML_QUANT_SIZES[kind]
    data = (seeded_numbers(1, name, 256 // block * num_bytes) * 128 + 128).astype(np.uint8).reshape(-1, num_bytes)
    for offset in SCALES[name]:
        # The high byte of a number below 1/128.
        data[:, offset + 1] &= 0x1F
    numbers = gguf.quants.dequantize(data.reshape(1, -1), kind).reshape(-1)
    return {"type": name, "bytes": data.tobytes().hex(), "numbers": [float(f"{x:.7g}") for x in numbers]}


def stories(folder):
    """Logits of the quantized files with all weights expanded by gguf-py, after the tokens of "Once upon a time"."""
    golden = {}
    for name in ("Q8_0", "Q5_1", "Q4_0"):
        reader = gguf.GGUFReader(pathlib.Path(folder) / f"stories260K-{name}.gguf")
        arrays = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).reshape(t.shape.tolist()[::-1])
                  for t in reader.tensors}
        config = transformers.LlamaConfig(
            vocab_size=512, hidden_size=64, intermediate_size=172, num_hidden_layers=5, num_attention_heads=8,
            num_key_value_heads=4, head_dim=8, max_position_embeddings=512, rms_norm_eps=1e-5,
            tie_word_embeddings=False, rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
            attn_implementation="eager", dtype=torch.float32)
        model = transformers.LlamaForCausalLM(config).eval()
        parts = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
                 "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
                 "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
        state = {"model.embed_tokens.weight": arrays["token_embd.weight"], "lm_head.weight": arrays["output.weight"],
                 "model.norm.weight": arrays["output_norm.weight"]}
        for i in range(5):
            for theirs, ours in parts.items():
                array = arrays[f"blk.{i}.{ours}.weight"]
                heads = {"attn_q": 8, "attn_k": 4}.get(ours)
                array = neighbours_to_halves(array, heads) if heads else array
                state[f"model.layers.{i}.{theirs}.weight"] = array
        state = {k: torch.from_numpy(np.array(v, dtype=np.float32)) for k, v in state.items()}
        missing, unexpected = model.load_state_dict(state, strict=False)
        assert not missing and not unexpected, (missing, unexpected)
        with torch.no_grad():
            logits = model(torch.tensor([[1, 403, 407, 261, 378]]), use_cache=False).logits[0, -1]
        golden[name] = [round(float(x), 4) for x in logits]
    return golden


def main():
    prompts = {
        "short": prompt("short", 11, 160),
        "medium": prompt("medium", 70, 160),
        "long": prompt("long", 2000, 160),
    }
    # Positions, and how many leading logits of each are kept.
    kept = {"short": ([0, 1, 10], 160), "medium": ([15, 16, 69], 160), "long": ([255, 1023, 1024, 1700, 1999], 64)}
    golden = {
        "made_by": f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}, f32, eager",
        "seeded_numbers": [float(x) for x in seeded_numbers(1, "token_embd.weight", 3)],
        "quantized": [quantized_blocks(name) for name in SCALES],
        "prompts": prompts,
        "models": {},
        "greedy": {},
    }
    checkpoints = {}
    for name, changes in MODELS.items():
        model = build({**DEFAULTS, **changes})
        golden["models"][name] = []
        for prompt_name, tokens in prompts.items():
            if prompt_name == "long" and name in MEDIUM_IS_ENOUGH:
                continue
            with torch.no_grad():
                logits = model(torch.tensor([tokens]), use_cache=False).logits[0]
            positions, width = kept[prompt_name]
            for position in positions:
                row = [round(float(x), 5) for x in logits[position][:width]]
                golden["models"][name].append({"prompt": prompt_name, "position": position, "logits": row})
        golden["greedy"][name] = greedy(model, prompts["medium"][:40], 24)
        checkpoints[name] = saved(model)
        print(name, "std", float(logits.std()))
    path = pathlib.Path(__file__).with_name("llm_goldens.json")
    path.write_text(json.dumps(golden, separators=(",", ":")).replace('{"prompt"', '\n{"prompt"') + "\n")
    print(path, path.stat().st_size, "bytes")
    path = path.with_name("llm_checkpoints.json")
    path.write_text(json.dumps(checkpoints, separators=(",", ":")).replace('{"config"', '\n{"config"') + "\n")
    print(path, path.stat().st_size, "bytes")
    if len(sys.argv) > 1:
        path = path.with_name("stories_goldens.json")
        path.write_text(json.dumps(stories(sys.argv[1]), separators=(",", ":")) + "\n")
        print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
