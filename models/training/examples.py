"""Packs what the chat model learns from into token ids, so that training needs no tokenizer.

    python examples.py conversation --corpus DIR --tokenizer DIR --out DIR --count 150000
    python examples.py lookup --corpus DIR --tokenizer DIR --out DIR --count 60000
    python examples.py documents --questions questions.jsonl --corpus DIR --tokenizer DIR --out DIR --count 60000

A pack holds rows of tokens. Each token has a kind: 0 is read only, 1 is read and foreseen at a low weight, 2 is
foreseen, 3 is foreseen and decides what follows. Tokens of branch 0 are seen by all that follow; those of branch n > 0
by their own branch only: questions about the same sources share them, and their positions.
"""

import argparse
import collections
import json
import random
import re
from array import array
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from chat_wiring import ASKING, stem
from conversation import OTHER, conversation, exchange
from prompt import ANSWER_NOT_FOUND, SYSTEM, question_prompt, sources, turn
from text import read_jsonl, sentences

READ, CONTEXT, ANSWER, DECIDING = range(4)
NUM_DECIDING = 3


class Rows:
    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.bracket = tokenizer.token_to_id("Ġ[")
        self.ids, self.positions, self.kinds, self.branches = array("h"), array("h"), array("b"), array("b")
        self.starts = [0]

    def add(self, segments):
        """`segments` are (text, kind, branch). A branch goes on where branch 0 ended."""
        at = {0: 0}
        for text, kind, branch in segments:
            ids = self.tokenizer.encode(text).ids
            kinds = [kind] * len(ids)
            if kind == ANSWER:
                kinds[:NUM_DECIDING] = [DECIDING] * min(NUM_DECIDING, len(ids))
                for at_bracket in (i for i, token in enumerate(ids[:-1]) if token == self.bracket):
                    kinds[at_bracket + 1] = DECIDING
            first = at.setdefault(branch, at[0])
            self.ids.extend(ids)
            self.kinds.extend(kinds)
            self.branches.extend([branch] * len(ids))
            self.positions.extend(range(first, first + len(ids)))
            at[branch] = first + len(ids)
        self.starts.append(len(self.ids))

    def save(self, path):
        np.savez_compressed(
            path,
            ids=np.array(self.ids, np.int16),
            kinds=np.array(self.kinds, np.int8),
            branches=np.array(self.branches, np.int8),
            positions=np.array(self.positions, np.int16),
            starts=np.array(self.starts, np.int64),
        )
        num_foreseen = sum(kind >= ANSWER for kind in self.kinds)
        print(path.name, len(self.starts) - 1, "rows", len(self.ids), "tokens", num_foreseen, "foreseen")


def turns(messages, branch=0):
    """Segments of a conversation: the assistant's part is foreseen, all else is read."""
    for role, text in messages:
        yield f"<|im_start|>{role}\n", READ, branch
        yield text + "<|im_end|>", ANSWER if role == "assistant" else CONTEXT, branch
        yield "\n", READ, branch


def pack_conversations(args, rows, rng):
    questions = [row["q"] for row in read_jsonl(args.corpus / "quest.jsonl")]
    paragraphs = read_jsonl(args.corpus / "paras.jsonl")[::7]
    lines = [s for row in paragraphs for s in sentences(row["text"])[:2] if len(s) < 300]
    for _ in range(args.count):
        rows.add(turns(conversation(rng, questions, lines)))


def file_name(title, rng):
    """What a document on this subject might be called."""
    name = re.sub(r"[^a-z0-9]+", rng.choice("-_ "), title.lower()).strip("-_ ")[:40] or "notes"
    if rng.random() < 0.25:
        name = rng.choice("notes report handbook draft chapter manual minutes paper".split())
        name += rng.choice(["", "-2", " 2024", "_final"])
    return (name.title() if rng.random() < 0.2 else name) + rng.choice([".pdf", ".pdf", ".txt", ".md", ".html"])


def laid_out(title, found, rng):
    """The sentences as a document has them: under a heading or not, in one paragraph or several."""
    text = found[0]
    for sentence in found[1:]:
        text += (" " if rng.random() < 0.9 else rng.choice(["\n", "\n\n"])) + sentence
    heading = rng.random()
    if heading < 0.2:
        return f"{title}\n\n{text}"
    return f"{rng.choice(['# ', '## ', ''])}{title}\n{text}" if heading < 0.3 else text


def page(rng):
    return rng.choice([1, 1, 2, 3, rng.randint(4, 300)])


def trunk(blocks, rng, before):
    """What all questions on `blocks` share."""
    system = SYSTEM
    if rng.random() < 0.1:
        system += "\n\n" + rng.choice(["Be concise.", "Answer in one sentence.", "Answer politely.", "Quote exactly."])
    yield turn("system", system), READ, 0
    yield from ((text, READ, branch) for text, _, branch in turns(before))
    yield f"<|im_start|>user\n{sources(blocks)}", READ, 0


