"""Measures ONNX Runtime on the folder that make_embedder.py wrote, as examples/embed_speed.rs measures Inglenook, and
prints the same JSON. Tokenization is not part of it.

    pip install onnxruntime numpy
    python onnxruntime_speed.py FOLDER [THREADS]
"""

import json
import pathlib
import sys
import time

import numpy as np
import onnxruntime

TEXTS, TOKENS, REPEATS = 32, 128, 6


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    start = time.perf_counter()
    path = pathlib.Path(sys.argv[1]) / "model.onnx"
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    load = time.perf_counter() - start
    ids = np.random.default_rng(0).integers(5, 30522, (TEXTS, TOKENS))
    # The export drops the mask where all of it is ones.
    inputs = {"ids": ids, "mask": np.ones_like(ids)}
    inputs = {it.name: inputs[it.name] for it in session.get_inputs()}
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        session.run(None, inputs)
        seconds.append(time.perf_counter() - start)
    print(json.dumps({"tokens_per_s": TEXTS * TOKENS / min(seconds), "load_s": load}))


if __name__ == "__main__":
    main()
