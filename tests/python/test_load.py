"""The Python package: fused modules give the portable outputs; the deployment example runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
import torch

from support import DIGITS, ROOT, binary, main

sys.path.insert(0, str(ROOT / "python"))


def loader() -> Path | None:
    path = os.environ.get("REPQUANT_LIBRARY", "")
    return Path(path) if path and Path(path).is_file() else None


@unittest.skipUnless(binary() and loader(), "needs the repquant program and its loader library")
class LoadTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.artifact = Path(cls.folder.name) / "digits.pt"
        subprocess.run([str(binary()), "quantize", str(DIGITS / "digits_vit.pt"), "--calib",
                        str(DIGITS / "digits_calib.npz"), "--bits", "w4a8", "--calib-samples", "32",
                        "--threads", "1", "-q", "-o", str(cls.artifact)], check=True)
        images = np.load(DIGITS / "digits_test.npz")
        cls.inputs = torch.from_numpy(images[images.files[0]][:64]).float()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.folder.cleanup()

    def test_fused_agrees_with_portable(self) -> None:
        import repquant

        model, report = repquant.load_with_report(self.artifact)
        self.assertEqual(report.cpu_level, repquant.cpu_level())
        self.assertTrue(all(site.fused for site in report.sites), report.sites)
        portable = torch.jit.load(str(self.artifact))
        with torch.inference_mode():
            expected, got = portable(self.inputs), model(self.inputs)
        noise = (expected - got).square().sum() / expected.square().sum()
        self.assertLess(noise.item(), 1e-3)

    def test_weights_alone_are_fused(self) -> None:
        import repquant

        path = Path(self.folder.name) / "weights.pt"
        subprocess.run([str(binary()), "quantize", str(DIGITS / "digits_vit.pt"), "--calib",
                        str(DIGITS / "digits_calib.npz"), "--bits", "w4a16", "--calib-samples", "8",
                        "--threads", "1", "-q", "-o", str(path)], check=True)
        model, report = repquant.load_with_report(path)
        self.assertTrue(all(site.fused for site in report.sites), report.sites)
        self.assertIn("repquant::weight_only_linear s16 x s4", {site.op for site in report.sites})
        with torch.inference_mode():
            expected, got = torch.jit.load(str(path))(self.inputs), model(self.inputs)
            alone = torch.cat([model(image) for image in self.inputs.split(1)])
        self.assertLess((expected - got).abs().max(), 1e-4 * expected.abs().max())
        self.assertLess((alone - got).abs().max(), 1e-4 * expected.abs().max())

    def test_signature_is_kept(self) -> None:
        import repquant

        portable = torch.jit.load(str(self.artifact))
        names = lambda module: [a.name for a in module.forward.schema.arguments]
        self.assertEqual(names(repquant.load(self.artifact)), names(portable))

    def test_lower_levels_give_the_same_bits(self) -> None:
        import repquant

        model = repquant.load(self.artifact)
        highest = repquant.cpu_level()
        outputs = []
        for level in ("generic", "avx2", highest):
            repquant.set_cpu_level(level)
            with torch.inference_mode():
                outputs.append(model(self.inputs))
        for output in outputs:
            self.assertTrue(torch.equal(output, outputs[0]))

    def test_errors_say_what_is_wrong(self) -> None:
        import repquant

        with self.assertRaisesRegex(RuntimeError, "does not exist"):
            repquant.load(Path(self.folder.name) / "missing.pt")
        with self.assertRaisesRegex(RuntimeError, "not an artifact"):
            repquant.load(DIGITS / "digits_vit.pt")

    def test_operators_trace_without_data(self) -> None:
        import repquant

        repquant.load(self.artifact)
        x = torch.empty(2, 5, 16, device="meta")
        codes = torch.ops.repquant.norm_quantize(x, torch.empty(16), torch.empty(16), 1e-5, 255)
        self.assertEqual((codes.shape, codes.dtype), (x.shape, torch.uint8))

    def test_deployment_example_runs(self) -> None:
        inputs = Path(self.folder.name) / "input.npy"
        np.save(inputs, self.inputs[:4].numpy())
        environment = dict(os.environ, PYTHONPATH=str(ROOT / "python"))
        result = subprocess.run(
            [sys.executable, str(ROOT / "examples" / "deploy_python" / "run.py"),
             str(self.artifact), str(inputs)],
            env=environment, capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("classes [", result.stdout)


if __name__ == "__main__":
    main()
