#!/usr/bin/env python3
"""Exports a checkpoint of the llama2.c format (stories260K and its siblings) as TorchScript.

The model takes token ids int64 [batch, tokens], tokens up to the context length, and gives logits
[batch, tokens, vocabulary]. With --cache it also takes a list of the keys and values of the tokens
before, float32 [batch, key-value heads, tokens before, head width] for each layer one after the
other, and gives the pair of logits and the list for the next call. RMSNorm stands in elementary operators (or as one operator with
--fused-norm), attention as `scaled_dot_product_attention`, the head shares the embedding's values.

Format (llama2.c, export.py version 0): seven int32 (width, hidden, layers, heads, key-value heads,
vocabulary, context), then float32 tensors. A negative vocabulary means an untied head at the end.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import export_common
from export_common import ExportError

HEADER_INTEGERS = 7
EPSILON = 1e-5
ROTARY_BASE = 10000.0


@dataclass(frozen=True)
class Shape:
    width: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int

    @property
    def head_width(self) -> int:
        return self.width // self.heads


def read_checkpoint(path: Path) -> tuple[Shape, dict[str, Any]]:
    """The shape and the tensors by name, float32, of a llama2.c checkpoint.

    Raises ExportError for a missing, damaged or truncated file.
    """
    import numpy as np

    if not path.is_file():
        raise ExportError(f"checkpoint not found: {path}")
    data = path.read_bytes()
    if len(data) < 4 * HEADER_INTEGERS:
        raise ExportError(f"{path} is too short for the llama2.c header: {len(data)} bytes")
    numbers = np.frombuffer(data, "<i4", HEADER_INTEGERS)
    tied = bool(numbers[5] > 0)
    shape = Shape(*(abs(int(number)) for number in numbers))
    if min(shape.width, shape.heads, shape.kv_heads) < 1 or shape.width % shape.heads != 0 or \
            shape.heads % shape.kv_heads != 0 or max(numbers) > 1 << 24:
        raise ExportError(f"{path} is no llama2.c checkpoint: its header reads {numbers.tolist()}")
    d, h, n, kv = shape.width, shape.hidden, shape.layers, shape.kv_heads * shape.head_width
    sizes = {
        "embedding": (shape.vocabulary, d), "attention_norm": (n, d), "wq": (n, d, d),
        "wk": (n, kv, d), "wv": (n, kv, d), "wo": (n, d, d), "ffn_norm": (n, d), "w1": (n, h, d),
        "w2": (n, d, h), "w3": (n, h, d), "norm": (d,),
        "legacy_rotary": (2, shape.context, shape.head_width // 2),  # not used
    }
    if not tied:
        sizes["head"] = (shape.vocabulary, d)
    values = np.frombuffer(data, "<f4", offset=4 * HEADER_INTEGERS,
                           count=(len(data) - 4 * HEADER_INTEGERS) // 4)
    expected = sum(int(np.prod(size)) for size in sizes.values())
    if len(values) != expected:
        raise ExportError(f"{path}: expected {expected} float32 values after the header, "
                          f"got {len(values)}")
    tensors, position = {}, 0
    for name, size in sizes.items():
        count = int(np.prod(size))
        tensors[name] = values[position:position + count].reshape(size)
        position += count
    return shape, tensors


def make_class(cache: bool) -> type:
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    class RmsNorm(nn.Module):
        def __init__(self, width: int, fused: bool) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(width))
            self.fused = fused
            self.epsilon = EPSILON

        def forward(self, x: Tensor) -> Tensor:
            if self.fused:
                return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weight

    class Attention(nn.Module):
        def __init__(self, shape: Shape) -> None:
            super().__init__()
            self.head_width = shape.head_width
            self.grouped = shape.kv_heads != shape.heads
            kv = shape.kv_heads * shape.head_width
            self.wq = nn.Linear(shape.width, shape.width, bias=False)
            self.wk = nn.Linear(shape.width, kv, bias=False)
            self.wv = nn.Linear(shape.width, kv, bias=False)
            self.wo = nn.Linear(shape.width, shape.width, bias=False)

        def heads(self, x: Tensor) -> Tensor:
            return x.unflatten(-1, (-1, self.head_width)).transpose(1, 2)

        def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
            """Rotary embedding of interleaved pairs, x [batch, heads, tokens, head width]."""
            even, odd = x[..., 0::2], x[..., 1::2]
            return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)

        def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
            q = self.rotate(self.heads(self.wq(x)), cos, sin)
            k = self.rotate(self.heads(self.wk(x)), cos, sin)
            y = F.scaled_dot_product_attention(
                q, k, self.heads(self.wv(x)), is_causal=True, enable_gqa=self.grouped)
            return self.wo(y.transpose(1, 2).flatten(2))

    class CachedAttention(Attention):
        def forward(self, x: Tensor, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor,
                    mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """Also the keys and values of all tokens so far, [batch, heads, tokens, width]."""
            q = self.rotate(self.heads(self.wq(x)), cos, sin)
            keys = torch.cat([keys, self.rotate(self.heads(self.wk(x)), cos, sin)], 2)
            values = torch.cat([values, self.heads(self.wv(x))], 2)
            y = F.scaled_dot_product_attention(
                q, keys, values, attn_mask=mask, enable_gqa=self.grouped)
            return self.wo(y.transpose(1, 2).flatten(2)), keys, values

    class FeedForward(nn.Module):
        def __init__(self, shape: Shape) -> None:
            super().__init__()
            self.w1 = nn.Linear(shape.width, shape.hidden, bias=False)
            self.w2 = nn.Linear(shape.hidden, shape.width, bias=False)
            self.w3 = nn.Linear(shape.width, shape.hidden, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.w2(F.silu(self.w1(x)) * self.w3(x))

    class Block(nn.Module):
        def __init__(self, shape: Shape, fused: bool) -> None:
            super().__init__()
            self.attention_norm = RmsNorm(shape.width, fused)
            self.attention = Attention(shape)
            self.ffn_norm = RmsNorm(shape.width, fused)
            self.feed_forward = FeedForward(shape)

        def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
            x = x + self.attention(self.attention_norm(x), cos, sin)
            return x + self.feed_forward(self.ffn_norm(x))

    class CachedBlock(Block):
        def __init__(self, shape: Shape, fused: bool) -> None:
            super().__init__(shape, fused)
            self.attention = CachedAttention(shape)

        def forward(self, x: Tensor, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor,
                    mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            y, keys, values = self.attention(self.attention_norm(x), cos, sin, keys, values, mask)
            x = x + y
            return x + self.feed_forward(self.ffn_norm(x)), keys, values

    class Llama(nn.Module):
        block = Block

        def __init__(self, shape: Shape, fused: bool) -> None:
            super().__init__()
            self.embedding = nn.Embedding(shape.vocabulary, shape.width)
            self.layers = nn.ModuleList([self.block(shape, fused) for _ in range(shape.layers)])
            self.norm = RmsNorm(shape.width, fused)
            self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
            pairs = torch.arange(0, shape.head_width, 2) / shape.head_width
            angles = torch.arange(shape.context)[:, None] * ROTARY_BASE ** -pairs
            self.register_buffer("cos", angles.cos())
            self.register_buffer("sin", angles.sin())

        def forward(self, input_ids: Tensor) -> Tensor:
            x = self.embedding(input_ids)
            cos, sin = self.cos[:input_ids.size(1)], self.sin[:input_ids.size(1)]
            for layer in self.layers:
                x = layer(x, cos, sin)
            return self.head(self.norm(x))

    class CachedLlama(Llama):
        block = CachedBlock

        def forward(self, input_ids: Tensor,
                    past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            before, total = past[0].size(2), past[0].size(2) + input_ids.size(1)
            cos, sin = self.cos[before:total], self.sin[before:total]
            positions = torch.arange(total, device=input_ids.device)
            mask = positions <= positions[before:, None]
            x = self.embedding(input_ids)
            present: list[Tensor] = []
            for i, layer in enumerate(self.layers):
                x, keys, values = layer(x, cos, sin, past[2 * i], past[2 * i + 1], mask)
                present += [keys, values]
            return self.head(self.norm(x)), present

    return CachedLlama if cache else Llama


def build_model(shape: Shape, tensors: dict[str, Any], fused: bool, cache: bool = False) -> Any:
    """The eager model with the checkpoint's weights, in eval mode."""
    import torch

    model = make_class(cache)(shape, fused)
    state = {"cos": model.cos, "sin": model.sin}

    def put(name: str, array: Any) -> None:
        state[name] = torch.from_numpy(array.copy())

    put("embedding.weight", tensors["embedding"])
    put("norm.weight", tensors["norm"])
    put("head.weight", tensors.get("head", tensors["embedding"]))
    for i in range(shape.layers):
        put(f"layers.{i}.attention_norm.weight", tensors["attention_norm"][i])
        put(f"layers.{i}.ffn_norm.weight", tensors["ffn_norm"][i])
        for name in ("wq", "wk", "wv", "wo"):
            put(f"layers.{i}.attention.{name}.weight", tensors[name][i])
        for name in ("w1", "w2", "w3"):
            put(f"layers.{i}.feed_forward.{name}.weight", tensors[name][i])
    model.load_state_dict(state, strict=True)
    return model.eval().requires_grad_(False)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, type=Path, help="llama2.c .bin file")
    parser.add_argument("--output", required=True, type=Path, help="TorchScript file to write")
    parser.add_argument("--cache", action="store_true",
                        help="take and give back the keys and values of earlier tokens")
    parser.add_argument("--script", action="store_true", help="torch.jit.script instead of trace")
    parser.add_argument("--fused-norm", action="store_true", help="RMSNorm as one operator")
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    return parser.parse_args(argv)


