"""Measures how well the chat model answers from documents, beside choosing the sentence that shares most words.

    python chat_evaluate.py CHECKPOINT COLLECTION_DIR --tokenizer DIR [--count 200] [--show 5]

A collection has corpus.jsonl.gz, queries.jsonl.gz with the words of the answers, and qrels.tsv. Each question is asked
twice: with its passage among two others that BM25 ranks highest, and with that passage replaced by a third. Reported:
    span       the answer's sentence contains the right words
    source     it names the right source, as [n]
    verbatim   of what was answered, the share whose sentence stands so in the source that it names
    declined   "could not find" when the passage is there (wrong) and when it is not (right)
"""

import argparse
import collections
import json
import math
import random
import re
from pathlib import Path

import torch
from tokenizers import Tokenizer

from chat_model import ChatModel, Sizes
from prompt import question_prompt
from text import read_jsonl, sentences

K1, B = 0.9, 0.4


def words(text):
    return re.findall(r"[a-z0-9]+", text.lower())


def normal(text):
    for fancy, plain in ("’'", "‘'", '“"', '”"'):
        text = text.replace(fancy, plain)
    return re.sub(r"\s+", " ", text).strip()


class Collection:
    def __init__(self, directory):
        self.texts = {row["_id"]: normal(row["text"]) for row in read_jsonl(directory / "corpus.jsonl.gz")}
        self.queries = read_jsonl(directory / "queries.jsonl.gz")
        rows = [line.split("\t") for line in (directory / "qrels.tsv").read_text().splitlines()[1:]]
        self.gold = {query: passage for query, passage, score in rows if int(score) > 0}
        self.counts = {i: collections.Counter(words(text)) for i, text in self.texts.items()}
        self.num_with = collections.Counter(word for counts in self.counts.values() for word in counts)
        self.mean_length = sum(sum(counts.values()) for counts in self.counts.values()) / len(self.counts)

    def idf(self, word):
        return math.log(1 + (len(self.texts) - self.num_with[word] + 0.5) / (self.num_with[word] + 0.5))

    def bm25(self, query, passage):
        counts = self.counts[passage]
        even = K1 * (1 - B + B * sum(counts.values()) / self.mean_length)
        return sum(self.idf(w) * counts[w] * (K1 + 1) / (counts[w] + even) for w in words(query) if counts[w])

    def distractors(self, query, gold, count):
        others = [passage for passage in self.texts if passage != gold]
        return sorted(others, key=lambda passage: -self.bm25(query, passage))[:count]

    def best_sentence(self, query, passages, weight):
        """(place of the source from 0, sentence) that shares most with the query."""
        asked = set(words(query))
        found = [(place, s) for place, passage in enumerate(passages) for s in sentences(self.texts[passage])]
        return max(found, key=lambda it: (sum(map(weight, asked & set(words(it[1])))), -len(it[1])))


class Answerer:
    def __init__(self, checkpoint, tokenizer):
        self.model = ChatModel(Sizes()).eval()
        self.model.load_state_dict(torch.load(checkpoint, map_location="cpu")["model"])
        self.tokenizer = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
        self.end = self.tokenizer.token_to_id("<|im_end|>")

    def answer(self, texts, query):
        blocks = [(f"passage-{number}.txt", 1, text) for number, text in enumerate(texts, 1)]
        ids = self.tokenizer.encode(question_prompt(blocks, query)).ids
        return self.tokenizer.decode(self.model.answer(ids, self.end, max_tokens=110)).strip()


def judged(answer, passages, texts, gold, spans):
    """What is true of one answer, as a Counter."""
    cited = re.search(r"\s*\[(\d+)\]\s*$", answer)
    said = answer[: cited.start()] if cited else answer
    place = int(cited.group(1)) - 1 if cited else -1
    is_declined = "could not find" in answer
    return collections.Counter(
        span=any(span in said.lower() for span in spans),
        source=0 <= place < len(passages) and passages[place] == gold,
        declined=is_declined,
        answered=not is_declined,
        verbatim=not is_declined and 0 <= place < len(passages) and said in texts[place],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--show", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rng = random.Random(0)
    collection = Collection(args.collection)
    answerer = Answerer(args.checkpoint, args.tokenizer)
    queries = rng.sample(collection.queries, min(args.count, len(collection.queries)))
    totals = collections.Counter()
    for query in queries:
        gold, asked = collection.gold[query["_id"]], query["text"]
        spans = [normal(answer["text"]).lower() for answer in query["answers"]]
        others = collection.distractors(asked, gold, 3)
        passages = [gold, *others[:2]]
        rng.shuffle(passages)
        for name, weight in (("words", lambda word: 1), ("idf", collection.idf)):
            place, sentence = collection.best_sentence(asked, passages, weight)
            totals[name, "span"] += any(span in sentence.lower() for span in spans)
            totals[name, "source"] += passages[place] == gold
        texts = [collection.texts[passage] for passage in passages]
        answer = answerer.answer(texts, asked)
        verdict = judged(answer, passages, texts, gold, spans)
        totals.update({("model", name): value for name, value in verdict.items()})
        replaced = [collection.texts[others[2] if passage == gold else passage] for passage in passages]
        totals["model", "declined without the passage"] += "could not find" in answerer.answer(replaced, asked)
        if args.show > 0:
            args.show -= 1
            print(f"{asked}\n   gold: {spans[0]}\n   said: {answer}")
    num = len(queries)
    for name in ("words", "idf", "model"):
        print(f"{name:6} span {totals[name, 'span'] / num:.1%}  source {totals[name, 'source'] / num:.1%}")
    answered = max(1, totals["model", "answered"])
    print(
        f"model  verbatim {totals['model', 'verbatim'] / answered:.1%} of {answered} answered, "
        f"declined {totals['model', 'declined'] / num:.1%} with the passage, "
        f"{totals['model', 'declined without the passage'] / num:.1%} without it; {num} questions"
    )


if __name__ == "__main__":
    main()
