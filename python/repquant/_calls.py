"""Quantization and evaluation: what the program does, as functions."""

from __future__ import annotations

import json
import os
import threading
import warnings
from typing import Any, Iterable

import torch

from repquant._library import calls, raise_error

Path = "str | os.PathLike"


def _plain(value: Any) -> Any:
    """Paths as text, so that JSON can hold them."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value


def _listed(value: Any) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _call(function: str, arguments: dict[str, Any]) -> dict[str, Any]:
    given = {key: _plain(value) for key, value in arguments.items() if value is not None}
    given.setdefault("threads", torch.get_num_threads())
    # Python handles signals on its main thread, and so does the work.
    given["interruptible"] = threading.current_thread() is threading.main_thread()
    answer = json.loads(calls().call(function, json.dumps(given)))
    for text in answer["warnings"]:
        warnings.warn(text, stacklevel=3)
    if "error" in answer:
        error = answer["error"]
        raise_error(error["kind"], error["what"], error["where"], error["expected"], error["got"],
                    error["hint"])
    return answer["result"]


def quantize(model: Path, output: Path, *, calib: Path | None = None, bits: str | None = None,
             recipe: Path | None = None, threads: int | None = None, force: bool = False,
             progress: bool = False, **settings: Any) -> dict[str, Any]:
    """Quantizes a TorchScript file into a verified integer artifact.

        report = repquant.quantize("model.pt", "model.w4a8.pt", bits="w4a8", calib="calib.npz",
                                   weights={"group_size": 32}, calibration={"samples": 64})

    calib: a file or folder of samples, or "synthetic" for random numbers (structure and speed only).
    bits: "w8a8", "w4a4", "w4a16" ... recipe: a ready recipe ("paper", "static", "w4a16")
    or a file, below the keyword arguments.
    threads: those of PyTorch if not given. force: replaces an existing output. progress: on stderr.
    settings: sections of the recipe as dictionaries (norm, attention, weights, input, first_layer,
    last_layer, embedding, calibration, learning), its settings effort, exclude and overrides; and input_shape,
    preset, window, stride, bos, document, dtype, target_bits, max_kl, time_limit (seconds),
    candidates, strict, min_coverage, min_sqnr, min_agreement, workdir, resume, trust: as the options
    of `repquant quantize`.

    Returns the report that `repquant quantize --json` writes. Raises Error; warnings are Python's.
    """
    return _call("quantize", {"model": model, "output": output, "calib": calib, "bits": bits,
                              "recipe": recipe, "threads": threads, "force": force,
                              "progress": progress, **settings})


def evaluate(models: Path | Iterable[Path], data: Path, *, reference: Path | None = None,
             task: str | None = None, form: str | Iterable[str] | None = None,
             threads: int | None = None, progress: bool = False,
             **settings: Any) -> dict[str, Any]:
    """Measures models, quantized or not, on data.

        result = repquant.evaluate("model.w4a8.pt", "test.npz", reference="model.pt", form="fused")
        print(result["models"][0]["agreement"]["value"], result["models"][0]["kl"])

    task: "classification", "perplexity", "embedding" or "retrieval". reference: the floating-point
    model to agree with. form: "portable", "fused" or both.
    settings: labels, classes, texts, words, outputs, samples, seed, batch_size, preset, window,
    stride, bos, document, dtype, trust: as the options of `repquant evaluate`.

    Returns the report that `repquant evaluate --json` writes. Raises Error.
    """
    return _call("evaluate", {"models": _listed(models), "data": data, "reference": reference,
                              "task": task, "forms": None if form is None else _listed(form),
                              "threads": threads, "progress": progress, **settings})
