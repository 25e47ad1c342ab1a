"""Distils all-MiniLM-L6-v2 (Apache-2.0) into the bundled embedding model: fewer layers, a smaller vocabulary, same width.

The student starts as the teacher with layers and rare vocabulary rows left out, and learns to give the teacher's vectors:
the pooled embedding of every text, the similarities between texts of a batch, and (where both cut a text into the same
tokens) the last hidden state of every token. The teacher runs beside it, so no text is used twice before all were used.

    python embedder.py train --teacher DIR --corpus DIR --minutes 60 [--threads 1]   # resumes from its checkpoint
    python embedder.py export --teacher DIR --out ../bundled/embedder
    python embedder.py evaluate MODEL_DIR COLLECTION_DIR...                           # vectors alone, exact search
"""

import argparse
import collections
import json
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

from text import read_jsonl, sentences

WORK = Path("work/embedder")
LAYERS = [0, 2, 4, 5]
VOCABULARY = 20_000
MAX_TOKENS = 256
BATCH_TOKENS = 8_192


# ---- Texts ----


def texts(corpus, seed):
    """Passages, sentences, questions and keyword-like fragments, in the shares that documents and searches have."""
    rng = random.Random(seed)
    paragraphs = read_jsonl(corpus / "paras.jsonl")
    questions = [row["q"] for row in read_jsonl(corpus / "quest.jsonl")]
    glossary = read_jsonl(corpus / "gloss.jsonl")
    out = list(questions)
    for row in glossary:
        out += [row["term"], row["meaning"], rng.choice(["What is {}?", "what does {} mean", "define {}"]).format(row["term"])]
    for row in paragraphs:
        found = sentences(row["text"])
        start = rng.randrange(len(found))
        passage = " ".join(found[start : start + rng.randint(2, 7)])
        out.append(f"{row['title']} {passage}" if rng.random() < 0.4 else passage)
        out += [s for s in rng.sample(found, min(len(found), 2)) if len(s) > 20]
        words = rng.choice(found).rstrip(".!?").split()
        size = rng.randint(2, 9)
        if len(words) > size:
            at = rng.randrange(len(words) - size)
            fragment = " ".join(words[at : at + size])
            out.append(rng.choice(["{}", "{}?", "What is {}?", "how does {}", "why {}", "Who {}?", "When did {}?"]).format(fragment))
    rng.shuffle(out)
    return out


# ---- Models ----


def load(directory):
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return BertModel.from_pretrained(directory, add_pooling_layer=False, dtype=torch.float32).eval(), tokenizer


def keep_vocabulary(tokenizer, corpus, size):
    """Ids to keep: special tokens, single Latin characters, what the corpus uses, then BERT's order, which is by frequency."""
    counts = collections.Counter()
    rows = [row["text"] for row in read_jsonl(corpus / "paras.jsonl")]
    tokenizer.no_truncation()
    for encoding in tokenizer.encode_batch(rows[::2]):
        counts.update(encoding.ids)
    tokenizer.enable_truncation(MAX_TOKENS)
    vocabulary = tokenizer.get_vocab()
    kept = set()
    for token, index in vocabulary.items():
        bare = token.removeprefix("##")
        if token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") or (len(bare) == 1 and ord(bare) < 0x250):
            kept.add(index)
    usable = {i for t, i in vocabulary.items() if t.removeprefix("##").isascii() and not t.startswith("[unused")}
    for index, count in counts.most_common():
        if count >= 4 and index in usable and len(kept) < size * 3 // 4:
            kept.add(index)
    for index in sorted(usable):
        if len(kept) >= size:
            break
        kept.add(index)
    return sorted(kept)


def reduced_tokenizer(directory, kept):
    spec = json.loads((directory / "tokenizer.json").read_text())
    new = {old: i for i, old in enumerate(kept)}
    names = {i: t for t, i in spec["model"]["vocab"].items()}
    spec["model"]["vocab"] = {names[old]: i for old, i in new.items()}
    for added in spec["added_tokens"]:
        added["id"] = new[added["id"]]
    for special in spec["post_processor"].get("special_tokens", {}).values():
        special["ids"] = [new[i] for i in special["ids"]]
    for key in ("sep", "cls"):
        if key in spec["post_processor"]:
            token, old = spec["post_processor"][key]
            spec["post_processor"][key] = [token, new[old]]
    spec["padding"] = None
    spec["truncation"] = None
    return spec


