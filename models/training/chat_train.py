"""Trains the chat model on packed token ids. Needs torch and numpy only, and uses a CUDA device where there is one.

    python chat_train.py --packs DIR --out DIR --plan full --minutes 90 [--threads 2]
    python chat_train.py --packs DIR --out DIR --plan full --tokens 1000000000          # on a GPU: a token budget

A plan is a list of stages, each with a share of the budget. A run that was broken off goes on from its checkpoint.
`--start FILE` begins from the weights of another run.
"""

import argparse
import dataclasses
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from chat_model import ChatModel, Sizes
from chat_wiring import wire

SAVE_EVERY_SECONDS = 180
LENGTH_STEP = 64
# Rate of embeddings and norms, as a share of the matrices'.
EMBEDDING_RATE = 0.3
# Weights of the loss, by the kind of token that examples.py names.
LOSS_WEIGHTS = torch.tensor([0.0, 0.1, 1.0, 3.0])
COPIED, DECIDING = 2, 3


@dataclasses.dataclass
class Stage:
    share: float
    packs: dict  # name of a pack -> share of the tokens
    rate: float
    is_wiring_frozen: bool


LOOKUP = {"lookup": 0.5, "conversation": 0.5}
DOCUMENTS = {"documents": 0.4, "lookup": 0.1, "conversation": 0.5}
PLANS = {
    "full": [
        Stage(0.2, LOOKUP, 1.5e-3, True),
        Stage(0.55, DOCUMENTS, 1.5e-3, True),
        Stage(0.25, DOCUMENTS, 3e-4, False),
    ],
    # For an hour or less on a CPU: straight to documents.
    "short": [Stage(0.8, DOCUMENTS, 1.5e-3, True), Stage(0.2, DOCUMENTS, 3e-4, False)],
    "conversation": [Stage(1.0, {"conversation": 1.0}, 2e-3, False)],
}