def branch(number, question, answer):
    yield f"Question: {question}<|im_end|>\n<|im_start|>assistant\n", READ, number
    yield f"{answer}<|im_end|>", ANSWER, number


class Library:
    """Paragraphs as sentences, and talk: what questions and their sources are made of."""

    def __init__(self, corpus, rng):
        rows = read_jsonl(corpus / "paras.jsonl")
        rng.shuffle(rows)
        self.rng = rng
        self.rows = rows[:60_000]
        self.found = [sentences(row["text"]) for row in self.rows]
        self.places = [i for i, found in enumerate(self.found) if any(self.fits(s) for s in found)]
        self.talk = [row["q"] for row in read_jsonl(corpus / "quest.jsonl")], [found[0] for found in self.found[::9]]
        self.by_source = collections.defaultdict(list)
        for i in self.places:
            self.by_source[self.rows[i]["src"]].append(i)

    @staticmethod
    def fits(sentence):
        return 5 <= len(sentence.split()) <= 40 and sentence[-1] in ".!?" and sentence[0].isupper()

    def source(self, place, max_words):
        """Some sentences of a paragraph that stand together."""
        found = self.found[place]
        start = self.rng.randrange(len(found))
        chosen, words = [], 0
        for sentence in found[start:]:
            words += len(sentence.split())
            if chosen and words > max_words:
                break
            chosen.append(sentence)
        return chosen

    def sources(self, num_sources, max_words):
        """(name, page, title, sentences) of each source; some are about the same subject."""
        first = self.rng.choice(self.places)
        places = [first]
        while len(places) < num_sources:
            near = self.rng.random() < 0.5
            places.append(self.rng.choice(self.by_source[self.rows[first]["src"]] if near else self.places))
        return [
            (file_name(title, self.rng), page(self.rng), title, self.source(place, max_words))
            for place, title in ((place, self.rows[place]["title"]) for place in places)
        ]

    def earlier(self):
        """Now and then, what was said before."""
        return conversation(self.rng, *self.talk) if self.rng.random() < 0.08 else []


def keyword_question(sentence, rng):
    """Some words of `sentence`, in order, dressed as a question."""
    words = [word.strip(".,;:!?()\"'") for word in sentence.split()]
    words = [word for word in words if word]
    if rng.random() < 0.4:
        start = rng.randrange(max(1, len(words) - 3))
        kept = words[start : start + rng.randint(3, 9)]
    else:
        content = [i for i, word in enumerate(words) if len(word) > 3 and word.lower() not in ASKING]
        content = content or list(range(len(words)))
        chosen = rng.sample(content, min(len(content), rng.randint(2, 5)))
        kept = [word for i, word in enumerate(words) if i in chosen or (word.lower() in ASKING and rng.random() < 0.3)]
    text = " ".join(kept)
    text = text if rng.random() < 0.6 else text.lower()
    forms = (
        "What about {}?|What {}?|Which {}?|Who {}?|When did {}?|Where does {}?|How {}?|Why {}?|{}|{}?|What is {}?|"
        "what is said about {}|Tell me about {}.|Explain {}.|In what way {}?|What did {}?|How many {}?|what means {}"
    )
    return rng.choice(forms.split("|")).format(text)


def is_clear(question, sentence, others):
    """Whether `question` shares clearly more with `sentence` than with any other."""
    asked = content_stems(question)
    own = len(asked & content_stems(sentence))
    return own > 0 and all(len(asked & content_stems(other)) < own for other in others if other != sentence)


def content_stems(text):
    return {stem(word) for word in re.findall(r"\w+", text) if word.lower() not in ASKING}


def pack_lookup(args, rows, rng):
    library = Library(args.corpus, rng)
    for _ in range(args.count):
        size = rng.random()
        num_sources = rng.choice([1, 2, 3, 3, 3, 4])
        blocks = library.sources(num_sources, int(12 + size * args.max_words))
        everything = [s for *_, found in blocks for s in found]
        rows.add(lookup_row(library, blocks, everything, rng))


