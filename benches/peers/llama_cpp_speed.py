"""Measures llama.cpp on a GGUF file, as examples/engine_speed.rs measures Inglenook, and prints the same JSON.

    pip install llama-cpp-python numpy
    python llama_cpp_speed.py FILE [THREADS [DEVICE [PROMPT [SEQUENCES]]]] [--without-repacking]

On the device `cuda` all layers are on the GPU, and attention is its flash attention. The last option keeps llama.cpp from
repacking weights for AMX and the like, which some builds of it do not survive.
"""

import json
import sys
import time

import llama_cpp

DECODED, SHORT_PROMPT, REPEATS = 64, 64, 2
CONTEXT, MAX_ROWS = 8192, 512


def resident_mib(key):
    for line in open("/proc/self/status"):
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {key}")


class Model:
    def __init__(self, path, threads, on_gpu, max_batch, sequences, repacks):
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        if on_gpu and not llama_cpp.llama_supports_gpu_offload():
            sys.exit("this llama-cpp-python was built without CUDA")
        params.n_gpu_layers = 999 if on_gpu else 0
        params.use_extra_bufts = repacks
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), params)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = CONTEXT, max_batch, MAX_ROWS, sequences
        # One cache for all where a prompt is longer than a sequence's share of it.
        params.kv_unified = max_batch + DECODED > CONTEXT // sequences
        if on_gpu:
            params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(max_batch, 0, sequences)

    def clear(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def step(self, rows):
        """`rows` are (token, position, sequence, whether its logits are wanted). Returns the seconds taken."""
        for i, (token, position, sequence, logits) in enumerate(rows):
            self.batch.token[i] = token % self.vocab
            self.batch.pos[i] = position
            self.batch.n_seq_id[i] = 1
            self.batch.seq_id[i][0] = sequence
            self.batch.logits[i] = logits
        self.batch.n_tokens = len(rows)
        start = time.perf_counter()
        if llama_cpp.llama_decode(self.context, self.batch) != 0:
            raise RuntimeError("llama_decode failed")
        llama_cpp.llama_synchronize(self.context)
        return time.perf_counter() - start

    def prefill(self, sequence, length):
        return self.step([(i * 7919 + 13, i, sequence, i + 1 == length) for i in range(length)])


def main():
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    if not arguments:
        sys.exit(__doc__)
    before = resident_mib("VmRSS")
    start = time.perf_counter()
    threads, device, prompt, sequences = (arguments[1:] + ["2", "cpu", "512", "8"][len(arguments) - 1:])[:4]
    threads, prompt, sequences = int(threads), int(prompt), int(sequences)
    max_batch = max(prompt, sequences)
    model = Model(arguments[0], threads, device != "cpu", max_batch, sequences, "--without-repacking" not in sys.argv)
    load = time.perf_counter() - start
    prefill, decode, together = [], [], []
    for _ in range(REPEATS):
        model.clear()
        prefill.append(model.prefill(0, prompt))
        decode += [model.step([(i * 31, prompt + i, 0, True)]) for i in range(DECODED)]
        model.clear()
        for sequence in range(sequences):
            model.prefill(sequence, SHORT_PROMPT)
        together += [model.step([(i * 31 + s, SHORT_PROMPT + i, s, True) for s in range(sequences)])
                     for i in range(DECODED)]
    print(json.dumps({
        "prefill_tokens_per_s": prompt / min(prefill),
        "decode_tokens_per_s": 1 / min(decode),
        "together_tokens_per_s": sequences / min(together),
        "resident_mib": resident_mib("VmRSS") - before,
        "peak_mib": resident_mib("VmHWM") - before,
        "load_s": load,
    }))


if __name__ == "__main__":
    main()
