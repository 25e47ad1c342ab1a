"""Sets the chat model's first weights by hand, so that it can find and copy a sentence before any training.

A few million tokens do not teach a model to copy, but the mechanism is known (induction heads: Olsson et al. 2022,
arXiv:2209.11895), and so is word overlap. Residual dimensions are given out in parts, and each head one job:

    layer 0  the three tokens before this one                                        -> TRAIL
             and whether a sentence begins here                                      -> START
             (feed-forward: is this the number in `<source number="1"`, does an answer begin here?)
    layer 1  the last end of a sentence: its TRAIL names the sentence that follows   -> SENTENCE
             the last source number, `Question` or ChatML mark                       -> SOURCE and flags of the zone
    layer 2  a word of the question looks for the same word in the sources           -> VOTE: that sentence and source
    layer 3  the answer gathers the votes of the question's words, rare words first  -> VOTE
    layer 4  copies the token after the same TRAIL, in the sentence with most votes  -> CONTENT, as are all outputs
             (where an answer begins, a START instead of a TRAIL)
             after ` [`: the number of the source with most votes                    -> CONTENT

All other weights start small and random. Training keeps what helps and learns the rest: words that mean the same, when
to stop, when to decline, and conversation.
"""

import math
import re

import numpy as np
import torch
import torch.nn.functional as F

CONTENT = slice(0, 96)
FLAGS = 96
TRAIL = slice(112, 160)
SENTENCE = slice(160, 208)
VOTE = slice(208, 256)
SOURCE = slice(256, 272)

(
    ONE,
    RARITY,
    MARK,
    QUESTION,
    TURN_END,
    BRACKET,
    BOUNDARY,
    NUMBER,
    IN_SOURCE,
    IN_QUESTION,
    IN_OTHER,
    FOUND,
    START,
    ANSWER,
) = range(FLAGS, FLAGS + 14)

BOUNDARY_TOKEN = re.compile(r'[^\s\w]?[.!?]["\')\]]*\n*|">\n|\n+')
# Words of questions that say nothing of what is asked about, though documents seldom have them.
ASKING = set(
    "what which who whom whose when where why how do does did is are was were can could should would will has have had "
    "tell me about explain describe define name list give many much many much i you we us my your please there it its "
    "of the a an in on at to for with by from and or as that this these those be been if not mean means".split()
)
# How much each comparison counts in its softmax.
SAME_WORD = 30.0
VOTE_ZONE, VOTE_SINK = 50.0, 45.0
GATHER_ZONE, GATHER_RARITY, GATHER_FOUND = 50.0, 30.0, 10.0
COPY_TRAIL, COPY_VOTE, COPY_ZONE, COPY_SINK = 55.0, 65.0, 20.0, 12.0
COPY_SIZE, COPY_START = 5.0, 30.0
TRAIL_SIZE = 0.35
TRAIL_DIMS = 48
TRAIL_WEIGHTS = (1.0, 0.9, 0.8)


def stem(text):
    """What different forms of a word have in common, roughly."""
    word = text.strip().lower()
    if len(word) > 4:
        word = re.sub(r"(ing|edly|ed|es|s|ly|ally|al|ation|ion|ment|er|e)$", "", word)
    return word