def student_from(teacher, kept, layers):
    config = BertConfig.from_dict(teacher.config.to_dict())
    config.num_hidden_layers = len(layers)
    config.vocab_size = len(kept)
    config.pad_token_id = 0
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    # The fused attention of PyTorch is slow backwards on a CPU: half of the whole step.
    config._attn_implementation = "eager"
    student = BertModel(config, add_pooling_layer=False)
    student.embeddings.load_state_dict(
        {
            name: (value[kept] if name == "word_embeddings.weight" else value)
            for name, value in teacher.embeddings.state_dict().items()
        }
    )
    for target, source in zip(student.encoder.layer, layers):
        target.load_state_dict(teacher.encoder.layer[source].state_dict())
    return student


def hidden(model, rows, device):
    """Last hidden states, mask and unit mean-pooled vectors of token rows."""
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = 1
    ids, mask = ids.to(device), mask.to(device)
    with torch.autocast(device, torch.bfloat16):
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
    pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    return states, mask, F.normalize(pooled, dim=1)


# ---- Training ----


def batches(lengths, rng):
    order = sorted(range(len(lengths)), key=lambda i: lengths[i] + rng.random() * 8)
    out, at = [], 0
    while at < len(order):
        size = max(16, BATCH_TOKENS // lengths[order[min(at + 64, len(order) - 1)]])
        out.append(order[at : at + size])
        at += size
    rng.shuffle(out)
    return out


def train(args):
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    WORK.mkdir(parents=True, exist_ok=True)
    teacher, teacher_tokenizer = load(args.teacher)
    kept_file, tokenizer_file, checkpoint_file = WORK / "kept.json", WORK / "tokenizer.json", WORK / "checkpoint.pt"
    if not tokenizer_file.exists():
        kept = keep_vocabulary(teacher_tokenizer, args.corpus, VOCABULARY)
        tokenizer_file.write_text(json.dumps(reduced_tokenizer(args.teacher, kept), ensure_ascii=False))
        kept_file.write_text(json.dumps(kept))
    kept = json.loads(kept_file.read_text())
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.enable_truncation(MAX_TOKENS)
    student = student_from(teacher, kept, LAYERS).to(device).train()
    teacher.to(device)

    decayed = [p for p in student.parameters() if p.dim() == 2]
    others = [p for p in student.parameters() if p.dim() != 2]
    groups = [dict(params=decayed, weight_decay=0.01), dict(params=others, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.98), fused=True)
    done = dict(seconds=0.0, step=0, tokens=0, epoch=0)
    if checkpoint_file.exists():
        saved = torch.load(checkpoint_file, map_location=device)
        student.load_state_dict(saved["student"])
        optimizer.load_state_dict(saved["optimizer"])
        done = saved["done"]
    print("parameters", sum(p.numel() for p in student.parameters()), "device", device, "done", done, flush=True)

    kept_array = np.array(kept)
    queue, average, saved_at = [], None, time.time()
    while True:
        share = done["seconds"] / (args.minutes * 60)
        if share >= 1 or (args.steps and done["step"] >= args.steps):
            break
        begun = time.time()
        if not queue:
            pool = texts(args.corpus, done["epoch"])
            done["epoch"] += 1
            student_rows = [e.ids for e in tokenizer.encode_batch(pool)]
            teacher_rows = [e.ids for e in teacher_tokenizer.encode_batch(pool)]
            queue = batches([len(r) for r in student_rows], random.Random(done["epoch"]))
            print("epoch", done["epoch"], "texts", len(pool), "tokens", sum(map(len, student_rows)), flush=True)
        batch = queue.pop()
        with torch.no_grad():
            target_states, _, target = hidden(teacher, [teacher_rows[i] for i in batch], device)
        states, mask, vectors = hidden(student, [student_rows[i] for i in batch], device)
        same = [k for k, i in enumerate(batch) if kept_array[student_rows[i]].tolist() == teacher_rows[i]]
        cosine = 1 - (vectors * target).sum(1).mean()
        ours, theirs = vectors @ vectors.T, target @ target.T
        ranking = F.kl_div(F.log_softmax(ours * 20, 1), F.softmax(theirs * 20, 1), reduction="batchmean")
        width = min(states.shape[1], target_states.shape[1])
        picked = mask[same][:, :width, None]
        difference = (states[same][:, :width] - target_states[same][:, :width]) ** 2
        tokens_loss = (difference * picked).sum() / (picked.sum() * states.shape[2]).clamp(min=1)
        loss = 5 * cosine + 20 * ((ours - theirs) ** 2).mean() + ranking + args.token_weight * tokens_loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = args.rate * min(1, (done["step"] + 1) / 100) * max(0.02, min(1, (1 - share) / 0.7))
        optimizer.step()
        optimizer.zero_grad()
        done["step"] += 1
        done["tokens"] += sum(len(student_rows[i]) for i in batch)
        done["seconds"] += time.time() - begun
        average = cosine.item() if average is None else 0.97 * average + 0.03 * cosine.item()
        if done["step"] % 25 == 0:
            rate = done["tokens"] / done["seconds"]
            print(
                f"step {done['step']} seconds {done['seconds']:.0f} tokens {done['tokens'] / 1e6:.2f}M ({rate:.0f}/s) "
                f"1-cos {average:.4f} ranking {ranking.item():.4f} token {tokens_loss.item():.4f} same {len(same) / len(batch):.2f}",
                flush=True,
            )
        if time.time() - saved_at > 300:
            save(checkpoint_file, student, optimizer, done)
            saved_at = time.time()
    save(checkpoint_file, student, optimizer, done)


def save(path, student, optimizer, done):
    part = path.with_suffix(".part")
    torch.save(dict(student=student.state_dict(), optimizer=optimizer.state_dict(), done=done), part)
    part.replace(path)


def export(args):
    teacher, _ = load(args.teacher)
    kept = json.loads((WORK / "kept.json").read_text())
    student = student_from(teacher, kept, LAYERS)
    student.load_state_dict(torch.load(WORK / "checkpoint.pt", map_location="cpu")["student"])
    args.out.mkdir(parents=True, exist_ok=True)
    student.half().save_pretrained(args.out)
    (args.out / "tokenizer.json").write_text((WORK / "tokenizer.json").read_text())
    kind = "sentence_transformers.models."
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    write_json(
        args.out / "modules.json",
        [dict(idx=i, name=str(i), path=path, type=kind + name) for i, (path, name) in enumerate(modules)],
    )
    pooling = dict(word_embedding_dimension=student.config.hidden_size, pooling_mode_mean_tokens=True)
    write_json(args.out / "1_Pooling/config.json", pooling)
    write_json(args.out / "sentence_bert_config.json", dict(max_seq_length=MAX_TOKENS))


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


# ---- Evaluation ----


def embed(model, tokenizer, rows, size=64):
    encoded = [e.ids for e in tokenizer.encode_batch(rows)]
    order = sorted(range(len(rows)), key=lambda i: len(encoded[i]))
    out = np.zeros((len(rows), model.config.hidden_size), np.float32)
    device = next(model.parameters()).device.type
    with torch.no_grad():
        for at in range(0, len(order), size):
            batch = order[at : at + size]
            out[batch] = hidden(model, [encoded[i] for i in batch], device)[2].cpu().numpy()
    return out


def ndcg10(ranked, relevant):
    gain = lambda grades: sum(g / np.log2(i + 2) for i, g in enumerate(grades))
    got = gain([relevant.get(d, 0) for d in ranked[:10]])
    return got / gain(sorted(relevant.values(), reverse=True)[:10])


def evaluate(args):
    torch.set_num_threads(args.threads)
    model, tokenizer = load(args.model)
    for directory in args.collections:
        documents = read_jsonl(directory / "corpus.jsonl.gz")
        queries = read_jsonl(directory / "queries.jsonl.gz")
        relevant = collections.defaultdict(dict)
        for line in (directory / "qrels.tsv").read_text().splitlines()[1:]:
            query, document, grade = line.split("\t")
            if int(grade) > 0:
                relevant[query][document] = int(grade)
        names = [d["_id"] for d in documents]
        vectors = embed(model, tokenizer, [f"{d.get('title', '')} {d['text']}".strip() for d in documents])
        queries = [q for q in queries if q["_id"] in relevant]
        scores = embed(model, tokenizer, [q["text"] for q in queries]) @ vectors.T
        values = []
        for query, row in zip(queries, scores):
            ranked = [names[i] for i in np.argsort(-row, kind="stable")[:10]]
            values.append(ndcg10(ranked, relevant[query["_id"]]))
        print(directory.name, "queries", len(values), "nDCG@10", round(float(np.mean(values)), 4), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.add_argument("--teacher", type=Path, required=True)
    training.add_argument("--corpus", type=Path, required=True)
    training.add_argument("--minutes", type=float, default=60)
    training.add_argument("--steps", type=int, default=0)
    training.add_argument("--threads", type=int, default=1)
    training.add_argument("--rate", type=float, default=4e-4)
    training.add_argument("--token-weight", type=float, default=1.0)
    training.set_defaults(run=train)
    exporting = commands.add_parser("export")
    exporting.add_argument("--teacher", type=Path, required=True)
    exporting.add_argument("--out", type=Path, required=True)
    exporting.set_defaults(run=export)
    evaluating = commands.add_parser("evaluate")
    evaluating.add_argument("model", type=Path)
    evaluating.add_argument("collections", type=Path, nargs="+")
    evaluating.add_argument("--threads", type=int, default=1)
    evaluating.set_defaults(run=evaluate)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
