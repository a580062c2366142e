"""Random transformers as PyTorch modules, with seeded weights and samples.

Everything is small: widths of 16 to 64, one to three blocks, up to 17 tokens.
"""

from __future__ import annotations

import math

import torch
from grammar import Spec, draw
from layers import Layer, make_norm
from torch import nn
from torch.nn import functional as F

__all__ = ["Spec", "build", "draw", "samples"]

CLASSES, VOCABULARY, SIDE = 11, 37, 4


class Stock(nn.Module):
    """Layers of torch.nn as they are, for torch.jit.script: it does not take layers.py."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        block, width = spec.blocks[0], spec.width
        self.embedding = nn.Linear(12, width)
        settings = dict(
            d_model=width,
            nhead=spec.heads,
            dim_feedforward=2 * width,
            dropout=0.1,
            activation="gelu" if "gelu" in block.activation else "relu",
            batch_first=True,
            norm_first=block.position == "pre",
        )
        self.decodes = block.qkv in ("apart", "grouped")
        self.crosses = block.qkv == "chunk"
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(**settings), len(spec.blocks), enable_nested_tensor=False
        )
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(**settings), len(spec.blocks)
        )
        self.pads = block.mask == "boolean"
        self.first = block.residual != "swapped"  # the batch is the first dimension
        self.attention = nn.MultiheadAttention(width, spec.heads, batch_first=self.first)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        x = self.embedding(inputs)
        if self.pads:
            y = self.encoder(x, src_key_padding_mask=inputs[:, :, 0] > 1.5)
        else:
            y = self.encoder(x)
        if self.decodes:
            y = self.decoder(x, y)
        q = y if self.first else y.transpose(0, 1)
        k = q
        if self.crosses:
            k = x if self.first else x.transpose(0, 1)
        z, _ = self.attention(q, k, k)
        if not self.first:
            z = z.transpose(0, 1)
        return self.head(y + z)


class Transformer(nn.Module):
    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec, width = spec, spec.width
        self.grid = 3 if spec.tokens <= 9 else 4  # of patches
        if spec.source == "tokens":
            self.embedding = nn.Embedding(VOCABULARY, width)
        elif spec.source == "patches":
            self.embedding = nn.Conv2d(3, width, SIDE, stride=SIDE)
        elif spec.source == "patches_1d":
            self.embedding = nn.Conv1d(5, width, SIDE, stride=SIDE)
        else:
            self.embedding = nn.Linear(12, width)
        if spec.stem in ("positions", "class_token"):
            self.positions = nn.Parameter(torch.zeros(1, 64, width))
        if spec.stem == "class_token":
            self.token = nn.Parameter(torch.zeros(1, 1, width))
        if spec.stem == "conv1x1":
            self.stem = nn.Conv1d(width, width, 1)
        if spec.stem == "conv":
            self.stem = nn.Conv1d(width, width, 3, padding=1)
        self.layers = nn.ModuleList(Layer(spec, block) for block in spec.blocks)
        self.norm = make_norm(spec.blocks[0].norm, width)
        if spec.head == "tied" and spec.source == "tokens":
            self.final_bias = nn.Parameter(torch.zeros(VOCABULARY))
        elif spec.head == "two_heads":
            self.first, self.second = nn.Linear(width, CLASSES), nn.Linear(width, CLASSES)
        elif spec.head == "class_attention":
            self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
            self.head = nn.Linear(width, CLASSES)
        elif spec.head == "downsample":
            self.down = nn.Conv1d(width, width, 2, stride=2)
            self.head = nn.Linear(width, CLASSES)
        else:
            self.head = nn.Linear(width, CLASSES)
        if spec.head == "bias":
            self.logits_bias = nn.Parameter(torch.zeros(CLASSES))

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embedding(x)
        if self.spec.source == "patches":
            x = x.flatten(2).transpose(1, 2)
        elif self.spec.source == "patches_1d":
            x = x.transpose(1, 2)
        stem = self.spec.stem
        if stem == "class_token":
            x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), dim=1)
        if stem in ("positions", "class_token"):
            x = x + self.positions[:, : x.shape[1]]
        if stem in ("conv", "conv1x1"):
            x = x + self.stem(x.transpose(1, 2)).transpose(1, 2)
        return x

    def forward(self, x: torch.Tensor):
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        head = self.spec.head
        if head == "tied" and self.spec.source == "tokens":
            return F.linear(x, self.embedding.weight) + self.final_bias
        if head == "two_heads":
            return (self.first(x[:, 0]) + self.second(x[:, 1])) / 2
        if head == "class_attention":
            q = self.q(x[:, :1])
            k, v = self.kv(x).chunk(2, dim=-1)
            y = (q @ k.transpose(1, 2) * q.shape[-1] ** -0.5).softmax(-1) @ v
            return self.head(y[:, 0])
        if head == "downsample":
            return self.head(F.gelu(self.down(x.transpose(1, 2)).mean(-1)))
        if head == "pooled":
            return self.head(x.mean(1))
        if head == "bias":
            return self.head(x) + self.logits_bias
        if head == "tuple":
            return self.head(x.mean(1)), x
        return self.head(x)


def build(spec: Spec) -> nn.Module:
    """A model with activations of sizes as after training: scaled weights, biases, gains."""
    model = (Stock(spec) if spec.script else Transformer(spec)).eval()
    generator = torch.Generator().manual_seed(spec.seed)

    def random_like(parameter: torch.Tensor) -> torch.Tensor:
        return torch.randn(parameter.shape, generator=generator)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if (
                name in ("positions", "token")
                or leaf == "memory"
                or "embedding.weight" == name
                and spec.source == "tokens"
            ):
                parameter.copy_(0.5 * random_like(parameter))
            elif leaf in ("bias", "constant", "final_bias", "logits_bias", "sink", "in_proj_bias"):
                parameter.copy_((0.3 if parameter.dim() == 3 else 0.1) * random_like(parameter))
            elif parameter.dim() >= 2:
                parameter.copy_(random_like(parameter) / math.sqrt(parameter[0].numel()))
            else:
                parameter.mul_(1 + 0.2 * random_like(parameter))
    return model.to(getattr(torch, spec.dtype))


def samples(spec: Spec, count: int, seed: int, tokens: int | None = None) -> torch.Tensor:
    """`count` samples; `tokens` another length where the model takes any (tokens, vectors)."""
    generator = torch.Generator().manual_seed(seed)
    length = tokens or spec.tokens
    if spec.source == "tokens":
        return torch.randint(0, VOCABULARY, (count, length), generator=generator)
    if spec.source == "patches":
        side = SIDE * (3 if spec.tokens <= 9 else 4)
        x = torch.randn(count, 3, side, side, generator=generator)
    elif spec.source == "patches_1d":
        x = torch.randn(count, 5, SIDE * length, generator=generator)
    else:
        x = torch.randn(count, length, 12, generator=generator)
    return x.to(getattr(torch, spec.dtype))
