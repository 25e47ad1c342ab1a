"""Measures transformers on the folder that make_embedder.py wrote, as examples/embed_speed.rs measures Inglenook, and prints
the same JSON. On the device `cuda` in bf16 with flash attention, elsewhere in f32. Tokenization is not part of it, and no text
is padded.

    pip install torch transformers
    python transformers_speed.py FOLDER [THREADS [PRECISION [DEVICE [TOKENS]]]]
"""

import contextlib
import json
import sys
import time

import torch
import transformers
from torch.nn.attention import SDPBackend, sdpa_kernel

TEXTS, REPEATS = 32, 6


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder, threads, _, device, tokens = (sys.argv[1:] + ["2", "-", "cpu", "128"][len(sys.argv) - 2:])[:5]
    tokens, on_gpu = int(tokens), device != "cpu"
    torch.set_num_threads(int(threads))
    start = time.perf_counter()
    type = torch.bfloat16 if on_gpu else torch.float32
    model = transformers.BertModel.from_pretrained(folder, dtype=type, attn_implementation="sdpa", add_pooling_layer=False)
    model = model.to(device).eval()
    load = time.perf_counter() - start
    ids = torch.randint(5, 30522, (TEXTS, tokens), generator=torch.Generator().manual_seed(0)).to(device)
    attention = sdpa_kernel(SDPBackend.FLASH_ATTENTION) if on_gpu else contextlib.nullcontext()
    seconds = []
    with torch.inference_mode(), attention:
        for _ in range(REPEATS):
            start = time.perf_counter()
            hidden = model(input_ids=ids).last_hidden_state[:, 0]
            torch.nn.functional.normalize(hidden.float()).cpu()
            seconds.append(time.perf_counter() - start)
    print(json.dumps({"tokens_per_s": TEXTS * tokens / min(seconds), "load_s": load}))


if __name__ == "__main__":
    main()
