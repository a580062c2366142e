#!/usr/bin/env python3
"""Prints where the time of a fused artifact goes: share of each operator, by shape of its output.

    profile_fused.py model.w8a8.pt --input-shape 1,3,224,224

Times are self times of LibTorch's profiler over --rounds passes; what it adds to each call (about a
microsecond) is part of them. Needs torch==2.13.0 and the package repquant (REPQUANT_LIBRARY).
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))


def shape_text(name: str, shapes: list[list[int]]) -> str:
    """What tells calls apart: rows x inputs -> outputs of a product, else the first input."""
    if not shapes or not shapes[0]:
        return ""
    first = shapes[0]
    if name.startswith("repquant::linear") and len(shapes) > 3 and shapes[3]:
        rows = 1
        for size in first[:-1]:
            rows *= size
        return f"{rows} x {first[-1]} -> {shapes[3][0]}"
    return " x ".join(map(str, first))


def profile(model: Any, x: torch.Tensor, rounds: int) -> list[tuple[str, str, int, float]]:
    """(operator, shape, calls a pass, microseconds a pass), the longest first."""
    with torch.inference_mode():
        for _ in range(4):
            model(x)
        with torch.autograd.profiler.profile(record_shapes=True) as profiler:
            for _ in range(rounds):
                model(x)
    times: dict[tuple[str, str], float] = defaultdict(float)
    calls: dict[tuple[str, str], int] = defaultdict(int)
    for event in profiler.function_events:
        key = (event.name, shape_text(event.name, event.input_shapes))
        times[key] += event.self_cpu_time_total
        calls[key] += 1
    rows = [(name, shape, calls[name, shape] // rounds, time / rounds)
            for (name, shape), time in times.items()]
    return sorted(rows, key=lambda row: -row[3])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--input-shape", required=True, help="with the batch: 1,3,224,224")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--least-share", type=float, default=0.5, metavar="PERCENT",
                        help="operators below this are summed up as others")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    import repquant

    try:
        model = repquant.load(args.artifact)
    except (RuntimeError, FileNotFoundError) as error:
        print(f"profile_fused: error: {str(error).splitlines()[0]}", file=sys.stderr)
        return 1
    shape = [int(size) for size in args.input_shape.split(",")]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    rows = profile(model, x, args.rounds)
    total = sum(time for *_, time in rows)
    print("| operator | shape | calls | ms | share |\n| --- | --- | --- | --- | --- |")
    rest = 0.0
    for name, text, calls, time in rows:
        if 100 * time < args.least_share * total:
            rest += time
            continue
        print(f"| {name} | {text} | {calls} | {1e-3 * time:.2f} | {100 * time / total:.1f} % |")
    print(f"| others | | | {1e-3 * rest:.2f} | {100 * rest / total:.1f} % |")
    print(f"| all | | | {1e-3 * total:.2f} | |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