def lookup_row(library, blocks, everything, rng):
    shown = [(name, page, laid_out(title, found, rng)) for name, page, title, found in blocks]
    yield from trunk(shown, rng, library.earlier())
    number = 0
    for _ in range(8):
        place = rng.randrange(len(blocks))
        sentence = rng.choice(blocks[place][3])
        if not Library.fits(sentence):
            continue
        question = keyword_question(sentence, rng)
        if is_clear(question, sentence, everything):
            number += 1
            yield from branch(number, question, f"{sentence} [{place + 1}]")
        if number == 4:
            break
    for _ in range(rng.choice([1, 1, 2])):
        elsewhere = rng.choice(library.found[rng.choice(library.places)])
        question = keyword_question(elsewhere, rng)
        asked = content_stems(question)
        if asked and all(len(asked & content_stems(s)) <= 0.34 * len(asked) for s in everything):
            number += 1
            yield from branch(number, question, ANSWER_NOT_FOUND)
    if rng.random() < 0.5:
        question, answer = exchange(rng, *library.talk)
        yield from branch(number + 1, question, ANSWER_NOT_FOUND if answer == OTHER else answer)


def pack_documents(args, rows, rng):
    library = Library(args.corpus, rng)
    asked = read_jsonl(args.questions)
    for row in asked:
        row["found"] = sentences(row["text"])
    by_source = collections.defaultdict(list)
    for row in asked:
        by_source[row["src"]].append(row)
    for _ in range(args.count):
        first = rng.choice(asked)
        chosen = [first]
        num_sources = rng.choice([1, 2, 3, 3, 3, 4])
        while len(chosen) < num_sources:
            chosen.append(rng.choice(by_source[first["src"]] if rng.random() < 0.6 else asked))
        rng.shuffle(chosen)
        elsewhere = [rng.choice(by_source[first["src"]] if rng.random() < 0.6 else asked) for _ in range(4)]
        rows.add(documents_row(library, chosen, elsewhere, args.max_words, rng))


def window(row, max_words, rng):
    """Sentences that stand together, among them one that is asked about: (first sentence's number, sentences)."""
    start = end = rng.choice(row["asked"])[0]
    limit = rng.uniform(0.2, 1.0) * max_words
    size = lambda: sum(len(s.split()) for s in row["found"][start : end + 1])
    while size() < limit and (start > 0 or end + 1 < len(row["found"])):
        if start > 0 and (end + 1 == len(row["found"]) or rng.random() < 0.5):
            start -= 1
        elif end + 1 < len(row["found"]):
            end += 1
    return start, row["found"][start : end + 1]


def documents_row(library, chosen, elsewhere, max_words, rng):
    windows = [window(row, max_words, rng) for row in chosen]
    blocks = [
        (file_name(row["title"], rng), page(rng), laid_out(row["title"], found, rng))
        for row, (_, found) in zip(chosen, windows)
    ]
    everything = [sentence for _, found in windows for sentence in found]
    yield from trunk(blocks, rng, library.earlier())
    answerable = [
        (question, found[number - start], place)
        for place, (row, (start, found)) in enumerate(zip(chosen, windows), 1)
        for number, question in row["asked"]
        if start <= number < start + len(found)
    ]
    rng.shuffle(answerable)
    clear = [it for it in answerable if is_clear(it[0], it[1], everything)][:4]
    branches = [(question, f"{sentence} [{place}]") for question, sentence, place in clear]
    for row in elsewhere[:2]:
        question = rng.choice(row["asked"])[1]
        asked = content_stems(question)
        if asked and all(len(asked & content_stems(s)) <= 0.5 * len(asked) for s in everything):
            branches.append((question, ANSWER_NOT_FOUND))
    if rng.random() < 0.5:
        question, answer = exchange(rng, *library.talk)
        branches.append((question, ANSWER_NOT_FOUND if answer == OTHER else answer))
    for number, (question, answer) in enumerate(branches, 1):
        yield from branch(number, question, answer)


def pack_vocabulary(args, tokenizer):
    """What the wiring needs: every token's text and rarity, and one prompt from which it takes sizes."""
    texts = [tokenizer.decode([i], skip_special_tokens=False) for i in range(tokenizer.get_vocab_size())]
    rarity = json.loads((args.tokenizer / "rarity.json").read_text())
    rows = read_jsonl(args.corpus / "paras.jsonl")[:3]
    blocks = [("handbook.pdf", number, " ".join(sentences(row["text"])[:4])) for number, row in enumerate(rows, 1)]
    prompt = tokenizer.encode(question_prompt(blocks, "What do citizens do in a democracy?")).ids
    np.savez(args.out / "vocabulary.npz", texts=np.array(texts), rarity=np.array(rarity), prompt=np.array(prompt))


PACKS = {"conversation": pack_conversations, "lookup": pack_lookup, "documents": pack_documents}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pack", choices=PACKS)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--questions", type=Path, help="what questions.py made, for the pack of documents")
    parser.add_argument("--max-words", type=int, default=60, help="of a source")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(args.tokenizer / "tokenizer.json"))
    pack_vocabulary(args, tokenizer)
    rows = Rows(tokenizer)
    PACKS[args.pack](args, rows, random.Random(args.seed))
    rows.save(args.out / f"{args.pack}.npz")


if __name__ == "__main__":
    main()
