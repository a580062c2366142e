"""A quantized artifact in stock PyTorch: loads alone, keeps its signature, can be saved again.

Runs the repquant program (REPQUANT_BINARY) on the digits example and on the planted model; skipped
where the program has not been built.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import support

BINARY = support.binary()
MODELS = support.FIXTURES / "models"

# A process of its own, so that nothing of ours can have been loaded before.
RUN = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np, torch
torch.set_num_threads(1)
model, data, out = sys.argv[1:]
with np.load(data) as arrays, torch.no_grad():
    inputs = [torch.from_numpy(arrays[name]) for name in arrays.files if name != "labels"]
    np.save(out, torch.jit.load(model)(*inputs).numpy())
assert not torch.ops.loaded_libraries
"""


def sqnr_db(reference: np.ndarray, other: np.ndarray) -> float:
    noise = float(((reference - other).astype(np.float64) ** 2).sum())
    signal = float((reference.astype(np.float64) ** 2).sum())
    return 10 * math.log10(signal / noise) if noise > 0 else math.inf


class StorageFinder(pickle.Unpickler):
    """Collects the storages that a TorchScript pickle refers to; builds inert stand-ins for all."""

    TYPES = {"CharStorage": torch.int8, "ByteStorage": torch.uint8, "ShortStorage": torch.int16,
             "IntStorage": torch.int32, "LongStorage": torch.int64, "BoolStorage": torch.bool,
             "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16,
             "FloatStorage": torch.float32, "DoubleStorage": torch.float64}

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.found: dict[str, torch.dtype] = {}

    def find_class(self, module: str, name: str) -> object:
        if name in self.TYPES:
            return self.TYPES[name]
        return type(name, (), {"__init__": lambda self, *args: None,
                               "__setstate__": lambda self, state: None})

    def persistent_load(self, pid: tuple) -> None:
        self.found[pid[2]] = pid[1]


def storages(data: bytes) -> list[tuple[torch.dtype, str]]:
    """(type, key) of every storage in a pickle of a TorchScript archive."""
    finder = StorageFinder(data)
    finder.load()
    return [(kind, key) for key, kind in finder.found.items()]


