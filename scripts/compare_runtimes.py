#!/usr/bin/env python3
"""Times one model in several runtimes, in turns, in one process, and compares what they give.

    compare_runtimes.py model.pt model.w8a8.pt --calib images/ --batch-sizes 1,8 --json > c.json
    plot_latency.py c.json --output comparison.svg

Measured are the TorchScript file frozen, the same in bfloat16, its export in ONNX Runtime as float32
and as static int8 (QDQ, weights per channel), the same in OpenVINO (int8 by NNCF), and every artifact
with stock operators and fused (package repquant; REPQUANT_LIBRARY names its library). Every round
runs each of them once, starting with another one each time; a speed-up is the median over the rounds
of baseline / contender, once over TorchScript float32 and once over OpenVINO float32, whichever is
the stronger baseline on a processor. Before anything is timed the outputs are compared with those of
TorchScript float32, on samples that nothing was calibrated on.

Needs torch==2.13.0; for ONNX Runtime also scripts/requirements-onnxruntime.txt (or --no-onnx), for
OpenVINO scripts/requirements-openvino.txt (or --no-openvino).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))

import pil_preprocess  # noqa: E402
from reference_eval import load_model  # noqa: E402
from runtime_contenders import (  # noqa: E402
    CompareError, Contender, Inputs, artifact_contenders, onnx_contenders, openvino_contenders,
    torch_contenders)

SCHEMA_VERSION = 2
BASELINES = ("fp32", "openvino fp32")


def sqnr_db(expected: torch.Tensor, got: torch.Tensor) -> float:
    """10 log10(signal / error); infinite for equal outputs."""
    noise = (expected.double() - got.double()).square().sum().item()
    return 10 * math.log10(expected.double().square().sum().item() / noise) if noise else math.inf


def median_interval(values: list[float]) -> tuple[float, float]:
    """The 95 % interval of the median by order statistics, as `repquant benchmark` prints it."""
    ordered, n = sorted(values), len(values)
    below, rank = 0.0, 0
    for i in range(n):
        below += math.comb(n, i) * 0.5**n
        if below > 0.025:
            break
        rank = i + 1
    rank = max(rank, 1)
    return ordered[rank - 1], ordered[n - rank]


def read_samples(path: Path, preset: dict[str, Any] | None, count: int, other: int,
                 names: list[str]) -> tuple[Inputs, Inputs]:
    """`count` samples to calibrate on and `other` ones to compare on: evenly spaced images of a
    folder, or the first samples of an array or of the arrays named after the model's inputs."""
    if path.is_dir():
        if preset is None:
            raise CompareError(f"the model stores no preprocessing for the images of {path}; "
                               "give an array (.npy, .npz) instead")
        files = [file for file, _ in pil_preprocess.list_images(path)]
        total = min(count + other, len(files))
        chosen = [files[i * len(files) // total] for i in range(total)]
        arrays = [np.stack([pil_preprocess.load_image(file, preset) for file in chosen])
                  ] if chosen else []
    else:
        try:
            found = np.load(path)
        except (OSError, ValueError) as error:
            raise CompareError(f"cannot read {path}: {error}") from error
        if isinstance(found, np.lib.npyio.NpzFile):
            arrays = [found[name] for name in (
                names if set(names) <= set(found.files) else found.files[:1])]
        else:
            arrays = [found]
    if not arrays or len(arrays[0]) < 2:
        raise CompareError(f"{path} holds fewer than two samples")
    count = min(count, len(arrays[0]) - 1)
    tensors = [torch.from_numpy(np.ascontiguousarray(
        array[:count + other], np.float32 if array.dtype.kind == "f" else np.int64))
        for array in arrays]
    # Every other one: neighbours in a folder are alike.
    step = max(1, len(tensors[0]) // count)
    fitted = torch.arange(0, len(tensors[0]), step)[:count]
    rest = torch.ones(len(tensors[0]), dtype=torch.bool)
    rest[fitted] = False
    return [x[fitted] for x in tensors], [x[rest][:other] for x in tensors]


def check_outputs(contenders: list[Contender], inputs: Inputs) -> None:
    """Correctness comes before any timing."""
    expected = contenders[0].run(inputs)
    for contender in contenders:
        got = contender.run(inputs)
        if got.shape != expected.shape or not torch.isfinite(got).all():
            raise CompareError(f"{contender.name}: outputs {list(got.shape)}, expected finite ones "
                               f"of shape {list(expected.shape)}")
        contender.sqnr_db = sqnr_db(expected, got)
        if contender.sqnr_db < contender.least_db:
            raise CompareError(f"{contender.name}: outputs are {contender.sqnr_db:.1f} dB from the "
                               f"baseline, at least {contender.least_db:.0f} dB expected")


def measure(contenders: list[Contender], inputs: Inputs, warmup: int,
            rounds: int) -> list[dict[str, Any]]:
    for contender in contenders:
        contender.seconds = []
        for _ in range(warmup):
            contender.run(inputs)
    for turn in range(rounds):
        for k in range(len(contenders)):
            contender = contenders[(k + turn) % len(contenders)]
            start = time.perf_counter()
            contender.run(inputs)
            contender.seconds.append(time.perf_counter() - start)
    return [row_of(contender, contenders, len(inputs[0])) for contender in contenders]


def row_of(contender: Contender, contenders: list[Contender], size: int) -> dict[str, Any]:
    row = {"contender": contender.name, "batch_size": size,
           "sqnr_db": contender.sqnr_db if math.isfinite(contender.sqnr_db) else None,
           "file_bytes": contender.file_bytes, "quantize_seconds": contender.quantize_seconds,
           "seconds": {"median": statistics.median(contender.seconds),
                       "minimum": min(contender.seconds)}}
    for key, name in zip(("speed_up", "speed_up_openvino"), BASELINES):
        baseline = next((other for other in contenders if other.name == name), None)
        if baseline is not None:
            ratios = [a / b for a, b in zip(baseline.seconds, contender.seconds)]
            row[key] = {"median": statistics.median(ratios),
                        "interval95": list(median_interval(ratios))}
    return row


def ratio_text(speed_up: dict[str, Any] | None) -> str:
    if speed_up is None:
        return "-"
    low, high = speed_up["interval95"]
    return f"{speed_up['median']:.2f}x ({low:.2f} - {high:.2f})"


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| batch | runtime | median ms | over TorchScript FP32 | over OpenVINO FP32 | SQNR dB "
             "| file MB | quantized in s |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]

    def number(value: float | None, digits: int = 1) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    for row in rows:
        size = None if row["file_bytes"] is None else row["file_bytes"] / 1e6
        lines.append(f"| {row['batch_size']} | {row['contender']} "
                     f"| {1e3 * row['seconds']['median']:.2f} | {ratio_text(row['speed_up'])} "
                     f"| {ratio_text(row.get('speed_up_openvino'))} | {number(row['sqnr_db'])} "
                     f"| {number(size)} | {number(row['quantize_seconds'])} |")
    return "\n".join(lines)


def names(text: str) -> list[str]:
    return [] if text == "all" else text.split(",")


def sizes(text: str) -> list[int]:
    try:
        found = [int(item) for item in text.split(",")]
    except ValueError:
        found = [0]
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of sizes such as 1,8")
    return found


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="floating-point TorchScript file")
    parser.add_argument("artifacts", nargs="*", type=Path, help="written by repquant quantize")
    parser.add_argument("--calib", required=True, type=Path, help="images, or an array of inputs")
    parser.add_argument("--calib-samples", type=int, default=16)
    parser.add_argument("--test-samples", type=int, default=16, help="others, to compare on")
    parser.add_argument("--batch-sizes", type=sizes, default=[1], metavar="SIZES")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warmup", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--no-onnx", action="store_true", help="leave ONNX Runtime out")
    parser.add_argument("--no-openvino", action="store_true", help="leave OpenVINO out")
    parser.add_argument("--no-bf16", action="store_true", help="leave bfloat16 out")
    parser.add_argument("--onnx-operators", type=names, default=["MatMul", "Gemm", "Conv"],
                        metavar="TYPES", help="what ONNX Runtime quantizes (default: products; "
                                              "all: whatever its tools can)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    args = parser.parse_args(argv)
    if min(args.calib_samples, args.test_samples, args.threads, args.warmup, args.rounds) < 1:
        parser.error("numbers must be at least 1")
    return args


def repeated(inputs: Inputs, size: int) -> Inputs:
    """The first `size` samples, from the start again where there are fewer."""
    index = torch.arange(size) % len(inputs[0])
    return [x[index] for x in inputs]


def compare(args: argparse.Namespace) -> list[dict[str, Any]]:
    torch.set_num_threads(args.threads)
    module, preset = load_model(args.model)
    inputs = [item.name for item in module.forward.schema.arguments][1:]
    samples, others = read_samples(args.calib, preset, args.calib_samples, args.test_samples, inputs)
    contenders = torch_contenders(args.model, not args.no_bf16)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        if not args.no_onnx:
            contenders += onnx_contenders(args.model, samples, args.onnx_operators, args.threads,
                                          Path(folder))
        if not args.no_openvino:
            contenders += openvino_contenders(args.model, samples, args.threads, Path(folder))
        for path in args.artifacts:
            contenders += artifact_contenders(path)
        check_outputs(contenders, others)
        rows = []
        for size in args.batch_sizes:
            rows += measure(contenders, repeated(samples, size), args.warmup, args.rounds)
    return rows


def main(argv: list[str] | None = None) -> int:
    # Read when the OpenMP library starts its threads: waiting ones must not spin.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    args = parse_args(argv)
    try:
        rows = compare(args)
    except (CompareError, FileNotFoundError) as error:
        print(f"compare_runtimes: error: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps({"schema_version": SCHEMA_VERSION, "command": "compare_runtimes",
                          "model": str(args.model), "threads": args.threads,
                          "rounds": args.rounds, "rows": rows}, indent=1))
    else:
        print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
