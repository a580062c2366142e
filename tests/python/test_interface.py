"""quantize, evaluate and load from Python: the digits model end to end, and errors as exceptions."""

from __future__ import annotations

import pickle
import sys
import tempfile
import unittest
import warnings
from pathlib import Path

import numpy as np
import torch

from support import DIGITS, ROOT, main
from test_load import loader

sys.path.insert(0, str(ROOT / "python"))

MODEL, CALIB, TEST = (DIGITS / f"digits_{name}" for name in ("vit.pt", "calib.npz", "test.npz"))


@unittest.skipUnless(loader(), "needs the libraries of repquant")
class InterfaceTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        import repquant

        cls.folder = tempfile.TemporaryDirectory()
        cls.artifact = Path(cls.folder.name) / "digits.pt"
        cls.threads = torch.get_num_threads()
        cls.report = repquant.quantize(
            MODEL, cls.artifact, bits="w4a8", calib=CALIB, calibration={"samples": 16},
            norm={"granularity": "per_tensor"}, exclude=["head"], threads=2)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.folder.cleanup()

    def fails(self, kind: str, where: str, call, *arguments, **settings):
        import repquant

        with self.assertRaises(repquant.Error) as caught:
            call(*arguments, **settings)
        self.assertEqual((caught.exception.kind, caught.exception.where), (kind, where))
        return caught.exception

    def test_the_recipe_counts(self) -> None:
        sites = {site["path"]: site for site in self.report["sites"]}
        self.assertEqual(sites["head"]["weight_bits"], 0)
        self.assertEqual(sites["blocks.0.fc1"]["weight_bits"], 4)
        self.assertEqual(sites["blocks.0.fc1"]["activation_bits"], 8)
        self.assertFalse(any("per channel" in site["form"] for site in sites.values()
                             if site["kind"] == "linear"), sites)
        self.assertEqual(self.report["samples"], 14)  # an eighth judges
        self.assertFalse(self.report["synthetic"])
        self.assertEqual(torch.get_num_threads(), self.threads)

    def test_evaluate(self) -> None:
        import repquant

        result = repquant.evaluate(self.artifact, TEST, reference=MODEL, form=["portable", "fused"],
                                   samples=200)
        self.assertEqual([row["form"] for row in result["models"]], ["portable", "fused"])
        for row in result["models"]:
            self.assertGreater(row["top1"]["value"], 0.9)
            self.assertGreater(row["agreement"]["value"], 0.9)
        self.assertEqual(result["samples"], 200)
        self.assertEqual(torch.get_num_threads(), self.threads)

    def test_load(self) -> None:
        import repquant

        arrays = np.load(TEST)
        images = torch.from_numpy(arrays[arrays.files[0]][:32]).float()
        with torch.inference_mode():
            expected = torch.jit.load(str(MODEL))(images).argmax(1)
            got = repquant.load(self.artifact)(images).argmax(1)
        self.assertGreaterEqual((expected == got).sum().item(), 30)

    def test_errors_carry_their_parts(self) -> None:
        import repquant

        out = Path(self.folder.name) / "none.pt"
        error = self.fails("usage", "`calib`", repquant.quantize, MODEL, out)
        self.assertIn("synthetic", error.hint)
        self.assertIn("no calibration data", str(error))
        self.assertIsInstance(error, RuntimeError)
        again = pickle.loads(pickle.dumps(error))
        self.assertEqual((again.kind, str(again)), (error.kind, str(error)))
        self.fails("file", str(out), repquant.evaluate, out, TEST)
        self.fails("file", str(out), repquant.load, out)
        self.fails("unsupported", str(MODEL), repquant.load, MODEL)
        error = self.fails("file", str(self.artifact), repquant.quantize, MODEL, self.artifact,
                           calib=CALIB)
        self.assertIn("`force`", error.hint)
        self.assertFalse(out.exists())

    def test_trusted_code(self) -> None:
        """A model with an operator that skips checks, in the file that is made of it as well."""
        import repquant

        class Aliased(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first, self.second = torch.nn.Linear(16, 16), torch.nn.Linear(16, 4)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                y = self.first(x).contiguous()
                y = torch.ops.aten._reshape_alias(y, [y.size(0), 16], [16, 1])
                return self.second(y)

        folder = Path(self.folder.name)
        model, out, data = folder / "aliased.pt", folder / "aliased.w8a8.pt", folder / "x.npy"
        torch.jit.script(Aliased().eval()).save(str(model))
        np.save(data, np.random.default_rng(0).normal(size=(32, 16)).astype(np.float32))
        with self.assertRaises(repquant.Error) as caught:
            repquant.quantize(model, out, calib=data)
        self.assertIn("`trust`", caught.exception.hint)
        repquant.quantize(model, out, calib=data, trust=True)
        for call in (lambda **trust: repquant.load(out, **trust),
                     lambda **trust: repquant.evaluate(out, data, reference=model, form="fused",
                                                       **trust)):
            with self.assertRaises(repquant.Error) as caught:
                call()
            self.assertEqual(caught.exception.kind, "unsupported")
            call(trust=True)

    def test_unknown_settings(self) -> None:
        import repquant

        out = Path(self.folder.name) / "none.pt"
        error = self.fails("usage", "arguments#/weights/group_sizes", repquant.quantize, MODEL, out,
                           calib=CALIB, weights={"group_sizes": 32})
        self.assertIn("weights.group_size", error.hint)
        self.fails("usage", "arguments#/norm/clipping", repquant.quantize, MODEL, out, calib=CALIB,
                   norm={"clipping": "none"})
        self.fails("usage", "arguments#/time_limit", repquant.quantize, MODEL, out, calib=CALIB,
                   time_limit=60)
        error = self.fails("usage", "arguments#/sample", repquant.evaluate, MODEL, TEST, sample=3)
        self.assertIn("samples", error.hint)

    def test_warnings_are_pythons(self) -> None:
        import repquant

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            repquant.quantize(MODEL, Path(self.folder.name) / "warned.pt", calib=CALIB,
                              calibration={"samples": 16, "warn_below_db": 90.0})
        self.assertTrue(any("`target_bits`" in str(entry.message) for entry in caught), caught)


if __name__ == "__main__":
    main()
