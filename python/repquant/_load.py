"""Artifacts with fused integer operators."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch

from repquant._library import loader, raise_error


class LoadedSite(NamedTuple):
    """How one submodule of the artifact runs."""

    module: str
    op: str
    fused: bool
    reason: str


class LoadReport(NamedTuple):
    cpu_level: str
    sites: list[LoadedSite]


def load_with_report(path: str | os.PathLike, fused: bool = True,
                     trust: bool = False) -> tuple[torch.jit.ScriptModule, LoadReport]:
    """As load(), and how each submodule runs."""
    module, level, sites, error = loader().load(os.fspath(path), fused, trust)
    if error:
        raise_error(*error)
    report = LoadReport(level, [LoadedSite(*site) for site in sites])
    return torch.jit._recursive.wrap_cpp_module(module), report


def load(path: str | os.PathLike, fused: bool = True,
         trust: bool = False) -> torch.jit.ScriptModule:
    """Loads an artifact: a module with the signature of the model that was quantized.

    fused=False keeps the portable operators, as torch.jit.load does. trust=True: the file's code may
    reach files and processes. Raises Error, of kind "file" or "unsupported".
    """
    return load_with_report(path, fused, trust)[0]


def cpu_level() -> str:
    """Instruction set of the fused operators: generic, avx2, avx512vnni or onednn."""
    return loader().cpu_level()


def set_cpu_level(level: str) -> str:
    """Forces a lower instruction set; returns the one in use. Results do not depend on it."""
    return loader().set_cpu_level(level)
