"""The chat model in PyTorch: the llama architecture with tied embeddings, and rotation of only some pairs of a head.

GGUF files express the latter by divisors of the rotation frequencies; a pair that is not rotated compares content
wherever it stands, which is what finding and copying need.
"""

import dataclasses

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclasses.dataclass
class Sizes:
    vocabulary: int = 8_192
    hidden: int = 288
    layers: int = 6
    heads: int = 3
    head: int = 128
    feed_forward: int = 320
    context: int = 2_048
    rotated_pairs: int = 16
    slowest_frequency: float = 5e-4
    epsilon: float = 1e-5

    def frequencies(self):
        """Radians per position of every pair: half of the rotated tell neighbours apart, half measure; the rest 0."""
        half = self.rotated_pairs // 2
        fast = torch.linspace(3.0, 0.4, half)
        slow = 0.2 * (self.slowest_frequency / 0.2) ** (torch.arange(half) / (half - 1))
        return torch.cat([fast, slow, torch.zeros(self.head // 2 - self.rotated_pairs)])


def rotate(x, cos, sin):
    """Rotates the first pairs of each head, as many as `cos` has; a pair is a number and the one half a head later."""
    half, size = x.shape[-1] // 2, cos.shape[-1]
    first, second = x[..., :size], x[..., half : half + size]
    turned = first * cos - second * sin, second * cos + first * sin
    return torch.cat([turned[0], x[..., size:half], turned[1], x[..., half + size :]], -1)


def attend(queries, keys, values, bias):
    """Attention of (rows, heads, length, head), written out on the CPU, where PyTorch's own is slow backward."""
    if queries.is_cuda:
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-1, -2)
    return (scores + bias).softmax(-1) @ values


class Norm(nn.Module):
    def __init__(self, size, epsilon):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.epsilon)


class Block(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        width = sizes.heads * sizes.head
        self.sizes = sizes
        self.attention_norm = Norm(sizes.hidden, sizes.epsilon)
        self.queries = nn.Linear(sizes.hidden, width, bias=False)
        self.keys = nn.Linear(sizes.hidden, width, bias=False)
        self.values = nn.Linear(sizes.hidden, width, bias=False)
        self.output = nn.Linear(width, sizes.hidden, bias=False)
        self.feed_forward_norm = Norm(sizes.hidden, sizes.epsilon)
        self.gate = nn.Linear(sizes.hidden, sizes.feed_forward, bias=False)
        self.up = nn.Linear(sizes.hidden, sizes.feed_forward, bias=False)
        self.down = nn.Linear(sizes.feed_forward, sizes.hidden, bias=False)

    def forward(self, x, cos, sin, bias, cache=None):
        rows, length, _ = x.shape
        normed = self.attention_norm(x)
        split = lambda layer: layer(normed).view(rows, length, self.sizes.heads, self.sizes.head).transpose(1, 2)
        queries, keys = (rotate(split(layer), cos, sin) for layer in (self.queries, self.keys))
        values = split(self.values)
        if cache is not None:
            if cache:
                keys, values = torch.cat([cache[0], keys], 2), torch.cat([cache[1], values], 2)
            cache[:] = [keys, values]
        mixed = attend(queries, keys, values, bias)
        x = x + self.output(mixed.transpose(1, 2).reshape(rows, length, -1))
        normed = self.feed_forward_norm(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))


class ChatModel(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.hidden)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))
        self.norm = Norm(sizes.hidden, sizes.epsilon)
        nn.init.normal_(self.embedding.weight, std=0.05)
        self.register_buffer("frequencies", sizes.frequencies(), persistent=False)

    def hidden(self, ids, positions, mask=None, caches=None):
        """Normed last states of `ids` (rows, length). `mask` says who may look at whom; without it, at all before."""
        return self.norm(self.residuals(ids, positions, mask, caches))

    def residuals(self, ids, positions, mask=None, caches=None, num_layers=None):
        dtype = torch.bfloat16 if torch.is_autocast_enabled(ids.device.type) else torch.float32
        angles = positions[:, None, :, None] * self.frequencies[: self.sizes.rotated_pairs]
        cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
        x = self.embedding(ids).to(dtype)
        if mask is None:
            mask = torch.ones(ids.shape[1], int(positions.max()) + 1, dtype=torch.bool, device=ids.device)
            mask = mask.tril(mask.shape[1] - mask.shape[0])
        bias = torch.zeros(mask.shape, dtype=dtype, device=ids.device).masked_fill_(~mask, -1e4)
        for number, block in enumerate(self.blocks[:num_layers]):
            x = block(x, cos, sin, bias, None if caches is None else caches[number])
        return x

    def logits(self, hidden):
        return F.linear(hidden, self.embedding.weight.to(hidden.dtype))

    @torch.no_grad()
    def answer(self, ids, end, max_tokens=100):
        """The most probable continuation of the prompt `ids`, up to `end`."""
        caches = [[] for _ in self.blocks]
        given, out, at = torch.tensor([ids]), [], 0
        while len(out) < max_tokens:
            positions = torch.arange(at, at + given.shape[1])[None]
            token = self.logits(self.hidden(given, positions, None, caches)[0, -1]).argmax().item()
            if token == end:
                break
            out.append(token)
            at += given.shape[1]
            given = torch.tensor([[token]])
        return out
