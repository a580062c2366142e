"""Writes TorchScript archives without what depends on the machine that made them."""

from __future__ import annotations

import os
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

# Source ranges carry absolute paths; traced inputs are not read back by any loader.
DROPPED_SUFFIX = ".debug_pkl"
DROPPED_PREFIX = "traced_inputs"
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the zip format's zero: no time of writing in the file


def save_portable(module: Any, path: Path, extra_files: dict[str, bytes] | None = None,
                  deflate_tensors: bool = False) -> None:
    """Saves a ScriptModule; equal modules give equal bytes.

    deflate_tensors: a smaller file for tensors with few significant bits, which loaders read but
    cannot map into memory.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        raw = os.path.join(folder, "raw.pt")
        final = os.path.join(folder, path.name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.save(module, raw, _extra_files=extra_files or {})
        reader = torch._C.PyTorchFileReader(raw)
        with zipfile.ZipFile(final, "w", compresslevel=9) as archive:
            for name in sorted(reader.get_all_records()):
                if name.endswith(DROPPED_SUFFIX) or name.startswith(DROPPED_PREFIX):
                    continue
                entry = zipfile.ZipInfo(f"archive/{name}", EARLIEST)
                is_tensor = name.startswith(("data/", "constants/")) and not deflate_tensors
                entry.compress_type = zipfile.ZIP_STORED if is_tensor else zipfile.ZIP_DEFLATED
                archive.writestr(entry, reader.get_record(name))
        os.replace(final, path)
