"""The pipeline that people build by hand: pypdf, passages of a fixed number of tokens, sentence-transformers, SQLite. Prints
one JSON object with its times; loading the model is not counted.

    pip install pypdf fonttools sentence-transformers
    python python_pipeline.py MODEL [--threads N] [--batch-size N] FILE ...
"""

import argparse
import json
import logging
import sqlite3
import tempfile
import time

import pypdf
import torch
from sentence_transformers import SentenceTransformer

MAX_TOKENS, OVERLAP = 256, 64


def passages(text, tokenizer):
    """Windows of as many tokens as Inglenook's passages have at most."""
    places = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, truncation=False)["offset_mapping"]
    for first in range(0, len(places), MAX_TOKENS - OVERLAP):
        window = places[first : first + MAX_TOKENS]
        yield text[window[0][0] : window[-1][1]], len(window)
        if first + MAX_TOKENS >= len(places):
            break


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    logging.disable(logging.ERROR)
    torch.set_num_threads(options.threads)
    model = SentenceTransformer(options.model, device="cpu")
    # The windows are those of the passages, with room for the special tokens.
    model.max_seq_length = MAX_TOKENS + 2
    tokenizer = model.tokenizer
    model.encode(["The first text pays for what is made once."])
    seconds = dict.fromkeys(["extraction", "chunking", "embedding", "storing"], 0.0)
    num_pages = num_passages = num_tokens = 0
    with tempfile.NamedTemporaryFile(suffix=".db") as file:
        database = sqlite3.connect(file.name)
        database.execute("CREATE TABLE passages (file TEXT, text TEXT, vector BLOB)")
        begun = time.perf_counter()
        for name in options.files:
            at = time.perf_counter()
            pages = pypdf.PdfReader(name).pages
            text = "\n\n".join(page.extract_text() for page in pages)
            num_pages += len(pages)
            extracted = time.perf_counter()
            cut = list(passages(text, tokenizer))
            chunked = time.perf_counter()
            vectors = model.encode([text for text, _ in cut], batch_size=options.batch_size, show_progress_bar=False)
            embedded = time.perf_counter()
            rows = [(name, text, vector.tobytes()) for (text, _), vector in zip(cut, vectors)]
            database.executemany("INSERT INTO passages VALUES (?, ?, ?)", rows)
            database.commit()
            stored = time.perf_counter()
            times = [at, extracted, chunked, embedded, stored]
            for stage, start, end in zip(seconds, times, times[1:]):
                seconds[stage] += end - start
            num_passages += len(cut)
            num_tokens += sum(tokens for _, tokens in cut)
        total = time.perf_counter() - begun
    print(json.dumps({"pages": num_pages, "passages": num_passages, "tokens": num_tokens, "seconds": total,
                      "stages": seconds}))


if __name__ == "__main__":
    main()
