"""The committed fixtures and example: they load, equal their recorded outputs, and are small."""

from __future__ import annotations

import json
import unittest
import zipfile

import numpy as np
import torch

import support
import planted

MODELS = support.FIXTURES / "models"
MANIFEST = json.loads((MODELS / "manifest.json").read_text(encoding="utf-8"))
LIMIT = 1_600_000  # bytes, all of tests/fixtures/models
EXAMPLE_LIMIT = 2_000_000


def tensors(output: object) -> list[torch.Tensor]:
    if isinstance(output, dict):
        return list(output.values())
    return list(output) if isinstance(output, (tuple, list)) else [output]


class FixturesTest(unittest.TestCase):
    def test_outputs_are_the_recorded_ones(self) -> None:
        for entry in MANIFEST["models"]:
            with np.load(MODELS / f"{entry['name']}.npz") as arrays:
                inputs = [arrays[f"input_{i}"] for i in range(len(entry["inputs"]))]
                expected = [arrays[f"output_{i}"] for i in range(len(entry["outputs"]))]
            for form in entry["forms"]:
                with self.subTest(entry["name"], form=form), torch.no_grad():
                    model = torch.jit.load(str(MODELS / f"{entry['name']}.{form}.pt"))
                    got = tensors(model(*(torch.from_numpy(item.copy()) for item in inputs)))
                    self.assertEqual(len(got), len(expected))
                    for left, right in zip(got, expected):
                        np.testing.assert_allclose(left.numpy(), right, rtol=1e-4, atol=1e-4)

    def test_every_file_belongs_to_the_manifest(self) -> None:
        names = {"manifest.json", "planted.json", "planted_calib.npz", "planted_eval.npz"}
        for entry in MANIFEST["models"]:
            names.add(f"{entry['name']}.npz")
            names |= {f"{entry['name']}.{form}.pt" for form in entry["forms"]}
        self.assertEqual(names, {path.name for path in MODELS.iterdir()})

    def test_files_are_small_and_carry_no_paths(self) -> None:
        self.assertLess(sum(path.stat().st_size for path in MODELS.iterdir()), LIMIT)
        for path in [*MODELS.glob("*.pt"), support.DIGITS / "digits_vit.pt"]:
            with self.subTest(path.name), zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    self.assertNotIn("debug_pkl", name)
                    if name.endswith((".py", ".pkl")):
                        self.assertNotIn(b"site-packages", archive.read(name))

    def test_planted_model_has_its_plants(self) -> None:
        planted.verify(planted.build())


class DigitsTest(unittest.TestCase):
    def test_accuracy_and_shapes(self) -> None:
        model = torch.jit.load(str(support.DIGITS / "digits_vit.pt"))
        with np.load(support.DIGITS / "digits_test.npz") as arrays, torch.no_grad():
            self.assertEqual(sorted(arrays.files), ["images", "labels"])
            images, labels = torch.from_numpy(arrays["images"]), arrays["labels"]
        self.assertEqual((images.dtype, tuple(images.shape[1:])), (torch.float32, (1, 8, 8)))
        hits = (model(images).argmax(1).numpy() == labels).mean()
        self.assertGreaterEqual(hits, 0.97)
        self.assertEqual(tuple(model(images[:1]).shape), (1, 10))

    def test_calibration_images_are_not_test_images(self) -> None:
        with np.load(support.DIGITS / "digits_test.npz") as arrays:
            test = {item.tobytes() for item in arrays["images"]}
        for name in ("digits_calib.npz", "digits_train.npz"):
            with np.load(support.DIGITS / name) as arrays:
                self.assertFalse(test & {item.tobytes() for item in arrays["images"]})

    def test_example_is_small(self) -> None:
        total = sum(path.stat().st_size for path in support.DIGITS.iterdir())
        self.assertLess(total, EXAMPLE_LIMIT)


if __name__ == "__main__":
    support.main()