class Pack:
    """Rows of one kind, drawn in random order, in batches of rows of about the same length."""

    def __init__(self, path, batch_tokens, seed):
        data = np.load(path)
        self.ids, self.kinds = data["ids"].astype(np.int64), data["kinds"]
        self.branches, self.positions, self.starts = data["branches"], data["positions"], data["starts"]
        self.lengths = np.diff(self.starts)
        self.batch_tokens = batch_tokens
        self.rng = np.random.default_rng(seed)
        self.waiting = []

    def batch(self):
        if not self.waiting:
            self.waiting = self.shuffled()
        return self.filled(self.waiting.pop())

    def shuffled(self):
        order = self.rng.permutation(len(self.lengths))
        batches = []
        for part in np.array_split(order, max(1, len(order) // 4_096)):
            part = part[np.argsort(self.lengths[part], kind="stable")]
            while len(part):
                padded = lambda size: -(-int(self.lengths[part[-size]]) // LENGTH_STEP) * LENGTH_STEP
                num_rows = max(1, self.batch_tokens // padded(1))
                batches.append(part[-num_rows:])
                part = part[:-num_rows]
        return [batches[i] for i in self.rng.permutation(len(batches))]

    def filled(self, rows):
        length = -(-int(self.lengths[rows].max()) // LENGTH_STEP) * LENGTH_STEP
        out = {name: np.zeros((len(rows), length), np.int64) for name in ("ids", "kinds", "branches", "positions")}
        out["branches"][:] = -1
        for row, number in enumerate(rows):
            span = slice(self.starts[number], self.starts[number + 1])
            size = self.lengths[number]
            for name in out:
                out[name][row, :size] = getattr(self, name)[span]
        return {name: torch.from_numpy(values) for name, values in out.items()}


def visible(branches):
    """Who may look at whom: every token at itself and at what precedes it in its own branch or in the trunk (0)."""
    length = branches.shape[1]
    before = torch.ones(length, length, dtype=torch.bool, device=branches.device).tril()
    looks = (branches[:, None, :] == 0) | (branches[:, None, :] == branches[:, :, None])
    return (looks & before)[:, None]


def optimizers(model, device):
    matrices = [p for name, p in model.blocks.named_parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if not any(p is matrix for matrix in matrices)]
    return [
        torch.optim.Muon(matrices, lr=1.0, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=1.0, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


class Frozen:
    """Puts wired weights back after each step."""

    def __init__(self, model, masks):
        self.kept = [(p, masks[name], p.detach().clone()) for name, p in model.named_parameters() if name in masks]

    def restore(self):
        with torch.no_grad():
            for parameter, mask, first in self.kept:
                parameter.copy_(torch.where(mask, first, parameter))


class Training:
    def __init__(self, args):
        self.args = args
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.stages = PLANS[args.plan]
        torch.manual_seed(args.seed)
        names = sorted({name for stage in self.stages for name in stage.packs})
        self.packs = {name: Pack(args.packs / f"{name}.npz", args.batch, args.seed) for name in names}
        self.rng = np.random.default_rng(args.seed)
        self.model = ChatModel(Sizes())
        vocabulary = np.load(args.packs / "vocabulary.npz")
        wired = {}
        if not args.unwired:
            wired = wire(self.model, list(vocabulary["texts"]), vocabulary["rarity"], vocabulary["prompt"])
        if args.start:
            self.model.load_state_dict(torch.load(args.start, map_location="cpu")["model"])
        self.model.to(self.device)
        for block in self.model.blocks:
            block.compile(dynamic=True)
        self.optimizers = optimizers(self.model, self.device)
        self.seconds = self.tokens = self.steps = 0
        self.checkpoint = args.out / "checkpoint.pt"
        if self.checkpoint.exists():
            self.resume()
        self.frozen = Frozen(self.model, {name: mask.to(self.device) for name, mask in wired.items()})

    def resume(self):
        saved = torch.load(self.checkpoint, map_location=self.device)
        self.model.load_state_dict(saved["model"])
        for optimizer, state in zip(self.optimizers, saved["optimizers"]):
            optimizer.load_state_dict(state)
        self.seconds, self.tokens, self.steps = saved["spent"]
        print(f"goes on after {self.seconds / 60:.1f} minutes, {self.tokens / 1e6:.2f} M tokens", flush=True)

    def save(self):
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "spent": (self.seconds, self.tokens, self.steps),
        }
        torch.save(state, self.checkpoint.with_suffix(".new"))
        self.checkpoint.with_suffix(".new").replace(self.checkpoint)

    def progress(self):
        return self.tokens / self.args.tokens if self.args.tokens else self.seconds / (60 * self.args.minutes)

    def stage(self, progress):
        """The stage at hand and how much of it is over."""
        start = 0.0
        for stage in self.stages:
            if progress < start + stage.share:
                break
            start += stage.share
        return stage, min(1.0, (progress - start) / stage.share)

    def step(self, stage, part):
        shares = list(stage.packs.values())
        name = self.rng.choice(list(stage.packs), p=np.array(shares) / sum(shares))
        batch = {key: values.to(self.device) for key, values in self.packs[name].batch().items()}
        targets, kinds = batch["ids"].roll(-1, 1), batch["kinds"].roll(-1, 1)
        kinds[:, -1] = 0
        kinds[:, :-1] *= batch["branches"][:, 1:] == batch["branches"][:, :-1]
        counted = kinds > (1 if self.args.answers_only else 0)
        with torch.autocast(self.device, torch.bfloat16):
            hidden = self.model.hidden(batch["ids"], batch["positions"], visible(batch["branches"]))
            logits = self.model.logits(hidden[counted])
        losses = F.cross_entropy(logits.float(), targets[counted], reduction="none")
        kinds = kinds[counted]
        weights = LOSS_WEIGHTS.to(self.device)[kinds]
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        # Up over the first steps, down over the last stage's second half.
        is_last = stage is self.stages[-1]
        rate = stage.rate * min(1.0, (self.steps + 1) / 40) * (min(1.0, 0.05 + 2 * (1 - part)) if is_last else 1.0)
        for optimizer, factor in zip(self.optimizers, (1.0, EMBEDDING_RATE)):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if stage.is_wiring_frozen:
            self.frozen.restore()
        self.steps += 1
        self.tokens += int((batch["branches"] >= 0).sum())
        right = (logits.argmax(-1) == targets[counted]).float()
        mean = lambda kind: right[kinds == kind].mean().item() if (kinds == kind).any() else math.nan
        return name, loss.item(), mean(COPIED), mean(DECIDING)

    def run(self):
        self.args.out.mkdir(parents=True, exist_ok=True)
        began, saved = time.time() - self.seconds, time.time()
        recent = {}
        while (progress := self.progress()) < 1:
            stage, part = self.stage(progress)
            name, *figures = self.step(stage, part)
            self.seconds = time.time() - began
            before = recent.get(name, figures)
            recent[name] = [
                now if math.isnan(old) else old if math.isnan(now) else 0.95 * old + 0.05 * now
                for old, now in zip(before, figures)
            ]
            if self.steps % 20 == 0:
                self.report(recent)
            if time.time() - saved > SAVE_EVERY_SECONDS:
                self.save()
                saved = time.time()
        self.save()
        self.report(recent)

    def report(self, recent):
        """Running means of every pack: loss, share of copied tokens and of deciding tokens that were foreseen."""
        figures = "  ".join(
            f"{name} {loss:.3f} copied {copied:.3f} decided {decided:.3f}"
            for name, (loss, copied, decided) in recent.items()
        )
        print(f"{self.steps:6} {self.seconds / 60:6.1f} min {self.tokens / 1e6:7.2f} M  {figures}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plan", choices=PLANS, default="full")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--tokens", type=float, help="instead of --minutes")
    parser.add_argument("--batch", type=int, default=8_192, help="tokens a step")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unwired", action="store_true", help="start from random weights, to see what wiring is worth")
    parser.add_argument("--answers-only", action="store_true", help="leave the questions' own tokens out of the loss")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    Training(args).run()


if __name__ == "__main__":
    main()
