"""SIGINT and SIGTERM in mid-run: exit code 130, no output, and a checkpoint that can be resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import numpy as np

import program
from program import BINARY, DIGITS_CALIB, DIGITS_MODEL, support


class InterruptTest(program.ProgramTest):
    def arguments(self, output: str, *more: str) -> list[str]:
        return [str(BINARY), "quantize", str(DIGITS_MODEL), "--bits", "w4a4", "--calib",
                str(DIGITS_CALIB), "--threads", "1", "-o", output, *more]

    def start(self, *more: str) -> subprocess.Popen[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("REPQUANT_")}
        return subprocess.Popen(self.arguments("out.pt", *more), stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, cwd=self.folder,
                                env=environment)

    def wait_for(self, process: subprocess.Popen[str], line: str) -> None:
        """Reads stderr up to a line that contains `line`."""
        assert process.stderr is not None
        for text in process.stderr:
            if line in text:
                return
        self.fail_now(process)

    def fail_now(self, process: subprocess.Popen[str]) -> None:
        raise AssertionError(f"the run ended early with {process.wait()}")

    def test_signals_leave_nothing(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(number=number):
                process = self.start()
                self.wait_for(process, "quantize 0/")
                process.send_signal(number)
                out, errors = process.communicate(timeout=120)
                self.assertEqual(process.returncode, 130, errors)
                self.assertIn("interrupted", errors)
                self.assertEqual(out, "")
                self.assertEqual(list(self.folder.iterdir()), [])

    def test_resume_gives_the_same_artifact(self) -> None:
        process = self.start("--workdir", "work")
        self.wait_for(process, "quantize 0/")
        deadline = time.monotonic() + 120
        work = self.folder / "work"
        while len(list(work.glob("*"))) < 3 and time.monotonic() < deadline:
            self.assertIsNone(process.poll(), "the run ended before it could be interrupted")
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 130, errors)
        self.assertIn("--resume", errors)
        self.assertFalse((self.folder / "out.pt").exists())
        self.assertGreaterEqual(len(list(work.iterdir())), 3)

        self.succeed(*self.arguments("resumed.pt", "--workdir", "work", "--resume")[1:])
        self.succeed(*self.arguments("whole.pt")[1:])
        self.assertEqual(self.content("resumed.pt"), self.content("whole.pt"))

    def content(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def test_checkpoint_of_another_run_is_refused(self) -> None:
        self.succeed(*self.arguments("out.pt", "--workdir", "work", "--calib-samples", "8")[1:])
        done = self.run_program(*self.arguments("other.pt", "--workdir", "work", "--resume",
                                                "--calib-samples", "16")[1:])
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("checkpoint", done.stderr)
        self.assertFalse((self.folder / "other.pt").exists())

    def test_evaluate(self) -> None:
        data = self.folder / "many.npz"
        shape = (20000, 1, 8, 8)
        np.savez(data, images=np.zeros(shape, np.float32), labels=np.zeros(shape[0], np.int64))
        process = subprocess.Popen([str(BINARY), "evaluate", str(DIGITS_MODEL), "--data", str(data),
                                    "--batch-size", "1"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.wait_for(process, "evaluate 0/")
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, errors)
        self.assertEqual(out, "")


if __name__ == "__main__":
    support.main()
