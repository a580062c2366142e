#!/usr/bin/env python3
"""Times one model in several runtimes, in turns, in one process.

    compare_runtimes.py model.pt model.w8a8.pt --calib images/ --batch-sizes 1,8

Measured are the TorchScript file frozen (the baseline of all ratios), the same in bfloat16, its
export in ONNX Runtime as float32 and as static int8 (QDQ, weights per channel, calibrated on --calib),
and every artifact with stock operators and fused (package repquant; REPQUANT_LIBRARY names its
library). Every round runs each of them once, starting with another one each time; a speed-up is the
median over the rounds of baseline / contender. Before anything is timed the outputs on samples of
--calib are compared with the baseline's.

Needs torch==2.13.0; for ONNX Runtime also scripts/requirements-onnxruntime.txt (or --no-onnx).
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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))

import pil_preprocess  # noqa: E402
from reference_eval import load_model  # noqa: E402

SCHEMA_VERSION = 1
EXPORT_DB = 60.0  # an exported float32 model differs from its source by rounding only
UNRELATED_DB = 0.0  # an error as large as the signal
OPSET = 20  # the first one with Gelu as one operator


class CompareError(Exception):
    """A problem the user can act on; printed without a traceback."""


@dataclass
class Contender:
    name: str
    run: Callable[[torch.Tensor], torch.Tensor]
    least_db: float = UNRELATED_DB
    sqnr_db: float = math.nan
    seconds: list[float] = field(default_factory=list)


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


def calibration_samples(path: Path, preset: dict[str, Any] | None, count: int) -> np.ndarray:
    """float32 [N, ..]: evenly spaced images of a folder, or the first samples of an array."""
    if path.is_dir():
        if preset is None:
            raise CompareError(f"the model stores no preprocessing for the images of {path}; "
                               "give an array (.npy, .npz) instead")
        files = [file for file, _ in pil_preprocess.list_images(path)]
        if not files:
            raise CompareError(f"no images in {path}")
        chosen = [files[i * len(files) // min(count, len(files))]
                  for i in range(min(count, len(files)))]
        return np.stack([pil_preprocess.load_image(file, preset) for file in chosen])
    try:
        array = np.load(path)
    except (OSError, ValueError) as error:
        raise CompareError(f"cannot read {path}: {error}") from error
    if isinstance(array, np.lib.npyio.NpzFile):
        array = array[array.files[0]]
    return np.ascontiguousarray(array[:count], np.float32)


def torch_contenders(path: Path, bf16: bool) -> list[Contender]:
    model = torch.jit.freeze(torch.jit.load(str(path)).eval())
    found = [Contender("fp32", model)]
    if bf16:
        half = torch.jit.freeze(torch.jit.load(str(path)).eval().to(torch.bfloat16))
        found.append(Contender("bf16", lambda x: half(x.to(torch.bfloat16)).float()))
    return found


def artifact_contenders(path: Path) -> list[Contender]:
    import repquant

    return [Contender(f"{path.name} portable", torch.jit.load(str(path)).eval()),
            Contender(f"{path.name} fused", repquant.load(path))]


def session(onnxruntime: Any, path: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait actively would take time from the other contenders.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def onnx_contenders(path: Path, samples: np.ndarray, operators: list[str], threads: int,
                    folder: Path) -> list[Contender]:
    """The model's export, as it is and quantized by ONNX Runtime's own tools."""
    try:
        import onnxruntime
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise CompareError(f"{error}; install scripts/requirements-onnxruntime.txt, "
                           "or leave ONNX Runtime out with --no-onnx") from error

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.samples = iter(samples)

        def get_next(self) -> dict[str, np.ndarray] | None:
            sample = next(self.samples, None)
            return None if sample is None else {"input": sample[None]}

    plain, prepared, quantized = (folder / f"{name}.onnx" for name in ("fp32", "pre", "int8"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a TorchScript module has no Python signature
        torch.onnx.export(torch.jit.load(str(path)).eval(), (torch.from_numpy(samples[:2]),),
                          str(plain), dynamo=False, opset_version=OPSET, input_names=["input"],
                          output_names=["output"],
                          dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}})
    quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(prepared), str(quantized), Reader(), quant_format=quantization.QuantFormat.QDQ,
        per_channel=True, activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8, op_types_to_quantize=operators or None)

    def contender(name: str, file: Path, least_db: float) -> Contender:
        runner = session(onnxruntime, file, threads)
        return Contender(name, lambda x: torch.from_numpy(
            runner.run(None, {"input": x.numpy()})[0]), least_db)

    return [contender("onnxruntime fp32", plain, EXPORT_DB),
            contender("onnxruntime int8", quantized, UNRELATED_DB)]


def check_outputs(contenders: list[Contender], x: torch.Tensor) -> None:
    """Correctness comes before any timing."""
    expected = contenders[0].run(x)
    for contender in contenders:
        got = contender.run(x)
        if got.shape != expected.shape or not torch.isfinite(got).all():
            raise CompareError(f"{contender.name}: outputs {list(got.shape)}, expected finite ones "
                               f"of shape {list(expected.shape)}")
        contender.sqnr_db = sqnr_db(expected, got)
        if contender.sqnr_db < contender.least_db:
            raise CompareError(f"{contender.name}: outputs are {contender.sqnr_db:.1f} dB from the "
                               f"baseline, at least {contender.least_db:.0f} dB expected")


def measure(contenders: list[Contender], x: torch.Tensor, warmup: int,
            rounds: int) -> list[dict[str, Any]]:
    for contender in contenders:
        contender.seconds = []
        for _ in range(warmup):
            contender.run(x)
    for turn in range(rounds):
        for k in range(len(contenders)):
            contender = contenders[(k + turn) % len(contenders)]
            start = time.perf_counter()
            contender.run(x)
            contender.seconds.append(time.perf_counter() - start)
    rows = []
    for contender in contenders:
        ratios = [a / b for a, b in zip(contenders[0].seconds, contender.seconds)]
        rows.append({"contender": contender.name, "batch_size": len(x),
                     "sqnr_db": contender.sqnr_db if math.isfinite(contender.sqnr_db) else None,
                     "seconds": {"median": statistics.median(contender.seconds),
                                 "minimum": min(contender.seconds)},
                     "speed_up": {"median": statistics.median(ratios),
                                  "interval95": list(median_interval(ratios))}})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| batch | runtime | median ms | speed-up | 95 % interval | SQNR dB |",
             "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        low, high = row["speed_up"]["interval95"]
        distance = "-" if row["sqnr_db"] is None else f"{row['sqnr_db']:.1f}"
        lines.append(f"| {row['batch_size']} | {row['contender']} "
                     f"| {1e3 * row['seconds']['median']:.2f} | {row['speed_up']['median']:.2f}x "
                     f"| {low:.2f} - {high:.2f} | {distance} |")
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
    parser.add_argument("--calib-samples", type=int, default=8)
    parser.add_argument("--batch-sizes", type=sizes, default=[1], metavar="SIZES")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--warmup", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--no-onnx", action="store_true", help="leave ONNX Runtime out")
    parser.add_argument("--no-bf16", action="store_true", help="leave bfloat16 out")
    parser.add_argument("--onnx-operators", type=names, default=["MatMul", "Gemm", "Conv"],
                        metavar="TYPES", help="what ONNX Runtime quantizes (default: products; "
                                              "all: whatever its tools can)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    args = parser.parse_args(argv)
    if min(args.calib_samples, args.threads, args.warmup, args.rounds) < 1:
        parser.error("numbers must be at least 1")
    return args


def compare(args: argparse.Namespace) -> list[dict[str, Any]]:
    torch.set_num_threads(args.threads)
    _, preset = load_model(args.model)
    samples = calibration_samples(args.calib, preset, args.calib_samples)
    contenders = torch_contenders(args.model, not args.no_bf16)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        if not args.no_onnx:
            contenders += onnx_contenders(args.model, samples, args.onnx_operators, args.threads,
                                          Path(folder))
        for path in args.artifacts:
            contenders += artifact_contenders(path)
        check_outputs(contenders, torch.from_numpy(samples))
        rows = []
        for size in args.batch_sizes:
            repeated = np.resize(samples, (size, *samples.shape[1:]))
            rows += measure(contenders, torch.from_numpy(repeated), args.warmup, args.rounds)
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
        print(json.dumps({"schema_version": SCHEMA_VERSION, "threads": args.threads,
                          "rounds": args.rounds, "rows": rows}, indent=1))
    else:
        print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
