"""The wheel: installed beside torch, its program and its package work together."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from support import DIGITS, binary, main

CHECK = """
import sys
import torch
import repquant

images = torch.rand(3, 1, 8, 8)
with torch.inference_mode():
    apart = (repquant.load(sys.argv[1])(images) - torch.jit.load(sys.argv[1])(images)).abs().max()
print(repquant.__file__, float(apart))
"""


def run(*command: object, **environment: str) -> str:
    done = subprocess.run([str(part) for part in command], env={**os.environ, **environment},
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


@unittest.skipUnless(binary() and importlib.util.find_spec("wheel"),
                     "needs the repquant program and the Python package wheel")
class WheelTest(unittest.TestCase):
    def test_program_and_package_work_where_it_is_installed(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            run("cmake", "--install", binary().parent, "--component", "wheel", "--prefix",
                folder / "files")
            run(sys.executable, "-m", "wheel", "pack", folder / "files", "--dest-dir", folder)
            wheel, = folder.glob("*.whl")
            site = folder / "site"
            run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
                "--target", site, wheel)
            self.assertIn("Requires-Dist: torch==", next(site.glob("*.dist-info/METADATA")).read_text())

            artifact = folder / "digits.w8a8.pt"
            # By this interpreter's torch, and not by a library that the environment names.
            own = {"PYTHONPATH": str(site), "REPQUANT_LIBRARY": "", "LD_LIBRARY_PATH": ""}
            run(site / "bin" / "repquant", "quantize", DIGITS / "digits_vit.pt", "--calib",
                DIGITS / "digits_calib.npz", "--calib-samples", "16", "--effort", "fast", "--threads",
                "1", "--quiet", "-o", artifact, **own)
            file, apart = run(sys.executable, "-c", CHECK, artifact, **own).split()
            self.assertEqual(Path(file), site / "repquant" / "__init__.py")
            self.assertLess(float(apart), 0.5)

    def test_without_torch_the_program_says_what_is_missing(self) -> None:
        script = Path(__file__).parents[2] / "cmake" / "wheel" / "repquant"
        done = subprocess.run([sys.executable, "-I", "-S", str(script), "doctor"], text=True,
                              capture_output=True)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("the Python package torch was not found", done.stderr)


if __name__ == "__main__":
    main()