def embeddings(texts, rarity, hidden, rng):
    """First token embeddings: directions for the word, for its stem and for the space before it, then the flags."""
    unit = lambda: (lambda v: v / np.linalg.norm(v))(rng.standard_normal(96))
    directions, table = {}, np.zeros((len(texts), hidden), np.float32)
    direction = lambda name: directions.setdefault(name, unit())
    for i, text in enumerate(texts):
        if BOUNDARY_TOKEN.fullmatch(text):
            vector = 0.35 * unit() + 0.94 * direction("boundary")
            table[i, BOUNDARY] = 1.0
        else:
            word = text.strip() or text
            vector = 0.6 * direction(("word", word)) + 0.8 * direction(("stem", stem(word)))
            vector += direction("space") * (0.3 if text.startswith(" ") else -0.3)
        table[i, CONTENT] = vector / np.linalg.norm(vector)
    table[:, ONE] = 1.0
    index = {text: i for i, text in enumerate(texts)}
    table[index["<|im_start|>"], MARK] = 1.0
    table[index["<|im_end|>"], TURN_END] = 1.0
    table[index["Question"], QUESTION] = 1.0
    table[index[" ["], BRACKET] = 1.0
    is_word = np.array([bool(re.search(r"\w", text)) and not text.startswith("<|") for text in texts])
    is_word[index["Question"]] = False
    for text, i in index.items():
        if text.strip().lower() in ASKING:
            is_word[i] = False
    # What the question's words weigh: the logarithm of their rarity, for it goes into a softmax.
    table[:, RARITY] = np.where(is_word, np.log(np.clip(rarity, 0.02, 9.0) / 4.0), -4.0) / 12
    return torch.from_numpy(table)


def orthonormal(rows, columns, generator):
    """`rows` x `columns` with orthonormal rows or columns, whichever are fewer."""
    wide = torch.linalg.qr(torch.randn(max(rows, columns), min(rows, columns), generator=generator))[0]
    return wide if rows >= columns else wide.T


