#!/usr/bin/env python3
"""Times repquant::weight_only_linear beside torch's float32 linear, and beside a plain read of the
packed weight, in turns and on one thread.

    scripts/bench_weight_only.py [--library build/release/src/ops/librepquant_ops.so] [--runs 15]

Times are processor time: what else the machine does counts only as far as it takes cache and memory.
Results are compared before anything is timed. Ratios are of pairs of runs that follow each other:
their median, and in brackets the quartiles. A read is a sum of the bytes as 64-bit integers.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Callable

import torch

ROOT = Path(__file__).resolve().parent.parent
# channels, columns: MLPs and projections of stories110M, BERT-base and Llama-7B
SHAPES = [(768, 768), (768, 3072), (2048, 768), (4096, 4096), (4096, 11008), (11008, 4096)]
ROWS = [1, 4, 16, 128]
WEIGHTS = [(4, 32), (4, 128), (4, 0), (8, 0)]  # bits, group size


def pack(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """int8 codes as an artifact stores them."""
    if bits > 4:
        return codes
    shifted = (codes.to(torch.int32) + 8).to(torch.uint8)
    return shifted[:, 0::2] | (shifted[:, 1::2] << 4)


def seconds(call: Callable[[], object]) -> float:
    begin = time.thread_time()
    call()
    return time.thread_time() - begin


def spread(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:5.2f} ({low:.2f} - {high:.2f})"


def measure(channels: int, columns: int, bits: int, group: int, runs: int) -> None:
    limit = 2 ** (bits - 1)
    codes = torch.randint(-limit, limit, (channels, columns), dtype=torch.int8)
    width = group or columns
    scale = torch.rand(channels, -(-columns // width)) * 0.01 + 0.001
    weight = codes.float() * scale.repeat_interleave(width, 1)[:, :columns]
    bias = torch.randn(channels)
    padded = torch.nn.functional.pad(bias, (0, -channels % 64))
    packed, scales = torch.ops.repquant.pack_weight_only(
        pack(codes, bits), scale if group else scale.flatten(), bits, columns, group)
    words = [packed.flatten().view(torch.int64), scales.flatten().view(torch.int64)]
    megabytes = sum(8 * word.numel() for word in words) * 1e-6
    for rows in ROWS:
        x = torch.randn(rows, columns)
        fused = lambda: torch.ops.repquant.weight_only_linear(
            x, packed, scales, padded, channels, columns, bits, group, 0)
        plain = lambda: torch.nn.functional.linear(x, weight, bias)
        read = lambda: [word.sum() for word in words]
        exact = torch.nn.functional.linear(x.double(), weight.double(), bias.double())
        error = ((fused() - exact).abs().max() / exact.abs().max()).item()
        if not error < 1e-4:  # inputs are rounded to 16 bits
            sys.exit(f"wrong result: {error}")
        # Both read after the float weight, which leaves nothing of theirs in the caches.
        turns = (plain, fused, plain, read) if rows == 1 else (plain, fused)
        times = [[seconds(call) for call in turns] for _ in range(runs + 2)][2:]
        own = statistics.median(run[1] for run in times)
        line = (f"{channels:6d} x {columns:5d}  w{bits} {group or 'row':>4}  rows {rows:3d}"
                f"  {1e3 * own:8.3f} ms  float32 / it {spread([run[0] / run[1] for run in times])}")
        if rows == 1:
            gigabytes = megabytes * 1e-3 / statistics.median(run[3] for run in times)
            line += (f"  it / read {spread([run[1] / run[3] for run in times])}"
                     f"  {megabytes:.1f} MB at {gigabytes:.1f} GB/s")
        print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path,
                        default=ROOT / "build/release/src/ops/librepquant_ops.so")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--only", default="", help="CHANNELSxCOLUMNS")
    arguments = parser.parse_args()
    torch.ops.load_library(str(arguments.library.resolve()))
    torch.set_num_threads(1)
    torch.manual_seed(1)
    print(f"instruction set {torch.ops.repquant.cpu_level()}")
    with torch.inference_mode():
        for channels, columns in SHAPES:
            if arguments.only not in ("", f"{channels}x{columns}"):
                continue
            for bits, group in WEIGHTS:
                measure(channels, columns, bits, group, arguments.runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
