"""Makes the chat model's tokenizer: byte-level BPE with 8,192 tokens, words cut as Qwen2 does, with ChatML's marks.

Learns from the corpus, from the conversations and from the frame of the product's own prompt, so that the frame costs
few tokens. Beside it goes how often each token occurs, from which the model knows at the start what is a rare word.

    python chat_tokenizer.py --corpus DIR --out DIR
"""

import argparse
import collections
import json
import math
import random
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from conversation import conversation
from prompt import ANSWER_NOT_FOUND, SYSTEM, source_block
from text import read_jsonl, sentences

VOCABULARY = 8_192
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
# The rule that GGUF files call "qwen2".
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def learning_texts(corpus, seed=0):
    rng = random.Random(seed)
    questions = [row["q"] for row in read_jsonl(corpus / "quest.jsonl")]
    for row in read_jsonl(corpus / "paras.jsonl"):
        if row["src"].startswith("openstax") or rng.random() < 0.4:
            yield row["text"]
            if rng.random() < 0.15:
                yield row["text"].lower()
    for question in questions:
        yield " " + question
    lines = [sentences(row["text"])[0] for row in read_jsonl(corpus / "paras.jsonl")[::50]]
    for _ in range(20_000):
        for _, text in conversation(rng, questions, lines):
            yield text
    for number in range(20_000):
        name = rng.choice(questions).split(" ")[-1].strip("?").lower() + rng.choice([".pdf", ".txt", ".md", ".html"])
        block = source_block(rng.randint(1, 9), name, rng.randint(1, 99), "The\n")
        frame = SYSTEM if number % 20 == 0 else ""
        yield f"{frame}{block}Question: What [1]. {ANSWER_NOT_FOUND}\nuser\nassistant\nsystem"


def trained(texts):
    tokenizer = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(QWEN2), "isolated")
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([words, letters])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=5,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def rarity(tokenizer, texts):
    """For each token the logarithm of (texts / texts that have it), as inverse document frequency is computed."""
    counts = collections.Counter()
    for encoding in tokenizer.encode_batch(texts):
        counts.update(set(encoding.ids))
    return [round(math.log((len(texts) + 1) / (counts[i] + 1)), 4) for i in range(tokenizer.get_vocab_size())]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    tokenizer = trained(learning_texts(args.corpus))
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(args.out / "tokenizer.json"))
    sample = [row["text"] for row in read_jsonl(args.corpus / "paras.jsonl")[::8]]
    (args.out / "rarity.json").write_text(json.dumps(rarity(tokenizer, sample)))
    num_words = sum(len(text.split()) for text in sample)
    num_tokens = sum(len(encoding.ids) for encoding in tokenizer.encode_batch(sample))
    print("vocabulary", tokenizer.get_vocab_size(), "tokens a word", round(num_tokens / num_words, 3))


if __name__ == "__main__":
    main()
