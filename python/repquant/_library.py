"""The shared libraries of repquant, and their errors."""

from __future__ import annotations

import os
from pathlib import Path

import torch

_LOADER = "librepquant_loader.so"  # of artifacts: all that deployment needs
_CALLS = "librepquant_calls.so"  # everything else
_PACKAGE = Path(__file__).resolve().parent


class Error(RuntimeError):
    """What repquant refuses or fails at.

    kind is one of gate, usage, unsupported, file, resource, numerical and internal; what is
    one sentence; where names a site, a file or a setting; expected, got and hint may be empty.
    Settings stand in backticks, by the names of the keyword arguments: `calib`, `threads`; those of
    the recipe with their section: `weights.group_size`.
    """

    def __init__(self, kind: str, what: str, where: str = "", expected: str = "", got: str = "",
                 hint: str = "") -> None:
        self.kind, self.what, self.where = kind, what, where
        self.expected, self.got, self.hint = expected, got, hint
        parts = [("where", where), ("expected", expected), ("got", got), ("try", hint)]
        super().__init__("\n  ".join([what] + [f"{name}: {text}" for name, text in parts if text]))

    def __reduce__(self):
        return Error, (self.kind, self.what, self.where, self.expected, self.got, self.hint)


def raise_error(kind: str, *parts: str) -> None:
    if kind == "interrupted":
        raise KeyboardInterrupt
    raise Error(kind, *parts)


def _find(name: str) -> Path:
    named = os.environ.get("REPQUANT_LIBRARY")
    if named:
        return Path(named).with_name(name) if name != _LOADER else Path(named)
    candidates = [_PACKAGE / name]
    for parent in _PACKAGE.parents:
        candidates += [parent / "lib" / name, *parent.glob(f"lib/*-linux-gnu/{name}")]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(f"{name} was not found beside {_PACKAGE} or in a lib folder above it; "
                            f"set REPQUANT_LIBRARY to the path of {_LOADER}")


def library_path() -> Path:
    """The loader: $REPQUANT_LIBRARY, beside this package, or in an installation's lib."""
    return _find(_LOADER)


def loader():
    """The operators that deployment needs."""
    if not hasattr(torch.ops.repquant, "load"):
        torch.ops.load_library(str(library_path()))
    return torch.ops.repquant


def calls():
    """The operator that runs the rest, JSON in and out."""
    if not hasattr(torch.ops.repquant, "call"):
        torch.ops.load_library(str(_find(_CALLS)))
    return torch.ops.repquant
