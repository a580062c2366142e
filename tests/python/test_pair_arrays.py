"""scripts/pair_arrays.py on a few images, and on input that cannot be paired."""

from __future__ import annotations

import importlib.util
import io
import json
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import support

HAVE_PIL = importlib.util.find_spec("PIL") is not None and \
    importlib.util.find_spec("numpy") is not None
if HAVE_PIL:
    import numpy as np
    from PIL import Image

    import pair_arrays

PRESET = {"schema_version": 1, "resize": 8, "resize_mode": "shorter", "interpolation": "bicubic",
          "crop": [8, 8], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "color": "rgb"}


@unittest.skipUnless(HAVE_PIL, "needs numpy and Pillow")
class PairArrays(unittest.TestCase):
    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name)
        for i in range(5):
            file = self.folder / "images" / "c" / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (10, 9), (50 * i, 0, 255)).save(file)
        (self.folder / "preset.json").write_text(json.dumps(PRESET), encoding="utf-8")
        np.savez(self.folder / "texts.npz", input_ids=np.arange(6).reshape(3, 2))

    def run_script(self, *more: str, texts: str = "texts.npz",
                   images: str = "images") -> tuple[int, str]:
        err = io.StringIO()
        with redirect_stdout(io.StringIO()), redirect_stderr(err):
            code = pair_arrays.main([
                str(self.folder / images), str(self.folder / texts), "-o",
                str(self.folder / "out.npz"), "--preprocess", str(self.folder / "preset.json"),
                *more])
        return code, err.getvalue()

    def test_texts_are_taken_in_turn(self) -> None:
        self.assertEqual(self.run_script()[0], 0)
        with np.load(self.folder / "out.npz") as made:
            self.assertEqual(made["pixel_values"].shape, (5, 3, 8, 8))
            self.assertEqual(made["input_ids"].tolist(), [[0, 1], [2, 3], [4, 5], [0, 1], [2, 3]])
            red = made["pixel_values"][:, 0, 0, 0]
        np.testing.assert_allclose(red, (np.arange(5) * 50 / 255 - 0.5) / 0.5, atol=1e-6)

    def test_fewer_samples_are_spread(self) -> None:
        self.assertEqual(self.run_script("--samples", "2")[0], 0)
        with np.load(self.folder / "out.npz") as made:
            red = made["pixel_values"][:, 0, 0, 0]
        np.testing.assert_allclose(red, (np.array([0, 100]) / 255 - 0.5) / 0.5, atol=1e-6)

    def test_bad_input(self) -> None:
        np.savez(self.folder / "uneven.npz", a=np.zeros((2, 1)), b=np.zeros((3, 1)))
        code, text = self.run_script(texts="uneven.npz")
        self.assertEqual(code, 2)
        self.assertIn("one length", text)
        (self.folder / "empty").mkdir()
        code, text = self.run_script(images="empty")
        self.assertEqual(code, 2)
        self.assertIn("no images", text)
        self.assertEqual(self.run_script(texts="missing.npz")[0], 5)


if __name__ == "__main__":
    support.main()
