"""Measures faiss's HNSW on the vectors that `vector_search make FOLDER N` wrote, with the graph's parameters of
Inglenook, and prints JSON: python benches/peers/faiss_search.py FOLDER [EXPANSION]. Needs faiss-cpu and numpy."""

import json
import sys
import time

import faiss
import numpy

CONNECTIVITY = 16
EXPANSION_ADD = 128
LIMIT = 10


def main():
    folder = sys.argv[1]
    expansion = int(sys.argv[2]) if len(sys.argv) > 2 else 128
    faiss.omp_set_num_threads(1)
    vectors = numpy.fromfile(f"{folder}/vectors.f32", dtype=numpy.float32).reshape(-1, 384)
    queries = numpy.fromfile(f"{folder}/queries.f32", dtype=numpy.float32).reshape(-1, 384)
    # The last 30 of 130 are for later additions.
    num_documents = len(vectors) // 10
    vectors = vectors[: (num_documents - num_documents * 30 // 130) * 10]
    flat = faiss.IndexFlatIP(384)
    flat.add(vectors)
    _, best = flat.search(queries, LIMIT)
    index = faiss.IndexHNSWFlat(384, CONNECTIVITY, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = EXPANSION_ADD
    index.hnsw.efSearch = expansion
    start = time.perf_counter()
    index.add(vectors)
    build = time.perf_counter() - start
    times, found = [], []
    for _ in range(2):
        times.clear()
        found.clear()
        for query in queries:
            start = time.perf_counter()
            _, ids = index.search(query[None], LIMIT)
            times.append((time.perf_counter() - start) * 1000)
            found.append(ids[0])
    hits = sum(len(set(a) & set(b)) for a, b in zip(found, best))
    p50, p95, p99 = numpy.percentile(times, [50, 95, 99])
    print(json.dumps({
        "vectors": len(vectors),
        "build, s": round(build, 1),
        "recall": hits / best.size,
        "ms": {"p50": round(p50, 2), "p95": round(p95, 2), "p99": round(p99, 2)},
    }))


if __name__ == "__main__":
    main()
