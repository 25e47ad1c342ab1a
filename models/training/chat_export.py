"""Writes a trained chat model as GGUF: llama architecture, Q8_0, with its tokenizer and the ChatML template inside.

    python chat_export.py CHECKPOINT OUT.gguf --tokenizer DIR [--sharpness 1.5]

Its answers are few and fixed, so its certainty may be raised: `--sharpness` multiplies all logits, which at a sampling
temperature of 1 does what a temperature of 1 / sharpness would.
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch

from chat_model import ChatModel, Sizes
from prompt import TEMPLATE

ROPE_BASE = 10_000.0
# A pair that is not rotated: its frequency is divided by this.
NEVER = 1e12


def interleaved(weight, heads):
    """Rows of queries or keys in the order of llama files, where the two of a rotated pair stand side by side."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def divisors(sizes):
    """What `rope_freqs.weight` must divide the usual frequencies by to give the model's."""
    usual = ROPE_BASE ** -(np.arange(0, sizes.head, 2) / sizes.head)
    wanted = sizes.frequencies().numpy().astype(np.float64)
    return np.where(wanted > 0, usual / np.maximum(wanted, 1e-30), NEVER).astype(np.float32)


def write_metadata(writer, sizes, tokenizer):
    writer.add_name("Inglenook demonstration model")
    writer.add_description("Quotes documents and says hello; trained from scratch on openly licensed text")
    writer.add_license("Apache-2.0")
    writer.add_context_length(sizes.context)
    writer.add_embedding_length(sizes.hidden)
    writer.add_block_count(sizes.layers)
    writer.add_feed_forward_length(sizes.feed_forward)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.heads)
    writer.add_key_length(sizes.head)
    writer.add_value_length(sizes.head)
    writer.add_layer_norm_rms_eps(sizes.epsilon)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_rope_dimension_count(sizes.head)
    writer.add_vocab_size(sizes.vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    ids = tokenizer["model"]["vocab"]
    special = {token["id"] for token in tokenizer["added_tokens"]}
    kinds = [gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for i in range(len(ids))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(sorted(ids, key=ids.get))
    writer.add_token_types(kinds)
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(ids["<|endoftext|>"])
    writer.add_eos_token_id(ids["<|im_end|>"])
    writer.add_pad_token_id(ids["<|pad|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def write_tensors(writer, model, sharpness):
    sizes = model.sizes

    def put(name, weight):
        values = np.ascontiguousarray(weight, np.float32)
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            q8 = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, q8), raw_dtype=q8)

    array = lambda parameter: parameter.detach().float().numpy()
    put("token_embd.weight", array(model.embedding.weight))
    put("output_norm.weight", array(model.norm.weight) * sharpness)
    put("rope_freqs.weight", divisors(sizes))
    for number, block in enumerate(model.blocks):
        name = f"blk.{number}."
        put(name + "attn_norm.weight", array(block.attention_norm.weight))
        put(name + "attn_q.weight", interleaved(array(block.queries.weight), sizes.heads))
        put(name + "attn_k.weight", interleaved(array(block.keys.weight), sizes.heads))
        put(name + "attn_v.weight", array(block.values.weight))
        put(name + "attn_output.weight", array(block.output.weight))
        put(name + "ffn_norm.weight", array(block.feed_forward_norm.weight))
        put(name + "ffn_gate.weight", array(block.gate.weight))
        put(name + "ffn_up.weight", array(block.up.weight))
        put(name + "ffn_down.weight", array(block.down.weight))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--sharpness", type=float, default=1.5)
    args = parser.parse_args()
    model = ChatModel(Sizes())
    model.load_state_dict(torch.load(args.checkpoint, map_location="cpu")["model"])
    writer = gguf.GGUFWriter(args.out, "llama")
    write_metadata(writer, model.sizes, json.loads((args.tokenizer / "tokenizer.json").read_text()))
    write_tensors(writer, model, args.sharpness)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(args.out, round(args.out.stat().st_size / 1e6, 2), "MB")


if __name__ == "__main__":
    main()
