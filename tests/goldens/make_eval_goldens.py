"""Writes eval_goldens.json: rankings, spans and differences with what other programs make of them. Their order of the same
data comes from a fixed seed.

    pip install pytrec_eval-terrier scipy numpy
    python make_eval_goldens.py > eval_goldens.json

Rankings are judged by trec_eval (through pytrec_eval), intervals and tests are scipy's, and coverage is counted by sets of
positions, as the evaluation of chunking by Smith and Troynikov does.
"""

import json
import random

import numpy
import pytrec_eval
from scipy import stats


def rankings(rng):
    cases = []
    for num_relevant, num_found in [(1, 3), (2, 12), (5, 30), (14, 30), (3, 0), (1, 32), (6, 8), (20, 25)]:
        pool = [f"d{i}" for i in range(32)]
        gains = {name: rng.choice([1, 1, 1, 2, 3]) for name in rng.sample(pool, num_relevant)}
        # Some judged as bearing on nothing.
        gains.update({name: 0 for name in rng.sample(pool, 4) if name not in gains})
        ranking = rng.sample(pool, num_found)
        for name in rng.sample(sorted(gains), min(2, len(gains))):
            if ranking and name not in ranking:
                ranking[rng.randrange(min(len(ranking), 10))] = name
        run = {"q": {name: float(len(ranking) - at) for at, name in enumerate(ranking)}}
        first = {"q": {name: float(10 - at) for at, name in enumerate(ranking[:10])}}
        judge = pytrec_eval.RelevanceEvaluator({"q": gains}, {"ndcg_cut.10", "recall.5,10", "recip_rank"})
        measured = judge.evaluate(run).get("q", {})
        cut = judge.evaluate(first).get("q", {})
        cases.append({
            "ranking": ranking, "gains": gains,
            "ndcg_10": measured.get("ndcg_cut_10", 0.0), "recall_5": measured.get("recall_5", 0.0),
            "recall_10": measured.get("recall_10", 0.0), "reciprocal_rank_10": cut.get("recip_rank", 0.0),
        })
    return cases


def coverages(rng):
    def pieces(num):
        made = []
        for _ in range(num):
            start = rng.randrange(180)
            made.append([rng.choice("ab"), start, start + rng.randrange(1, 60)])
        return made

    cases = []
    for num_passages, num_gold in [(1, 1), (5, 3), (4, 6), (0, 2), (8, 1)]:
        passages, gold = pieces(num_passages), pieces(num_gold)
        places = [{(name, at) for name, start, end in some for at in range(start, end)} for some in (passages, gold)]
        shared = len(places[0] & places[1])
        cases.append({
            "passages": passages, "gold": gold, "recall": shared / len(places[1]),
            "precision": shared / len(places[0]) if places[0] else 0.0,
        })
    return cases


def intervals(generator):
    cases = []
    for values in [generator.random(80), (generator.random(300) < 0.8).astype(float), generator.normal(0.05, 0.3, 150)]:
        interval = stats.bootstrap((values,), numpy.mean, n_resamples=20000, method="percentile", rng=generator)
        low, high = interval.confidence_interval
        cases.append({"values": [round(float(v), 6) for v in values], "mean": float(numpy.mean(values)),
                      "low": float(low), "high": float(high)})
    return cases


def tests(generator):
    cases = []
    for size, shift in [(5, 0.2), (12, 0.1), (40, 0.0), (60, 0.15), (200, 0.03)]:
        values = numpy.round(generator.normal(shift, 0.3, size), 3)
        values[:: 4] = 0.0
        result = stats.permutation_test((values, numpy.zeros(size)), lambda a, b, axis: numpy.mean(a - b, axis=axis),
                                        permutation_type="samples", vectorized=True, n_resamples=200000, rng=generator)
        cases.append({"differences": [float(v) for v in values], "p": float(result.pvalue), "is_exact": size <= 12})
    return cases


def main():
    rng, generator = random.Random(7), numpy.random.default_rng(7)
    print(json.dumps({"rankings": rankings(rng), "coverages": coverages(rng), "intervals": intervals(generator),
                      "tests": tests(generator)}))


if __name__ == "__main__":
    main()
