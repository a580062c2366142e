"""scripts/check_architectures.py on its smallest model: a table, and an exit code that can fail."""

from __future__ import annotations

import importlib.util
import io
import math
import unittest
from contextlib import redirect_stderr, redirect_stdout

import support

HAVE_TORCH = all(importlib.util.find_spec(name) is not None for name in ("torch", "numpy"))
if HAVE_TORCH:
    import torch

    import check_architectures

MODEL = "torch_encoder_pre_norm"


def run(*more: str) -> tuple[int, str]:
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(io.StringIO()):
        code = check_architectures.main([
            MODEL, "--program", str(support.binary()), "--samples", "2", "--tokens", "8", *more])
    return code, out.getvalue()


@unittest.skipUnless(HAVE_TORCH, "needs torch and numpy")
class CheckArchitectures(unittest.TestCase):
    def test_sqnr_is_that_of_the_worst_output(self) -> None:
        ones = torch.ones(4)
        got = check_architectures.sqnr_db([ones, ones], [ones * 1.1, ones * 1.01])
        self.assertAlmostEqual(got, 20.0, places=4)
        self.assertEqual(check_architectures.sqnr_db([ones], [ones]), math.inf)

    def test_unknown_model(self) -> None:
        with self.assertRaises(SystemExit), redirect_stderr(io.StringIO()):
            check_architectures.main(["no_such_model"])

    @unittest.skipUnless(support.binary(), "repquant is not built")
    def test_a_model_that_follows_its_original(self) -> None:
        code, table = run()
        self.assertEqual(code, 0, table)
        cells = table.splitlines()[-1].split()
        self.assertEqual(cells[:3], [MODEL, "19", "100.00"])
        self.assertGreater(float(cells[4]), 20.0)
        self.assertEqual(cells[-1], "ok")

    @unittest.skipUnless(support.binary(), "repquant is not built")
    def test_missing_the_limit_is_a_failure(self) -> None:
        code, table = run("--least-sqnr", "200")
        self.assertEqual(code, 1, table)
        self.assertIn("BELOW 200 dB", table)

    @unittest.skipUnless(support.binary(), "repquant is not built")
    def test_a_failed_run_shows_its_error(self) -> None:
        code, table = run("--set", "weights.no_such_key=1")
        self.assertEqual(code, 1, table)
        self.assertIn("no_such_key", table)


if __name__ == "__main__":
    support.main()
