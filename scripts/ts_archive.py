"""Writes TorchScript archives without what depends on the machine that made them."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

# Source ranges carry absolute paths; traced inputs are not read back by any loader. The writer
# adds the version and the serialization id itself.
DROPPED_SUFFIX = ".debug_pkl"
DROPPED_PREFIX = "traced_inputs"
WRITER_OWNED = ("version", ".data/serialization_id")


def save_portable(module: Any, path: Path, extra_files: dict[str, bytes] | None = None) -> None:
    """Saves a ScriptModule; equal modules under equal file names give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        # The archive's inner folder is named after the file, so keep the name.
        raw = os.path.join(folder, "raw.pt")
        final = os.path.join(folder, path.name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.save(module, raw, _extra_files=extra_files or {})
        reader = torch._C.PyTorchFileReader(raw)
        writer = torch._C.PyTorchFileWriter(final)
        for name in sorted(reader.get_all_records()):
            dropped = name.endswith(DROPPED_SUFFIX) or name.startswith(DROPPED_PREFIX)
            if not dropped and name not in WRITER_OWNED:
                data = reader.get_record(name)
                writer.write_record(name, data, len(data))
        writer.write_end_of_file()
        os.replace(final, path)
