#!/usr/bin/env python3
"""Writes the first inputs of the fuzzers: small valid files of every kind, under corpus/.

Needs torch, numpy and a built repquant; run with .venv/bin/python from the repository root."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent.parent
CORPUS = Path(__file__).resolve().parent / "corpus"
sys.path.insert(0, str(ROOT / "scripts"))

from ts_archive import save_portable  # noqa: E402

MOST = 200_000  # bytes of a file


def put(target: str, name: str, content: bytes) -> None:
    assert len(content) <= MOST, (target, name, len(content))
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    if all(content != path.read_bytes() for path in folder.iterdir()):  # a second one finds nothing
        (folder / name).write_bytes(content)


class Net(torch.nn.Module):
    """Every kind of site: attention, a norm that folds, an embedding, both kinds of convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(12, 8)
        self.dense = torch.nn.Conv1d(8, 8, 3, padding=1)
        self.depthwise = torch.nn.Conv1d(8, 8, 3, padding=1, groups=8)
        self.norm = torch.nn.LayerNorm(8)
        self.qkv = torch.nn.Linear(8, 24)
        self.out = torch.nn.Linear(8, 8)
        self.head = torch.nn.Linear(8, 12)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids)
        x = x + self.depthwise(self.dense(x.transpose(1, 2)).relu()).transpose(1, 2)
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + self.out((q @ k.transpose(-2, -1)).softmax(-1) @ v)
        return self.head(torch.nn.functional.gelu(x))


def models(folder: Path, binary: Path) -> None:
    torch.manual_seed(0)
    ids = torch.randint(0, 12, (8, 6))
    save_portable(torch.jit.trace(Net().eval(), ids), folder / "net.pt")
    np.save(folder / "ids.npy", ids.numpy())
    for name, bits, options in (("w8a8", "w8a8", []), ("w4a4", "w4a4", []), ("w4a16", "w4a16", []),
                                ("static", "w4a8", ["--recipe", "static"])):
        subprocess.run([binary, "quantize", folder / "net.pt", "--bits", bits, "--calib",
                        folder / "ids.npy", "-o", folder / f"{name}.pt", *options], check=True,
                       capture_output=True)
    for path in sorted(folder.glob("*.pt")):
        put("archive", path.name, path.read_bytes())
        if path.stem != "net":
            put("loader", path.name, path.read_bytes())
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                content = archive.read(name)
                if name.endswith(".pkl"):
                    put("pickle", f"{path.stem}.{Path(name).name}", content)
                elif name.endswith(".py"):
                    put("code", f"{path.stem}.{Path(name).name}", content)
                elif name.endswith("repquant.json"):
                    put("description", f"{path.stem}.json", content)


def arrays(folder: Path) -> None:
    for name, array in (("floats", np.ones((2, 3), np.float32)), ("ids", np.arange(9)),
                        ("bytes", np.zeros((1, 4), np.uint8)), ("half", np.ones(3, np.float16))):
        np.save(folder / f"{name}.npy", array)
        put("npy", f"{name}.npy", (folder / f"{name}.npy").read_bytes())
    np.savez(folder / "plain.npz", images=np.ones((2, 3), np.float32), labels=np.arange(2))
    np.savez_compressed(folder / "packed.npz", x=np.zeros((4, 4), np.float32))
    for name in ("plain.npz", "packed.npz"):
        put("npz", name, (folder / name).read_bytes())


def saved(folder: Path) -> None:
    tensors = torch.arange(6.0).reshape(2, 3)
    for name, value in (("tensor", tensors), ("list", [tensors, tensors.half()]),
                        ("dict", {"x": tensors[:, 1:], "ids": torch.arange(3)})):
        torch.save(value, folder / f"{name}.pt")
        put("saved", f"{name}.pt", (folder / f"{name}.pt").read_bytes())


def tokens(folder: Path) -> None:
    """Type, window, stride, id of BOS plus one, of documents plus one, and then the file."""
    ids = np.array([1, 5, 6, 1, 7, 8, 9, 2], np.uint16)
    np.save(folder / "ids16.npy", ids)
    put("tokens", "array", bytes([0, 4, 2, 2, 0]) + (folder / "ids16.npy").read_bytes())
    put("tokens", "raw16", bytes([1, 3, 0, 0, 2]) + ids.tobytes())
    put("tokens", "raw64", bytes([4, 4, 0, 0, 0]) + ids.astype(np.int64).tobytes())


def images() -> None:
    for name in ("jpeg_420.jpg", "jpeg_progressive.jpg", "jpeg_cmyk.jpg", "rgb8_interlaced.png",
                 "palette4.png", "gray16_trns.png"):
        put("image", name, (ROOT / "tests/data/fixtures/images" / name).read_bytes())
    preset = {"schema_version": 1, "resize": 248, "resize_mode": "shorter",
              "interpolation": "bicubic", "crop": [224, 224], "mean": [0.5, 0.5, 0.5],
              "std": [0.5, 0.5, 0.5], "color": "rgb"}
    put("preset", "rgb.json", json.dumps(preset).encode())
    put("preset", "gray.json", json.dumps({**preset, "color": "gray", "mean": [0.5], "std": [0.5],
                                           "resize_mode": "exact"}).encode())


def settings() -> None:
    for path in sorted((ROOT / "configs").glob("*.json")):
        if path.name != "recipe.schema.json":
            put("recipe", path.name, path.read_bytes())
    put("plan", "example.json", (ROOT / "examples/ci/plan.json").read_bytes())
    full = {"schema_version": 1, "output": "out", "bits": ["w8a8", {"bits": "w4a4", "label": "x"}],
            "gates": {"min_top1": 0.5}, "baseline": {"folder": "last", "allow": {"top1": 0.01}},
            "models": [{"name": "m", "model": "m.pt", "set": {"norm.clipping": "minmax"},
                        "calib": {"data": "c.npz", "samples": 8}, "evaluate": {"data": "t.npz"}}]}
    put("plan", "full.json", json.dumps(full).encode())


def operators() -> None:
    """Instruction set, operator, and what sizes and values are drawn from."""
    for operator in range(13):
        drawn = bytes((operator * 31 + i * 13) % 251 for i in range(40))
        put("operators", f"call_{operator}", bytes([2, operator]) + drawn)
    # Attention of queries without channels: one step from a null pointer.
    put("operators", "no_channels", base64.b64decode("DyYJ///////////////////////V////////////7/////9D/wc="))


def main() -> int:
    binary = ROOT / "build/release/repquant"
    if not binary.exists():
        print(f"{binary} has not been built", file=sys.stderr)
        return 2
    shutil.rmtree(CORPUS, ignore_errors=True)
    with tempfile.TemporaryDirectory() as name:
        models(Path(name), binary)
        arrays(Path(name))
        saved(Path(name))
        tokens(Path(name))
    images()
    settings()
    operators()
    return 0


if __name__ == "__main__":
    sys.exit(main())
