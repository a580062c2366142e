#!/usr/bin/env python3
"""Evaluates TorchScript models on an image folder with PIL and stock PyTorch.

An independent check of `repquant evaluate`: it shares no code with it. Prints one JSON object:
per model top-1 and top-5 with a 95 % interval and, against --reference, top-1 agreement, mean
KL divergence and the signal-to-quantization-noise ratio (SQNR) of the logits in dB.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

import pil_preprocess


def wilson_interval(hits: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion, in [0, 1]."""
    share = hits / count
    scale = 1.0 + z * z / count
    center = (share + z * z / (2 * count)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, center - half), min(1.0, center + half)


def accuracy(logits: np.ndarray, labels: np.ndarray, k: int) -> dict[str, Any]:
    """Top-k accuracy of [N, classes] logits; a tie counts against the model."""
    own = logits[np.arange(len(labels)), labels][:, None]
    better = (logits >= own).sum(axis=1) - 1
    hits = int((better < k).sum())
    low, high = wilson_interval(hits, len(labels))
    return {"value": hits / len(labels), "hits": hits, "low": low, "high": high}


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def compare(reference: np.ndarray, logits: np.ndarray) -> dict[str, float | None]:
    """Agreement, mean KL(reference || model) in nats, logit SQNR in dB; inputs [N, classes]."""
    reference, logits = reference.astype(np.float64), logits.astype(np.float64)
    log_p, log_q = log_softmax(reference), log_softmax(logits)
    noise = float(((reference - logits) ** 2).sum())
    signal = float((reference**2).sum())
    return {
        "agreement": float((reference.argmax(1) == logits.argmax(1)).mean()),
        "kl": float((np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean()),
        # Equal logits have no noise; JSON has no infinity.
        "sqnr_db": 10 * math.log10(signal / noise) if noise > 0 else None,
        "max_abs_difference": float(np.abs(reference - logits).max()),
    }


def load_model(path: Path) -> tuple[Any, dict[str, Any] | None]:
    """The module in eval mode and the preset stored in the archive, if there is one."""
    extra = {"preprocess.json": ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
    text = extra["preprocess.json"]
    preset = pil_preprocess.check_preset(json.loads(text), str(path)) if text else None
    return module.eval(), preset


def run_model(module: Any, images: list[np.ndarray], batch_size: int) -> np.ndarray:
    """[N, classes] float32 logits."""
    parts = []
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for start in range(0, len(images), batch_size):
            batch = torch.from_numpy(np.stack(images[start : start + batch_size]))
            parts.append(module(batch).float().numpy())
    return np.concatenate(parts)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", type=Path, help="TorchScript files")
    parser.add_argument("--data", required=True, type=Path, help="folder with class folders")
    parser.add_argument("--classes", type=Path, help="tab-separated class index, id, name")
    parser.add_argument("--reference", type=Path, help="TorchScript file to compare with")
    parser.add_argument("--preset", type=Path, help="preset JSON (default: stored in the model)")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=int, help="use only the first N images")
    parser.add_argument("--save-logits", type=Path, help="write .npz: files, labels, one per model")
    return parser.parse_args(argv)


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(args.threads)
    paths = list(dict.fromkeys([*([args.reference] if args.reference else []), *args.models]))
    loaded = {path: load_model(path) for path in paths}
    presets = [preset for _, preset in loaded.values() if preset]
    if args.preset:
        preset = pil_preprocess.read_preset(args.preset)
    elif presets:
        preset = presets[0]
        if any(other != preset for other in presets):
            raise ValueError("the models carry different presets; say which with --preset")
    else:
        raise ValueError("no model carries a preset; give one with --preset")

    files = pil_preprocess.list_images(args.data)[: args.limit]
    if not files:
        raise ValueError(f"no images in class folders under {args.data}")
    indices = pil_preprocess.class_indices([name for _, name in files], args.classes)
    labels = np.array([indices[name] for _, name in files])
    images = [pil_preprocess.load_image(path, preset) for path, _ in files]

    logits = {path: run_model(loaded[path][0], images, args.batch_size) for path in paths}
    for path, values in logits.items():
        if args.classes is None and values.shape[1] != len(indices):
            raise ValueError(
                f"{path}: {values.shape[1]} logits, {len(indices)} class folders; give --classes"
            )
    results = []
    for path in args.models:
        row: dict[str, Any] = {"model": str(path), "bytes": path.stat().st_size}
        row["top1"] = accuracy(logits[path], labels, 1)
        row["top5"] = accuracy(logits[path], labels, 5)
        if args.reference:
            row["against_reference"] = compare(logits[args.reference], logits[path])
        results.append(row)
    if args.save_logits:
        arrays = {f"logits_{index}": logits[path] for index, path in enumerate(args.models)}
        names = np.array([path.relative_to(args.data).as_posix() for path, _ in files])
        np.savez(args.save_logits, files=names, labels=labels, **arrays)
    return {
        "schema_version": 1,
        "images": len(files),
        "preprocess": preset,
        "batch_size": args.batch_size,
        "threads": args.threads,
        "results": results,
    }


def main(argv: list[str] | None = None) -> int:
    try:
        print(json.dumps(evaluate(parse_args(argv)), indent=2))
    except (ValueError, OSError) as error:
        print(f"reference_eval.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
