#!/usr/bin/env python3
"""Time and memory of `repquant quantize` over layers, calibration samples and width.

Makes seeded random decoders (pre-norm, causal attention, GELU, untied head) as TorchScript, quantizes
them on random token ids and prints one table: time, peak memory, and the memory beyond the FP32
model. The weights are random: the figures say nothing about accuracy.

  bench_scale.py                          layers 4, 8, 16 and samples 8, 16, 32 at width 256
  bench_scale.py --layers 24 --width 1024 --vocabulary 8192 --samples 64 --tokens 512

Needs torch, as the export scripts do.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ALLOWANCE = 1.5e9  # bytes beyond the FP32 model that a run may take


def make_decoder(layers: int, width: int, vocabulary: int, context: int) -> Any:
    """A decoder with weights of the usual scales; heads are 64 wide."""
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.heads = max(width // 64, 1)
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Tensor) -> Tensor:
            batch, tokens = x.shape[0], x.shape[1]
            qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, -1)
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.proj(y.transpose(1, 2).reshape(batch, tokens, width))
            return x + self.down(F.gelu(self.up(self.norm2(x))))

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(vocabulary, width)
            self.position = nn.Parameter(torch.zeros(context, width))
            self.blocks = nn.ModuleList(Block() for _ in range(layers))
            self.norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, vocabulary, bias=False)

        def forward(self, input_ids: Tensor) -> Tensor:
            x = self.embedding(input_ids) + self.position[: input_ids.shape[1]]
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x))

    torch.manual_seed(0)
    model = Decoder()
    with torch.no_grad():
        model.position.normal_(0, 0.1)
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "embedding" not in name and "position" not in name:
                deep = name.endswith(("proj.weight", "down.weight"))
                parameter.normal_(0, parameter.shape[1] ** -0.5 / (layers**0.5 if deep else 1))
    return model.eval().requires_grad_(False)


def export(path: Path, layers: int, width: int, vocabulary: int, tokens: int) -> int:
    """Writes the model; returns its number of parameters."""
    import torch

    model = make_decoder(layers, width, vocabulary, tokens)
    example = torch.zeros((2, min(tokens, 16)), dtype=torch.int64)
    torch.jit.save(torch.jit.trace(model, example, check_trace=False), str(path))
    return sum(parameter.numel() for parameter in model.parameters())


def write_ids(path: Path, samples: int, tokens: int, vocabulary: int) -> None:
    import numpy as np

    ids = np.random.default_rng(0).integers(0, vocabulary, (samples, tokens), dtype=np.int64)
    np.save(path, ids)


def children_seconds() -> float:
    """Processor time of finished child processes: unlike wall clock, bearable on a busy machine."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def quantize(args: argparse.Namespace, model: Path, ids: Path, bits: str, samples: int,
             folder: Path) -> dict[str, Any]:
    """Runs the program; returns its JSON result with the wall-clock and processor seconds."""
    command = [str(args.program), "quantize", str(model), "--bits", bits, "--calib", str(ids),
               "--calib-samples", str(samples), "--effort", args.effort, "--threads",
               str(args.threads), "--output", str(folder / "out.pt"), "--force", "--json",
               "--quiet"]
    if args.workdir:
        command += ["--workdir", str(folder / "work")]
    for setting in args.set:
        command += ["--set", setting]
    start, before = time.monotonic(), children_seconds()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\nfailed ({done.returncode}): {done.stderr.strip()}")
    return json.loads(done.stdout) | {"wall": time.monotonic() - start,
                                      "processor": children_seconds() - before}


def row(layers: int, samples: int, bits: str, parameters: int, result: dict[str, Any]) -> list[str]:
    model = 4.0 * parameters
    beyond = result["peak_memory_bytes"] - model
    return [str(layers), str(samples), bits, f"{parameters / 1e6:.1f}", f"{result['wall']:.1f}",
            f"{result['processor']:.1f}", f"{result['fit_seconds']:.1f}",
            f"{result['time_multiple']:.1f}",
            f"{result['peak_memory_bytes'] / 1e6:.0f}", f"{beyond / 1e6:.0f}",
            "yes" if beyond <= ALLOWANCE else "NO", f"{result['size_ratio']:.3f}"]


HEADER = ["layers", "samples", "bits", "params M", "time s", "cpu s", "fit s", "x FP32", "peak MB",
          "beyond FP32 MB", "<= 1.5 GB", "size"]


def print_table(rows: list[list[str]]) -> None:
    widths = [max(len(line[i]) for line in [HEADER, *rows]) for i in range(len(HEADER))]
    for line in [HEADER, ["-" * width for width in widths], *rows]:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths)))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=ROOT / "build/release/repquant")
    parser.add_argument("--layers", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--samples", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=1024)
    parser.add_argument("--bits", nargs="+", default=["w4a16", "w8a8"])
    parser.add_argument("--effort", default="standard")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--workdir", action="store_true", help="give --workdir to the program")
    parser.add_argument("--folder", type=Path, help="where models and ids go (default: temporary)")
    return parser.parse_args(argv)


def run(args: argparse.Namespace, folder: Path) -> None:
    """Layers vary at the smallest number of samples, samples at the fewest layers."""
    pairs = [(layers, min(args.samples)) for layers in args.layers]
    pairs += [(min(args.layers), samples) for samples in args.samples[1:]]
    rows, parameters = [], {}
    for layers, samples in pairs:
        model = folder / f"decoder_{layers}x{args.width}.pt"
        if layers not in parameters:
            parameters[layers] = export(model, layers, args.width, args.vocabulary, args.tokens)
        ids = folder / f"ids_{samples}.npy"
        write_ids(ids, samples, args.tokens, args.vocabulary)
        for bits in args.bits:
            result = quantize(args, model, ids, bits, samples, folder)
            rows.append(row(layers, samples, bits, parameters[layers], result))
            print(" ".join(rows[-1]), file=sys.stderr, flush=True)
    print(f"width {args.width}, {args.tokens} tokens a sample, vocabulary {args.vocabulary}, "
          f"effort {args.effort}, {args.threads} threads, random weights")
    print_table(rows)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.folder:
        args.folder.mkdir(parents=True, exist_ok=True)
        run(args, args.folder)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        run(args, Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
