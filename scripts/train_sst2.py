#!/usr/bin/env python3
"""Trains a small sentiment classifier on SST-2 and writes what its quantization needs.

    train_sst2.py --data FOLDER --output sst2/

FOLDER holds train.tsv and dev.tsv: a sentence, a tab, 0 or 1 in each line. Written are
model.pt (TorchScript; input_ids and attention_mask [N, 64] -> logits [N, 2]), train.npz (to
calibrate) and dev.npz (with labels):

    repquant quantize sst2/model.pt --bits w4a4 --calib sst2/train.npz -o sst2/model.w4a4.pt
    repquant evaluate sst2/model.w4a4.pt --data sst2/dev.npz --reference sst2/model.pt

3 million parameters, from scratch, half an hour of processor time. Needs torch alone. Fixed seeds: the
same machine, PyTorch and number of threads give the same weights.
"""

from __future__ import annotations

import argparse
import collections
import math
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from train_digits import Block, Descent
from ts_archive import save_portable

LENGTH = 64  # tokens of a row; longer sentences are cut
PAD, UNKNOWN = 0, 1


class MaskedBlock(Block):
    """The pre-norm block of the digits model, blind to padding."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + F.dropout(self.attn(self.norm1(x), mask), 0.1, self.training)
        hidden = F.gelu(self.fc1(self.norm2(x)))
        return x + F.dropout(self.fc2(hidden), 0.1, self.training)


class Classifier(nn.Module):
    """input_ids, attention_mask [N, T] int64 -> logits [N, 2]."""

    def __init__(self, words: int, width: int = 192, depth: int = 4, heads: int = 6) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.positions = nn.Parameter(0.02 * torch.randn(LENGTH, width))
        self.blocks = nn.ModuleList(MaskedBlock(width, heads, 4 * width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 2)
        nn.init.normal_(self.words.weight, std=0.05)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        seen = attention_mask.unsqueeze(-1).to(torch.float32)
        x = self.words(input_ids) + self.positions[: input_ids.size(1)]
        x = F.dropout(x, 0.3, self.training)
        mask = (attention_mask > 0).unsqueeze(1).unsqueeze(1)
        for block in self.blocks:
            x = block(x, mask)
        return self.head((self.norm(x) * seen).sum(1) / seen.sum(1).clamp_min(1))


def read_table(path: Path) -> tuple[list[list[str]], Tensor]:
    """Sentences as words, and their labels [N]."""
    sentences, labels = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        text, tab, label = line.rpartition("\t")
        if not tab or label not in ("0", "1"):
            raise ValueError(f"{path}:{number}: expected a sentence, a tab, and 0 or 1")
        sentences.append(text.lower().split())
        labels.append(int(label))
    return sentences, torch.tensor(labels)


def encode(sentences: list[list[str]], words: dict[str, int]) -> tuple[Tensor, Tensor]:
    ids = torch.full((len(sentences), LENGTH), PAD)
    for row, sentence in enumerate(sentences):
        known = [words.get(word, UNKNOWN) for word in sentence[:LENGTH]]
        ids[row, : len(known)] = torch.tensor(known)
    return ids, (ids != PAD).to(torch.int64)


def accuracy(model: Classifier, ids: Tensor, mask: Tensor, labels: Tensor) -> float:
    model.eval()
    with torch.no_grad():
        return float((model(ids, mask).argmax(1) == labels).float().mean())


def train(ids: Tensor, mask: Tensor, labels: Tensor, words: int, epochs: int,
          seed: int) -> Classifier:
    torch.manual_seed(seed)
    model = Classifier(words)
    batch = 64
    steps = epochs * math.ceil(len(ids) / batch)
    descent = Descent(model, steps, peak=6e-4, decay=0.1, warm_up=200)
    for _ in range(epochs):
        model.train()
        for chosen in torch.randperm(len(ids)).split(batch):
            longest = int(mask[chosen].sum(1).max())
            part = ids[chosen, :longest]
            hidden = (torch.rand(part.shape) < 0.15) & (part != PAD)  # words that are left out
            part = part.masked_fill(hidden, UNKNOWN)
            descent.step(model(part, mask[chosen, :longest]), labels[chosen])
    return model.eval().requires_grad_(False)


def save_rows(path: Path, ids: Tensor, mask: Tensor, labels: Tensor) -> None:
    np.savez(path, input_ids=ids.numpy(), attention_mask=mask.numpy(), labels=labels.numpy())


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of train.tsv, dev.tsv")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True)
    try:
        sentences, labels = read_table(args.data / "train.tsv")
        dev_sentences, dev_labels = read_table(args.data / "dev.tsv")
    except (OSError, ValueError) as error:
        print(f"train_sst2: {error}", file=sys.stderr)
        return 1
    counts = collections.Counter(word for sentence in sentences for word in sentence)
    known = sorted(word for word, count in counts.items() if count > 1)
    words = {word: i for i, word in enumerate(known, UNKNOWN + 1)}
    ids, mask = encode(sentences, words)
    dev_ids, dev_mask = encode(dev_sentences, words)
    start = time.monotonic()
    model = train(ids, mask, labels, len(words) + 2, args.epochs, args.seed)
    print(f"train {accuracy(model, ids, mask, labels):.4f}  "
          f"dev {accuracy(model, dev_ids, dev_mask, dev_labels):.4f}  "
          f"{sum(p.numel() for p in model.parameters())} parameters  "
          f"{time.monotonic() - start:.0f} s")
    args.output.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, (dev_ids[:2], dev_mask[:2]), check_trace=False)
    save_portable(traced, args.output / "model.pt")
    save_rows(args.output / "train.npz", ids, mask, labels)
    save_rows(args.output / "dev.npz", dev_ids, dev_mask, dev_labels)
    return 0


if __name__ == "__main__":
    sys.exit(main())