@unittest.skipIf(BINARY is None, "repquant has not been built; set REPQUANT_BINARY")
class ReloadTest(unittest.TestCase):
    folder: Path
    DIGITS = (support.DIGITS / "digits_vit.pt", support.DIGITS / "digits_calib.npz",
              support.DIGITS / "digits_test.npz")
    PLANTED = (MODELS / "planted.trace.pt", MODELS / "planted_calib.npz",
               MODELS / "planted_eval.npz")

    @classmethod
    def setUpClass(cls) -> None:
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        cls.folder = Path(temporary.name)
        cls.artifacts = {
            (name, bits): cls.quantize(getattr(cls, name), f"{name.lower()}.{bits}.pt", bits)
            for name, bits in (("DIGITS", "w8a8"), ("DIGITS", "w4a4"), ("PLANTED", "w8a8"))
        }

    @classmethod
    def quantize(cls, files: tuple[Path, Path, Path], name: str, bits: str,
                 *options: str) -> Path:
        path = cls.folder / name
        done = subprocess.run(
            [str(BINARY), "quantize", str(files[0]), "--bits", bits, "--calib", str(files[1]),
             "-o", str(path), *options],
            capture_output=True, text=True, check=False,
        )
        if done.returncode != 0:
            raise AssertionError(f"quantize {bits} gave {done.returncode}:\n{done.stderr}")
        return path

    def outputs(self, model: Path, data: Path, isa: str | None = None) -> np.ndarray:
        """Logits of a fresh process; `isa` limits oneDNN's instruction set."""
        out = self.folder / "out.npy"
        environment = {**os.environ, **({"ONEDNN_MAX_CPU_ISA": isa} if isa else {})}
        subprocess.run([sys.executable, "-c", RUN, str(model), str(data), str(out)], check=True,
                       env=environment, cwd=self.folder)
        return np.load(out)

    def test_stock_pytorch_keeps_the_accuracy(self) -> None:
        model, _, data = self.DIGITS
        with np.load(data) as arrays:
            labels = arrays["labels"]
        reference = self.outputs(model, data)
        floating = (reference.argmax(1) == labels).mean()
        for bits, allowed, least_db in (("w8a8", 0.005, 25.0), ("w4a4", 0.03, 8.0)):
            with self.subTest(bits):
                logits = self.outputs(self.artifacts["DIGITS", bits], data)
                self.assertGreaterEqual((logits.argmax(1) == labels).mean(), floating - allowed)
                self.assertGreater(sqnr_db(reference, logits), least_db)

    def test_two_inputs_with_a_mask(self) -> None:
        model, _, data = self.PLANTED
        logits = self.outputs(self.artifacts["PLANTED", "w8a8"], data)
        # The model is sensitive by design: 8-bit images alone leave its FP32 form at 17 dB.
        self.assertGreater(sqnr_db(self.outputs(model, data), logits), 12.0)

    def test_any_batch_size(self) -> None:
        with np.load(self.DIGITS[2]) as arrays:
            images = torch.from_numpy(arrays["images"][:32])
        for key in (("DIGITS", "w8a8"), ("DIGITS", "w4a4")):
            model = torch.jit.load(str(self.artifacts[key]))
            whole = model(images)
            for size in (1, 5, 31):
                with self.subTest(key, size=size):
                    parts = torch.cat([model(part) for part in images.split(size)])
                    self.assertGreater(sqnr_db(whole.numpy(), parts.numpy()), 30.0)

    def test_saved_again_it_is_the_same(self) -> None:
        for key, path in self.artifacts.items():
            with self.subTest(key):
                again = self.folder / "again.pt"
                torch.jit.save(torch.jit.load(str(path)), str(again))
                data = getattr(self, key[0])[2]
                np.testing.assert_array_equal(self.outputs(path, data), self.outputs(again, data))

    def test_weights_are_stored_as_integers(self) -> None:
        original = torch.jit.load(str(self.DIGITS[0]))
        weights = sum(p.numel() for p in original.parameters() if p.dim() in (2, 4))
        for bits, per_byte in (("w8a8", 1), ("w4a4", 2)):
            with self.subTest(bits):
                path = self.artifacts["DIGITS", bits]
                stored = [*self.stored_tensors(path)]
                integer = sum(t.numel() for t in stored if t.dtype in (torch.int8, torch.uint8))
                floating = sum(t.numel() for t in stored if t.is_floating_point())
                self.assertGreaterEqual(integer * per_byte, weights)
                self.assertLess(floating, weights // 10)
                self.assertLess(path.stat().st_size, self.DIGITS[0].stat().st_size)

    def stored_tensors(self, path: Path) -> Iterator[torch.Tensor]:
        """Every tensor in the archive, read without running any of its code."""
        reader = torch._C.PyTorchFileReader(str(path))
        for record in ("data.pkl", "constants.pkl"):
            folder = record.removesuffix(".pkl")
            for kind, key in storages(reader.get_record(record)):
                data = bytearray(reader.get_record(f"{folder}/{key}"))
                yield torch.frombuffer(data, dtype=kind) if data else torch.empty(0, dtype=kind)

    def test_embedding_with_a_tied_head(self) -> None:
        model = MODELS / "decoder.trace.pt"
        data = self.folder / "ids.npz"
        with np.load(MODELS / "decoder.npz") as arrays:
            np.savez(data, ids=arrays["input_0"])
        table = torch.jit.load(str(model)).token_embed.weight
        reference = self.outputs(model, data)
        sizes = []
        for bits in ("0", "8", "4"):
            with self.subTest(bits):
                path = self.quantize((model, data, data), f"decoder.{bits}.pt", "w8a8",
                                     "--set", f"embedding.bits={bits}")
                self.assertGreater(sqnr_db(reference, self.outputs(path, data)), 15.0)
                stored = [*self.stored_tensors(path)]
                floating = sum(t.numel() >= table.numel() for t in stored if t.is_floating_point())
                self.assertEqual(floating, 1 if bits == "0" else 0)
                sizes.append(sum(t.nbytes for t in stored))
        self.assertGreater(sizes[0] - 2 * table.numel(), sizes[1])  # 4 bytes become 1, and a scale
        self.assertGreater(sizes[1], sizes[2])

    def test_scales_per_token(self) -> None:
        model, _, data = self.DIGITS
        path = self.quantize(self.DIGITS, "token.pt", "w8a8", "--set", "input.granularity=per_token",
                             "--set", "norm.granularity=per_token")
        reference, logits = self.outputs(model, data), self.outputs(path, data)
        self.assertGreater(sqnr_db(reference, logits), 25.0)
        # A row's scale is found from the row alone: other rows in the batch change nothing.
        with np.load(data) as arrays:
            images = torch.from_numpy(arrays["images"][:6])
        module = torch.jit.load(str(path))
        parts = torch.cat([module(image) for image in images.split(1)])
        self.assertGreater(sqnr_db(module(images).numpy(), parts.numpy()), 30.0)
        sites = self.sites(path)
        scaled = [site for site in sites if site["scale_module"]]
        self.assertEqual(len(scaled), sum(site["kind"] in ("linear", "patch_embedding")
                                          for site in sites))
        for site in scaled:
            self.assertIn("per token at run time", site["form"])
            self.assertTrue(hasattr(module, site["scale_module"]))

    @staticmethod
    def sites(path: Path) -> list[dict]:
        extra = {"repquant.json": ""}
        torch.jit.load(str(path), _extra_files=extra)
        return json.loads(extra["repquant.json"])["sites"]

    def test_without_vector_integer_instructions_it_is_exact(self) -> None:
        for key in (("DIGITS", "w8a8"), ("DIGITS", "w4a4")):
            path, data = self.artifacts[key], self.DIGITS[2]
            reference = self.outputs(path, data)
            for isa in ("AVX2", "AVX512_CORE"):
                with self.subTest(key, isa=isa):
                    got = self.outputs(path, data, isa)
                    # Integer sums are equal; the floating-point epilogue may round otherwise and
                    # move a code by one here and there. Saturation would cost tens of dB.
                    self.assertGreater(sqnr_db(reference, got), 30.0)


if __name__ == "__main__":
    support.main()
