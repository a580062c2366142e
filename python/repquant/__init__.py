"""Runs artifacts of repquant with fused integer operators.

    import repquant
    model = repquant.load("model.w4a4.pt")
    logits = model(images)

Stock PyTorch loads the same file with torch.jit.load; this package is only needed for speed and for
packed weights in memory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import torch

__all__ = ["LoadedSite", "LoadReport", "cpu_level", "library_path", "load", "load_with_report",
           "set_cpu_level"]

_NAME = "librepquant_loader.so"
_PACKAGE = Path(__file__).resolve().parent


class LoadedSite(NamedTuple):
    """How one submodule of the artifact runs."""

    module: str
    op: str
    fused: bool
    reason: str


class LoadReport(NamedTuple):
    cpu_level: str
    sites: list[LoadedSite]


def library_path() -> Path:
    """The shared library: $REPQUANT_LIBRARY, beside this package, or in an installation's lib."""
    named = os.environ.get("REPQUANT_LIBRARY")
    if named:
        return Path(named)
    candidates = [_PACKAGE / _NAME]
    for parent in _PACKAGE.parents:
        candidates += [parent / "lib" / _NAME, *parent.glob(f"lib/*-linux-gnu/{_NAME}")]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"{_NAME} was not found beside {_PACKAGE} or in a lib folder above it; "
        "set REPQUANT_LIBRARY to its path")


def _operators():
    if not hasattr(torch.ops.repquant, "load"):
        torch.ops.load_library(str(library_path()))
    return torch.ops.repquant


def load_with_report(path: str | os.PathLike,
                     fused: bool = True) -> tuple[torch.jit.ScriptModule, LoadReport]:
    """As load(), and how each submodule runs.

    Raises RuntimeError, with what is wrong with the file and a hint.
    """
    module, level, sites = _operators().load(os.fspath(path), fused)
    report = LoadReport(level, [LoadedSite(*site) for site in sites])
    return torch.jit._recursive.wrap_cpp_module(module), report


def load(path: str | os.PathLike, fused: bool = True) -> torch.jit.ScriptModule:
    """Loads an artifact: a module with the signature of the model that was quantized.

    fused=False keeps the portable operators, as torch.jit.load does.
    """
    return load_with_report(path, fused)[0]


def cpu_level() -> str:
    """Instruction set of the fused operators: generic, avx2 or avx512vnni."""
    return _operators().cpu_level()


def set_cpu_level(level: str) -> str:
    """Forces a lower instruction set; returns the one in use. Results do not depend on it."""
    return _operators().set_cpu_level(level)