class Wiring:
    def __init__(self, model, texts, rarity, seed=0):
        self.model, self.sizes = model, model.sizes
        self.index = {text: i for i, text in enumerate(texts)}
        self.generator = torch.Generator().manual_seed(seed)
        self.masks = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in model.named_parameters()}
        self.table = embeddings(texts, np.array(rarity), self.sizes.hidden, np.random.default_rng(seed))
        half = self.sizes.head // 2
        rotated = self.sizes.rotated_pairs
        self.rotated_dims = list(range(rotated)) + list(range(half, half + rotated))
        free = list(range(rotated, half)) + list(range(half + rotated, self.sizes.head))
        self.bias_dims, self.content_dims = free[:2], free[2:]
        # Signature of a token in the trail, and the turn that tells the places in the trail apart.
        self.signature = orthonormal(48, 96, self.generator) * math.sqrt(96 / 48)
        self.turn = orthonormal(48, 48, self.generator)
        self.sentence_code = orthonormal(48, 48, self.generator)
        self.source_code = orthonormal(48, 16, self.generator)

    def matrix(self):
        return torch.zeros(self.sizes.head, self.sizes.hidden)

    def basis(self, reach=2_048):
        distance = torch.arange(reach).double()
        angles = distance[:, None] * self.sizes.frequencies()[: self.sizes.rotated_pairs].double()
        return distance, torch.cat([angles.cos(), angles.sin()], 1)

    def halved(self, coefficients):
        """Query and key numbers on the rotated pairs whose product at a distance is `coefficients` times the basis."""
        cosines, sines = coefficients.float().chunk(2)
        scale = torch.sqrt(cosines**2 + sines**2).sqrt().clamp(min=1e-6)
        return torch.cat([cosines, -sines]) / scale.repeat(2), torch.cat([scale, torch.zeros_like(scale)])

    def exactly(self, back, margin=11.0):
        """Looks `back` tokens back and nowhere else: all other distances together stay `margin` below."""
        distance, basis = self.basis()
        coefficients = torch.zeros(basis.shape[1], dtype=torch.double, requires_grad=True)
        optimizer = torch.optim.LBFGS([coefficients], max_iter=300, line_search_fn="strong_wolfe")

        def loss():
            optimizer.zero_grad()
            scores = basis @ coefficients
            above = torch.logsumexp(scores[distance != back], 0) - scores[back]
            value = F.softplus(above + margin) + 1e-3 * (coefficients**2).sum()
            value.backward()
            return value

        optimizer.step(loss)
        return self.halved(coefficients.detach())

    def recently(self):
        """The nearer, the more: -14 log(1 + distance / 8), by least squares."""
        distance, basis = self.basis()
        weight = (1 / (1 + distance / 20))[:, None].sqrt()
        target = -14 * torch.log1p(distance / 8)[:, None]
        left = (basis * weight).T @ (basis * weight) + 0.03 * torch.eye(basis.shape[1])
        return self.halved(torch.linalg.solve(left, (basis * weight).T @ (target * weight))[:, 0])

    def put(self, layer, head, queries, keys, values, output):
        """Queries and keys come scaled for a plain dot product of unit-sized residuals."""
        block = self.model.blocks[layer]
        rows = slice(head * self.sizes.head, (head + 1) * self.sizes.head)
        even = self.sizes.head**0.25 / self.scale
        block.queries.weight.data[rows] = queries * even
        block.keys.weight.data[rows] = keys * even
        block.values.weight.data[rows] = values / self.scale
        block.output.weight.data[:, rows] = output
        for name in ("queries", "keys", "values"):
            self.masks[f"blocks.{layer}.{name}.weight"][rows] = True
        self.masks[f"blocks.{layer}.output.weight"][:, rows] = True

    def run(self, layers, sample):
        """Residuals of `sample` after the first `layers`."""
        with torch.no_grad():
            return self.model.residuals(sample, torch.arange(sample.shape[1])[None], num_layers=layers)

    def measure(self, layer, sample):
        """What the norm in front of `layer` multiplies by, on average."""
        self.scale = (1 / self.run(layer, sample).pow(2).mean(-1).sqrt()).mean().item()

    def wire(self, sample):
        model, sizes = self.model, self.sizes
        for block in model.blocks:
            for name, weight in block.named_parameters():
                if weight.dim() == 2:
                    # What is not wired says nothing at first: noise in the residuals would drown what is.
                    size = 0.0 if name.startswith(("output", "down")) else 0.6 / math.sqrt(weight.shape[1])
                    weight.data = torch.randn(weight.shape, generator=self.generator) * size
        model.embedding.weight.data.copy_(self.table)
        model.norm.weight.data.zero_()
        model.norm.weight.data[CONTENT] = 1.5
        jobs = [self.trail, self.places, self.votes, self.gather, self.copy]
        for layer, job in enumerate(jobs):
            self.measure(layer, sample)
            job(layer, sample) if job == self.copy else job(layer)
            if layer == 0:
                # The flags are made exactly 1; the sample has three sources and ends where an answer begins.
                for unit, flag, count in ((0, NUMBER, 3), (1, ANSWER, 1)):
                    found = self.run(1, sample)[0, :, flag].topk(count).values
                    self.model.blocks[0].down.weight.data[flag, unit] /= found.mean()
        self.masks["embedding.weight"][:, CONTENT.stop :] = True
        return {name: mask for name, mask in self.masks.items() if mask.any()}

    def by_distance(self, numbers):
        """Queries and keys that look at distances only."""
        queries, keys = self.matrix(), self.matrix()
        queries[self.rotated_dims, ONE], keys[self.rotated_dims, ONE] = numbers
        return queries, keys

    def trail(self, layer):
        for back in (1, 2, 3):
            queries, keys = self.by_distance(self.exactly(back))
            values = self.matrix()
            values[:96, CONTENT] = torch.eye(96)
            output = torch.zeros(self.sizes.hidden, self.sizes.head)
            turned = torch.linalg.matrix_power(self.turn, back) @ self.signature
            output[TRAIL, :96] = turned * TRAIL_SIZE * TRAIL_WEIGHTS[back - 1]
            if back == 1:
                values[96, BOUNDARY] = 1
                output[START, 96] = 1
            self.put(layer, back - 1, queries, keys, values, output)
        self.after(layer, 0, NUMBER, (" number", '="'))
        self.after(layer, 1, ANSWER, ("<|im_start|>", "assistant"))

    def after(self, layer, unit, flag, texts):
        """One unit of the feed-forward: `flag` is on after the two tokens `texts`, and nowhere else."""
        block = self.model.blocks[layer]
        turned = lambda back: torch.linalg.matrix_power(self.turn, back) @ self.signature
        pattern = turned(2) @ self.table[self.index[texts[0]], CONTENT]
        pattern = (pattern + turned(1) @ self.table[self.index[texts[1]], CONTENT]) * TRAIL_SIZE
        scale = self.scale * 0.95
        for weight in (block.gate.weight, block.up.weight):
            weight.data[unit] = 0
        block.gate.weight.data[unit, TRAIL] = pattern / (pattern @ pattern) * 40 / scale
        block.gate.weight.data[unit, ONE] = -0.7 * 40 / scale
        block.up.weight.data[unit, ONE] = 1 / scale
        block.down.weight.data[:, unit] = 0
        block.down.weight.data[flag, unit] = 1 / 9
        for name in ("gate", "up"):
            self.masks[f"blocks.{layer}.{name}.weight"][unit] = True
        self.masks[f"blocks.{layer}.down.weight"][:, unit] = True

    def places(self, layer):
        recent = self.recently()
        queries, keys = self.by_distance(recent)
        queries[self.bias_dims[0], ONE] = 1
        keys[self.bias_dims[0], BOUNDARY] = 90
        values = self.matrix()
        values[:48, TRAIL] = torch.eye(48)
        output = torch.zeros(self.sizes.hidden, self.sizes.head)
        output[SENTENCE, :48] = self.sentence_code * 0.8
        self.put(layer, 0, queries, keys, values, output)

        queries, keys = self.by_distance(recent)
        queries[self.bias_dims[0], ONE] = 1
        for flag in (NUMBER, MARK, QUESTION, TURN_END):
            keys[self.bias_dims[0], flag] = 90
        values = self.matrix()
        digits = self.table[[self.index[str(number)] for number in range(10)], CONTENT]
        self.digit_codes = orthonormal(10, 16, self.generator)
        values[:16, CONTENT] = self.digit_codes.T @ torch.linalg.pinv(digits.T)
        # Marks stand for no source.
        for flag, text in ((MARK, "<|im_start|>"), (TURN_END, "<|im_end|>"), (QUESTION, "Question")):
            values[:16, flag] = -values[:16, CONTENT] @ self.table[self.index[text], CONTENT]
        zones = ((NUMBER, IN_SOURCE), (QUESTION, IN_QUESTION), (MARK, IN_OTHER), (TURN_END, IN_OTHER))
        output = torch.zeros(self.sizes.hidden, self.sizes.head)
        output[SOURCE, :16] = torch.eye(16) * 0.3
        for number, (flag, zone) in enumerate(zones):
            values[16 + number, flag] = 1
            output[zone, 16 + number] = 0.5
        self.put(layer, 1, queries, keys, values, output)

    def code(self):
        """A sentence's name in 48 numbers, of about unit size."""
        code = torch.zeros(48, self.sizes.hidden)
        code[:, SENTENCE] = torch.eye(48) * 1.6
        code[:, SOURCE] = self.source_code * 2.0
        return code

    def votes(self, layer):
        same = orthonormal(len(self.content_dims), 96, self.generator) * math.sqrt(96 / len(self.content_dims))
        queries, keys = self.matrix(), self.matrix()
        queries[self.content_dims, CONTENT] = same * math.sqrt(SAME_WORD)
        keys[self.content_dims, CONTENT] = same * math.sqrt(SAME_WORD)
        queries[self.bias_dims[0], ONE] = 1
        keys[self.bias_dims[0], IN_SOURCE] = VOTE_ZONE
        keys[self.bias_dims[0], MARK] = VOTE_SINK
        values = self.matrix()
        values[:48] = self.code()
        values[48, IN_SOURCE] = 2
        output = torch.zeros(self.sizes.hidden, self.sizes.head)
        output[VOTE, :48] = torch.eye(48) * 0.6
        output[FOUND, 48] = 0.6
        self.put(layer, 0, queries, keys, values, output)

    def gather(self, layer):
        queries, keys = self.matrix(), self.matrix()
        queries[self.bias_dims[0], ONE] = 1
        keys[self.bias_dims[0], IN_QUESTION] = GATHER_ZONE
        keys[self.bias_dims[0], RARITY] = GATHER_RARITY
        keys[self.bias_dims[0], FOUND] = GATHER_FOUND
        values = self.matrix()
        values[:48, VOTE] = torch.eye(48)
        values[48, FOUND] = 1
        output = torch.zeros(self.sizes.hidden, self.sizes.head)
        output[VOTE, :48] = torch.eye(48)
        output[FOUND, 48] = 1
        self.put(layer, 0, queries, keys, values, output)
        # The answer's own tokens voted as well; what they said is taken out again.
        queries, keys = self.by_distance(self.exactly(0))
        self.put(layer, 1, queries, keys, values, -output)

    def copy(self, layer, sample):
        size = len(self.content_dims)
        by_trail, by_vote = torch.zeros(size, 48), torch.zeros(size, 48)
        by_trail[:TRAIL_DIMS] = orthonormal(TRAIL_DIMS, 48, self.generator) * math.sqrt(48 / TRAIL_DIMS)
        by_vote[TRAIL_DIMS:] = orthonormal(size - TRAIL_DIMS, 48, self.generator) * math.sqrt(48 / (size - TRAIL_DIMS))
        queries, keys = self.matrix(), self.matrix()
        trail = torch.zeros(48, self.sizes.hidden)
        trail[:, CONTENT] = self.turn @ self.signature * TRAIL_SIZE
        trail[:, TRAIL] = self.turn
        strength = COPY_TRAIL / TRAIL_SIZE**2
        queries[self.content_dims] = by_trail @ trail * math.sqrt(strength)
        # What stands before an answer is no trail of a sentence.
        queries[self.content_dims, ANSWER] -= queries[self.content_dims] @ self.run(layer, sample)[0, -1]
        queries[self.content_dims, VOTE] += by_vote * COPY_VOTE
        keys[self.content_dims] = by_vote @ self.code()
        keys[self.content_dims, TRAIL] += by_trail * math.sqrt(strength)
        queries[self.bias_dims[0], ONE] = 1
        keys[self.bias_dims[0], IN_SOURCE] = COPY_ZONE
        keys[self.bias_dims[0], MARK] = COPY_SINK
        # An answer begins where a sentence does.
        queries[self.bias_dims[1], ANSWER] = 1
        keys[self.bias_dims[1], START] = COPY_START
        values = self.matrix()
        values[:96, CONTENT] = torch.eye(96)
        output = torch.zeros(self.sizes.hidden, self.sizes.head)
        output[CONTENT, :96] = torch.eye(96) * COPY_SIZE
        self.put(layer, 0, queries, keys, values, output)

        queries, keys = self.matrix(), self.matrix()
        queries[self.content_dims, VOTE] = by_vote * COPY_VOTE
        keys[self.content_dims] = by_vote @ self.code()
        queries[self.bias_dims[0], ONE] = 1
        keys[self.bias_dims[0], IN_SOURCE] = 80
        queries[self.bias_dims[1], ONE], queries[self.bias_dims[1], BRACKET] = 1, -1
        keys[self.bias_dims[1], MARK] = 150
        values = self.matrix()
        values[:16, SOURCE] = torch.eye(16) / 0.3
        digits = self.table[[self.index[str(number)] for number in range(10)], CONTENT]
        output = torch.zeros(self.sizes.hidden, self.sizes.head)
        output[CONTENT, :16] = digits.T @ self.digit_codes * 8
        self.put(layer, 1, queries, keys, values, output)


def wire(model, texts, rarity, sample):
    """Sets `model`'s weights and returns, for each parameter by name, which of its numbers are wired.

    `texts` and `rarity` are of each token; `sample` is one prompt's ids, from which the sizes of residuals are taken.
    """
    return Wiring(model, texts, rarity).wire(torch.tensor([list(sample)]))
