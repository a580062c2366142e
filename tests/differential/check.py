"""One seed of the differential test: quantize a random transformer, hold the tool to its word.

`check(seed, ...)` gives a Result whose findings are empty if all of this holds: the program ends with
exit code 0; the coverage table adds up to the tensors of the file; the portable and the fused form
give the same outputs, up to rounding that falls the other way, at another batch size and, where the
model takes any, another length; at w8a8 the outputs keep 20 dB on samples that were not fitted.
"""

from __future__ import annotations

import dataclasses
import json
import math
import random
import subprocess
import time
from pathlib import Path

import numpy as np
import torch

import models

CALIBRATION, TEST = 24, 8
LEAST_W8A8_DB = 20.0
# The forms may differ where a value lies on the edge between two codes: by less than the
# quantization itself does. In a small batch one such code may be more, so most of several draws count.
FORMS_BELOW_ERROR_DB, FORMS_EQUAL_DB, DRAWS = 6.0, 40.0, 3
SETTINGS = (
    "norm.granularity=per_tensor",
    "input.granularity=per_token",
    "norm.granularity=per_token",
    "attention.per_head=false",
    "weights.compensation=none",
    "embedding.bits=0",
    "norm.clipping=percentile",
    "attention.quantize=false",
    "input.group_size=8",
    "input.group_size=32",
    "weights.group_size=8",
)


@dataclasses.dataclass
class Result:
    spec: str
    command: str = ""
    findings: list[str] = dataclasses.field(default_factory=list)
    sqnr_db: float | None = None
    covered: float | None = None
    seconds: float = 0.0


def sqnr_db(expected: torch.Tensor, actual: torch.Tensor) -> float:
    expected, actual = expected.double(), actual.double()
    if expected.shape != actual.shape or not torch.isfinite(actual).all():
        return -math.inf
    noise = float((expected - actual).square().sum())
    signal = float(expected.square().sum())
    return math.inf if noise == 0 else 10 * math.log10(max(signal, 1e-30) / noise)


def outputs(model: torch.nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    with torch.inference_mode():
        y = model(x)
    return list(y) if isinstance(y, tuple) else [y]


def worst_db(expected: list[torch.Tensor], actual: list[torch.Tensor]) -> float:
    return min(sqnr_db(e, a) for e, a in zip(expected, actual, strict=True))


def last_lines(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("warning")]
    return " / ".join(lines[-4:])[:500]


def check_coverage(coverage: dict, parameters: int, shared: int, findings: list[str]) -> None:
    """`parameters`: of the file; `shared`: those that two sites read, which count for both."""
    rows, gaps = coverage["rows"], coverage["not_quantized"]
    counted = sum(row["parameters"] for row in rows)
    if counted != coverage["quantized_parameters"]:
        findings.append(
            f"rows hold {counted} parameters, the table says {coverage['quantized_parameters']}"
        )
    stated, unread = coverage["parameters"], coverage["unread_parameters"]
    if stated + unread != parameters + shared:
        findings.append(
            f"the file holds {parameters} parameters, {shared} of them twice; "
            f"the table says {stated} and {unread} unread"
        )
    if counted + sum(gap["parameters"] for gap in gaps) > stated:
        findings.append("rows and gaps hold more parameters than there are")
    for name in ("parameter_share", "mac_share"):
        if not 0.0 <= coverage[name] <= 1.0:
            findings.append(f"{name} is {coverage[name]}")
    for gap in gaps:
        if not gap["reason"]:
            findings.append(f"no reason for {gap['path']} ({gap['op']})")


def draw_command(seed: int) -> tuple[str, list[str]]:
    rng = random.Random(seed * 7919 + 1)
    bits = rng.choice(("w8a8", "w8a8", "w8a8", "w4a8", "w6a6", "w4a4", "w3a3", "w4a16", "w8a16"))
    options = ["--effort", rng.choice(("fast", "standard"))]
    drawn = {}  # a name has one value
    for setting in SETTINGS:
        if rng.random() < 0.06:
            drawn.setdefault(setting.split("=")[0], setting)
    for setting in drawn.values():
        options += ["--set", setting]
    return bits, options


def check(seed: int, program: Path, folder: Path, load_fused, keep: bool = False) -> Result:
    """`load_fused`: repquant.load of the Python module, or None to leave the fused form out."""
    started = time.perf_counter()
    spec = models.draw(seed)
    result = Result(spec=str(spec))
    model = models.build(spec)
    example = models.samples(spec, 2, seed=1)
    traced = (
        torch.jit.script(model)
        if spec.script
        else torch.jit.trace(model, example, check_trace=False)
    )
    file, calib, artifact = (folder / f"{seed}{end}" for end in (".pt", ".npz", ".q.pt"))
    torch.jit.save(traced, file)
    calibration = models.samples(spec, CALIBRATION, seed=2)
    if calibration.is_floating_point():
        calibration = calibration.float()
    np.savez(calib, x=calibration.numpy())
    bits, options = draw_command(seed)
    command = [
        str(program),
        "quantize",
        str(file),
        "--bits",
        bits,
        "--calib",
        str(calib),
        "-o",
        str(artifact),
        "--json",
        "--threads",
        "1",
        "--force",
        *options,
    ]
    result.command = " ".join(["quantize", "--bits", bits, *options])
    run = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=600, check=False
    )
    if run.returncode != 0:
        result.findings.append(f"exit code {run.returncode}: {last_lines(run.stderr)}")
    else:
        compare(
            spec, model, traced, json.loads(run.stdout), artifact, bits, options, load_fused, result
        )
    if not keep and not result.findings:
        for path in (file, calib, artifact):
            path.unlink(missing_ok=True)
    result.seconds = round(time.perf_counter() - started, 2)
    return result