def export(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the file; returns the summary that main prints."""
    export_common.check_output_path(args.output, args.force)
    shape, tensors = read_checkpoint(args.checkpoint)
    import torch

    model = build_model(shape, tensors, args.fused_norm, args.cache)
    generator = torch.Generator().manual_seed(0)
    past_shapes = [[shape.kv_heads, 0, shape.head_width]] * (2 * shape.layers if args.cache else 0)

    def ids(batch: int, tokens: int) -> tuple[Any, ...]:
        tokens = min(tokens, shape.context)
        inputs = (torch.randint(0, shape.vocabulary, (batch, tokens), generator=generator),)
        if not args.cache:
            return inputs
        before = min(5, shape.context - tokens)
        return *inputs, export_common.random_past(past_shapes, batch, before, generator)

    def check(reloaded: Any) -> float:
        worst = max(export_common.deviation(model, reloaded, ids(*size),
                                            f"batch size {size[0]}, {size[1]} tokens")
                    for size in ((1, 9), (3, 24), (2, 1)))
        if args.cache:
            text = ids(2, 12)[0]
            whole = build_model(shape, tensors, args.fused_norm)(text)
            worst = max(worst, export_common.check_continued(reloaded, whole, text, past_shapes))
        return worst

    module = export_common.convert(model, ids(2, 6 if args.cache else 16), args.script)
    extra_files = export_common.cache_file(past_shapes) if args.cache else {}
    worst = export_common.save_checked(module, args.output, extra_files, check)
    inputs = {"input_ids": "int64 [batch, tokens]"}
    if args.cache:
        inputs["past"] = (f"{len(past_shapes)} x float32 [batch, {shape.kv_heads}, tokens before, "
                          f"{shape.head_width}]")
    return {
        "output": str(args.output), "bytes": args.output.stat().st_size,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "form": "script" if args.script else "trace",
        "inputs": inputs,
        "context": shape.context, "vocabulary": shape.vocabulary, "deviation": worst,
    }


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        print(json.dumps(export(args), indent=2))
    except ExportError as error:
        print(f"export_llama2c.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"export_llama2c.py: {error}", file=sys.stderr)
        return 5
    return 0


if __name__ == "__main__":
    sys.exit(main())
