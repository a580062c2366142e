#!/usr/bin/env python3
"""Trains the small Vision Transformer of examples/digits and writes its TorchScript file.

Reads the committed digits_train.npz and digits_test.npz (8x8 UCI handwritten digits), trains for
about a minute on one core, prints train and test accuracy. One thread and fixed seeds: the same
machine and PyTorch give the same weights.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ts_archive import save_portable

DEFAULT_FOLDER = Path(__file__).resolve().parent.parent / "examples" / "digits"


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class DigitsViT(nn.Module):
    """[N, 1, 8, 8] images in [-1, 1] -> [N, 10] logits."""

    def __init__(
        self, width: int = 64, depth: int = 4, heads: int = 4, hidden: int = 256, patch: int = 2
    ) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(1, width, patch, stride=patch)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, (8 // patch) ** 2 + 1, width))
        self.blocks = nn.Sequential(*[Block(width, heads, hidden) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


def load_split(path: Path) -> tuple[Tensor, Tensor]:
    """Images [N, 1, 8, 8] float32 in [-1, 1] and labels [N] int64."""
    with np.load(path) as arrays:
        return torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"])


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shifts each image by up to one pixel in each direction and adds a little noise."""
    padded = F.pad(images, (1, 1, 1, 1), value=-1.0)
    offsets = torch.randint(0, 3, (len(images), 2), generator=generator)
    keep = torch.rand(len(images), generator=generator) < 0.5
    offsets[keep] = 1
    shifted = torch.stack(
        [image[:, dy : dy + 8, dx : dx + 8] for image, (dy, dx) in zip(padded, offsets.tolist())]
    )
    return shifted + 0.05 * torch.randn(shifted.shape, generator=generator)


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    model.eval()
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).float().mean())


class Descent:
    """AdamW with a linear warm-up and a cosine to zero, on cross-entropy with smoothed labels."""

    def __init__(self, model: nn.Module, steps: int, peak: float, decay: float,
                 warm_up: int) -> None:
        self.model = model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=decay)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda step: min(1.0, (step + 1) / warm_up)
            * 0.5 * (1 + math.cos(math.pi * step / steps)),
        )

    def step(self, logits: Tensor, labels: Tensor) -> None:
        loss = F.cross_entropy(logits, labels, label_smoothing=0.1)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.scheduler.step()


def train(images: Tensor, labels: Tensor, epochs: int, seed: int) -> DigitsViT:
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = DigitsViT()
    batch_size = 64
    steps = epochs * math.ceil(len(images) / batch_size)
    descent = Descent(model, steps, peak=1.5e-3, decay=0.05, warm_up=100)
    for _ in range(epochs):
        model.train()
        for chosen in torch.randperm(len(images), generator=generator).split(batch_size):
            descent.step(model(augment(images[chosen], generator)), labels[chosen])
    return model.eval().requires_grad_(False)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--output", type=Path, default=DEFAULT_FOLDER / "digits_vit.pt")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--min-accuracy", type=float, default=0.97, help="fail below this")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    images, labels = load_split(args.data / "digits_train.npz")
    test_images, test_labels = load_split(args.data / "digits_test.npz")
    start = time.monotonic()
    model = train(images, labels, args.epochs, args.seed)
    test = accuracy(model, test_images, test_labels)
    print(
        f"train {accuracy(model, images, labels):.4f}  test {test:.4f}  "
        f"{sum(p.numel() for p in model.parameters())} parameters  "
        f"{time.monotonic() - start:.0f} s"
    )
    if test < args.min_accuracy:
        print(f"test accuracy below {args.min_accuracy}; nothing written", file=sys.stderr)
        return 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, test_images[:2], check_trace=False)
    save_portable(traced, args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