def compare(
    spec: models.Spec,
    model,
    traced,
    report: dict,
    artifact: Path,
    bits: str,
    options: list[str],
    load_fused,
    result: Result,
) -> None:
    coverage = report["coverage"]
    tensors = {t.data_ptr(): t for t in (*traced.parameters(), *traced.buffers())}
    parameters = sum(t.numel() for t in tensors.values() if t.is_floating_point())
    tied = spec.head == "tied" and spec.source == "tokens"
    shared = model.embedding.weight.numel() if tied else 0
    check_coverage(coverage, parameters, shared, result.findings)
    result.covered = coverage["mac_share"]
    portable = torch.jit.load(artifact)
    fused = load_fused(str(artifact)) if load_fused else None
    trials = [("test", TEST, spec.tokens), ("batch of one", 1, spec.tokens)]
    if spec.source in ("vectors", "tokens", "patches_1d"):
        longer = models.samples(spec, 3, seed=5, tokens=spec.tokens + 2)
        with torch.inference_mode():
            try:  # a trace may have fixed the length
                dynamic = (
                    worst_db(
                        outputs(
                            model.to(longer.dtype if longer.is_floating_point() else torch.float32),
                            longer,
                        ),
                        outputs(traced, longer),
                    )
                    > 20
                )
            except RuntimeError:
                dynamic = False
        if dynamic:
            trials.append(("another length", len(longer), spec.tokens + 2))
    reference = model.float()
    for seed, (name, count, tokens) in enumerate(trials, 3):
        x = single(models.samples(spec, count, seed=seed, tokens=tokens))
        expected = outputs(reference, x)
        try:
            got = outputs(portable, x)
        except RuntimeError as error:
            result.findings.append(
                f"portable fails on {name}: {str(error).strip().splitlines()[-1][:200]}"
            )
            continue
        own = worst_db(expected, got)
        if name == "test":
            result.sqnr_db = round(own, 1)
            if own == -math.inf:
                result.findings.append("outputs of another shape, or not finite")
            elif bits == "w8a8" and own < LEAST_W8A8_DB:
                result.findings.append(f"w8a8 keeps {own:.1f} dB on other samples")
        if fused is None:
            continue
        draws = [(got, own, x)]
        for draw in range(1, DRAWS):
            x = single(models.samples(spec, count, seed=10 * seed + draw, tokens=tokens))
            got = outputs(portable, x)
            draws.append((got, worst_db(outputs(reference, x), got), x))
        try:
            apart = [far_apart(got, own, outputs(fused, x)) for got, own, x in draws]
        except RuntimeError as error:
            result.findings.append(
                f"fused fails on {name}: {str(error).strip().splitlines()[-1][:200]}"
            )
            continue
        if sum(text is not None for text in apart) > DRAWS // 2:
            result.findings.append(f"{name}: {next(text for text in apart if text)}")


def single(x: torch.Tensor) -> torch.Tensor:
    return x.float() if x.is_floating_point() else x


def far_apart(portable, own: float, fused) -> str | None:
    """What is wrong with outputs of the two forms; `own`: the portable one against the model."""
    difference = worst_db(portable, fused)
    if difference >= min(FORMS_EQUAL_DB, own + FORMS_BELOW_ERROR_DB):
        return None
    return f"fused differs from portable by {difference:.1f} dB, quantization itself by {own:.1f} dB"
