"""Too little memory: exit code 6 and what helps, whatever allocates; enough of it: the same files as
without a limit."""

from __future__ import annotations

import io
import os
import resource
import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

import program
from program import BINARY, DIGITS_MODEL, support

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
                # By an allocation that fails, or by the estimate before it.
                self.assertRegex(done.stderr, "out of memory|does not fit into memory")
                refused += 1
        self.fail("no limit was enough")

    def test_evaluate(self) -> None:
        self.expect_success_or_code_6("evaluate", DIGITS_MODEL, "--data", "many.npz",
                                      "--batch-size", "2000")

    def run_to_success(self, *arguments: object) -> int:
        """With --max-memory from too little to enough: refusals first, each with code 6. Returns the
        MB that were enough."""
        for megabytes in range(20, 2000, 30):
            done = self.run_program(*arguments, "--threads", "1", "--max-memory", f"{megabytes}MB")
            if done.returncode == 0:
                self.assertGreater(megabytes, 20)
                return megabytes
            self.assertEqual(done.returncode, RESOURCE, f"{megabytes}: {done.stderr}")
            self.assertIn("memory", done.stderr)
        self.fail("no limit was enough")

    def test_max_memory(self) -> None:
        fast = ["--calib", "many.npz", "--calib-samples", "500", "--effort", "fast", "--clipping",
                "minmax", "--exclude", "blocks.[123].*", "--bits", "w4a4"]
        quantize = ["quantize", DIGITS_MODEL, *fast, "--hold-back", "0"]
        enough = self.run_to_success(*quantize, "-o", "out.pt")
        self.succeed(*quantize, "-o", "free.pt", "--threads", "1")
        self.assertEqual((self.folder / "out.pt").read_bytes(),
                         (self.folder / "free.pt").read_bytes())
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()),
                         ["free.pt", "many.npz", "out.pt"])
        self.run_to_success("analyze", DIGITS_MODEL, *fast, "--candidates", "w4a4,w8a8",
                            "-o", "recipe.json")
        self.run_to_success("evaluate", DIGITS_MODEL, "--data", "many.npz", "--batch-size", "500")
        self.assertGreater(enough, 60)

    def test_an_entry_of_another_size_than_its_header_is_not_unpacked(self) -> None:
        few = io.BytesIO()
        np.save(few, np.zeros((4, 1, 8, 8), np.float32))
        with zipfile.ZipFile(self.folder / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("images.npy", few.getvalue() + bytes(400 * MIB))
        self.fails(5, "bytes after its array", "evaluate", DIGITS_MODEL, "--data", "bomb.npz",
                   "--max-memory", "200MB")

    def test_a_batch_that_cannot_fit_ends_before_the_first_site(self) -> None:
        done = self.run_program("quantize", DIGITS_MODEL, "--calib", "many.npz", "--calib-samples",
                                "2000", "--batch-size", "2000", "-o", "out.pt", "--threads", "1",
                                "--max-memory", "110MB")
        self.assertEqual(done.returncode, RESOURCE, done.stderr)
        self.assertIn("--batch-size", done.stderr)
        self.assertNotRegex(done.stderr, r"quantize [1-9]")  # no site has been fitted

    def test_activations_go_to_disk_under_a_limit(self) -> None:
        """Without --workdir, to the folder of the output: seen as an open file without a name."""
        arguments = ["quantize", DIGITS_MODEL, "--bits", "w8a8", "--calib", "many.npz",
                     "--calib-samples", "2000", "--hold-back", "0", "-o", "out.pt", "--threads", "1"]
        process = subprocess.Popen([str(BINARY), *map(str, arguments), "--max-memory", "240MB"],
                                   cwd=self.folder, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        files: set[str] = set()
        folder = Path(f"/proc/{process.pid}/fd")
        while process.poll() is None and not files:
            for entry in os.listdir(folder) if folder.exists() else []:
                try:
                    target = os.readlink(folder / entry)
                except OSError:
                    continue
                if "activations." in target:
                    files.add(target)
            time.sleep(0.01)
        process.kill()
        process.wait()
        self.assertEqual(len(files), 1, "nothing was put on disk")
        self.assertTrue(files.pop().startswith(str(self.folder.resolve())))

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
