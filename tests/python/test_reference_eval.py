"""Metrics and preprocessing of scripts/reference_eval.py against hand-made values."""

from __future__ import annotations

import json
import math
import tempfile
import unittest
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import support
import pil_preprocess
import reference_eval
from ts_archive import save_portable

PRESET = {
    "schema_version": 1, "resize": 12, "resize_mode": "shorter", "interpolation": "bilinear",
    "crop": [8, 8], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "color": "rgb",
}


class MetricsTest(unittest.TestCase):
    def test_accuracy_by_hand(self) -> None:
        logits = np.array([[3.0, 1, 2], [1, 2, 3], [0, 1, 0]])
        labels = np.array([0, 1, 2])
        self.assertEqual(reference_eval.accuracy(logits, labels, 1)["hits"], 1)
        self.assertEqual(reference_eval.accuracy(logits, labels, 2)["hits"], 2)
        self.assertEqual(reference_eval.accuracy(np.zeros((3, 3)), labels, 1)["hits"], 0)

    def test_wilson_interval_of_half(self) -> None:
        low, high = reference_eval.wilson_interval(50, 100)
        self.assertAlmostEqual(low, 0.4038, places=4)
        self.assertAlmostEqual(high, 0.5962, places=4)

    def test_comparison_by_hand(self) -> None:
        reference = np.array([[1.0, 0.0]])
        got = reference_eval.compare(reference, np.array([[0.0, 0.0]]))
        p = math.e / (1 + math.e)
        self.assertAlmostEqual(got["kl"], p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)))
        self.assertAlmostEqual(got["sqnr_db"], 0.0)
        got = reference_eval.compare(reference, np.array([[0.9, 0.0]]))
        self.assertAlmostEqual(got["sqnr_db"], 20.0)
        self.assertEqual(got["agreement"], 1.0)
        self.assertIsNone(reference_eval.compare(reference, reference)["sqnr_db"])


class PreprocessTest(unittest.TestCase):
    def test_sizes_truncate_and_crop_is_centred(self) -> None:
        image = Image.new("RGB", (31, 17), (255, 0, 0))
        self.assertEqual(pil_preprocess.resize_and_crop(image, PRESET).size, (8, 8))
        columns = np.tile(np.arange(12, dtype=np.uint8)[None, :, None] * 20, (12, 1, 3))
        cropped = np.asarray(pil_preprocess.resize_and_crop(Image.fromarray(columns), PRESET))
        np.testing.assert_array_equal(cropped[0, :, 0], np.arange(2, 10) * 20)

    def test_values_are_normalised_and_channels_first(self) -> None:
        array = pil_preprocess.to_array(Image.new("RGB", (8, 8), (255, 0, 51)), PRESET)
        self.assertEqual(array.shape, (3, 8, 8))
        np.testing.assert_allclose(array[:, 0, 0], [1.0, -1.0, -0.6], atol=1e-6)

    def test_unknown_preset_is_refused(self) -> None:
        for change in ({"schema_version": 2}, {"color": "bgr"}, {"extra": 1}):
            with self.subTest(change), self.assertRaises(ValueError):
                pil_preprocess.check_preset({**PRESET, **change}, "test")


class EndToEndTest(unittest.TestCase):
    def test_folder_of_images(self) -> None:
        class Channels(torch.nn.Module):
            def forward(self, images: torch.Tensor) -> torch.Tensor:
                return images.mean(dim=[2, 3])

        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for index, color in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
                (folder / "data" / f"c{index}").mkdir(parents=True)
                for copy in range(2):
                    shown = (0, 0, 255) if copy and index == 0 else color  # one wrong image
                    path = folder / "data" / f"c{index}" / f"{copy}.png"
                    Image.new("RGB", (20, 16), shown).save(path)
            model = folder / "model.pt"
            save_portable(torch.jit.script(Channels()), model,
                          {"preprocess.json": json.dumps(PRESET).encode()})
            arguments = [str(model), "--data", str(folder / "data"), "--reference", str(model)]
            result = reference_eval.evaluate(reference_eval.parse_args(arguments))
            self.assertEqual(result["images"], 6)
            self.assertEqual(result["results"][0]["top1"]["hits"], 5)
            self.assertEqual(result["results"][0]["against_reference"]["agreement"], 1.0)
            (folder / "data" / "c2").rename(folder / "elsewhere")
            with self.assertRaises(ValueError):  # 2 folders, 3 logits: labels are never guessed
                reference_eval.evaluate(reference_eval.parse_args(arguments))


if __name__ == "__main__":
    support.main()
