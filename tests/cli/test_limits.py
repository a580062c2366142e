"""Too little address space: exit code 6 and what helps, whatever allocates; enough of it: the same
files as without a limit."""

from __future__ import annotations

import resource
from typing import Any

import numpy as np

import program
from program import DIGITS_MODEL, support

RESOURCE = 6
MIB = 1 << 20


class LimitsTest(program.ProgramTest):
    def setUp(self) -> None:
        super().setUp()
        images = np.random.default_rng(1).random((2000, 1, 8, 8), dtype=np.float32)
        np.savez(self.folder / "many.npz", images=images, labels=np.zeros(2000, np.int64))

    def under(self, mebibytes: int, *arguments: object) -> Any:
        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_AS, (mebibytes * MIB, mebibytes * MIB))
        return self.run_program(*arguments, "--threads", "1", preexec_fn=limit)

    def expect_success_or_code_6(self, *arguments: object) -> None:
        """From too little for the libraries, which is the loader's error, to enough."""
        refused = 0
        for mebibytes in range(350, 2000, 50):
            done = self.under(mebibytes, *arguments)
            if done.returncode == 0:
                self.assertGreater(refused, 0, "no limit was met: the data is too small")
                return
            if "repquant: error:" in done.stderr:
                self.assertEqual(done.returncode, RESOURCE, f"{mebibytes}: {done.stderr}")
                self.assertIn("out of memory", done.stderr)
                refused += 1
        self.fail("no limit was enough")

    def test_evaluate(self) -> None:
        self.expect_success_or_code_6("evaluate", DIGITS_MODEL, "--data", "many.npz",
                                      "--batch-size", "2000")

    def test_quantize(self) -> None:
        arguments = ["quantize", DIGITS_MODEL, "--calib", "many.npz", "--calib-samples", "2000",
                     "--batch-size", "2000", "--bits", "w4a4", "--effort", "fast", "--clipping",
                     "minmax", "--hold-back", "0", "--exclude", "blocks.[123].*"]
        self.expect_success_or_code_6(*arguments, "-o", "out.pt", "--workdir", "work")
        self.succeed(*arguments, "-o", "free.pt")
        self.assertEqual((self.folder / "out.pt").read_bytes(),
                         (self.folder / "free.pt").read_bytes())


if __name__ == "__main__":
    support.main()
