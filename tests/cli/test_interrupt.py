"""SIGINT and SIGTERM in mid-run: exit code 130, no output, and a checkpoint that can be resumed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time

import numpy as np

import program
from program import BINARY, DIGITS_CALIB, DIGITS_MODEL, DIGITS_TEST, IMAGES, MODELS, PRESET, support


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

    def test_a_file_that_shrinks_is_named(self) -> None:
        np.save(self.folder / "x.npy", np.zeros((20000, 1, 8, 8), np.float32))
        process = subprocess.Popen(
            [str(BINARY), "evaluate", str(DIGITS_MODEL), "--reference", str(DIGITS_MODEL),
             "--data", "x.npy", "--threads", "2"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder)
        self.wait_for(process, "evaluate 0/")
        os.truncate(self.folder / "x.npy", 4096)
        out, errors = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 5, errors)
        self.assertIn("became shorter", errors)
        self.assertIn("x.npy", errors)
        self.assertEqual(out, "")

    def test_model_without_end(self) -> None:
        """One signal ends it where LibTorch runs it, although nothing of ours is reached any more;
        where its graph is run first, that says so."""
        import torch

        class Endless(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.linear = torch.nn.Linear(8, 8)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                x = self.linear(x)
                while bool(x.sum() < 1e30):
                    x = x * 1.0
                return x.flatten(1)

        torch.jit.script(Endless().eval()).save(str(self.folder / "endless.pt"))
        before = self.files()
        for command in (["inspect", "--data", DIGITS_TEST], ["analyze", "--calib", DIGITS_CALIB],
                        ["quantize", "--calib", DIGITS_CALIB, "-o", "out.pt"]):
            with self.subTest(command[0]):
                self.fails(6, "a loop of the model does not end", command[0], "endless.pt",
                           *command[1:])
                self.assertEqual(self.files(), before)
        for command in (["evaluate", "--data", DIGITS_TEST], ["benchmark", "--data", DIGITS_TEST]):
            with self.subTest(command[0]):
                process = subprocess.Popen(
                    [str(BINARY), command[0], "endless.pt", *map(str, command[1:]), "--json"],
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder)
                time.sleep(3)
                process.send_signal(signal.SIGTERM)
                out, errors = process.communicate(timeout=20)
                self.assertEqual(process.returncode, 130, errors)
                self.assertIn("interrupted", errors)
                self.assertEqual(json.loads(out)["error"]["kind"], "interrupted")
                self.assertEqual(self.files(), before)

    def stop_after_some_sites(self, number: signal.Signals) -> str:
        """What a run says that this signal ends once it has written a few checkpoints."""
        process = self.start("--workdir", "work")
        self.wait_for(process, "quantize 0/")
        deadline = time.monotonic() + 120
        work = self.folder / "work"
        while len(list(work.glob("site_*.pt"))) < 3 and time.monotonic() < deadline:
            self.assertIsNone(process.poll(), "the run ended before it could be interrupted")
            time.sleep(0.005)
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
        expected = -number if number == signal.SIGKILL else 130
        self.assertEqual(process.returncode, expected, errors)
        self.assertEqual([path.name for path in self.folder.iterdir()], ["work"])
        return errors

    def test_resume_gives_the_same_artifact(self) -> None:
        self.assertIn("--resume", self.stop_after_some_sites(signal.SIGINT))
        self.expect_the_same_after_resume()

    def test_resume_after_a_kill(self) -> None:
        self.stop_after_some_sites(signal.SIGKILL)
        self.expect_the_same_after_resume()

    def expect_the_same_after_resume(self) -> None:
        work = self.folder / "work"
        kept = {path.name: path.stat().st_mtime_ns for path in work.glob("site_*.pt")}
        self.assertTrue(3 <= len(kept) < 26, kept)
        self.succeed(*self.arguments("resumed.pt", "--workdir", "work", "--resume")[1:])
        for name, time_written in kept.items():  # taken, not made again
            self.assertEqual((work / name).stat().st_mtime_ns, time_written, name)
        self.succeed(*self.arguments("whole.pt")[1:])
        self.assertEqual(self.content("resumed.pt"), self.content("whole.pt"))

    def content(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def test_checkpoint_of_another_run_is_refused(self) -> None:
        self.succeed(*self.arguments("out.pt", "--workdir", "work", "--calib-samples", "8")[1:])
        self.fails(2, "checkpoint", *self.arguments("other.pt", "--workdir", "work", "--resume",
                                                    "--calib-samples", "16")[1:])

    def test_checkpoint_of_other_preprocessing_is_refused(self) -> None:
        images = self.folder / "images"
        images.mkdir()
        shutil.copy(IMAGES / "rgb8.png", images)
        arguments = ["quantize", MODELS / "vit_fused.trace.pt", "--calib", images, "--workdir",
                     "work", "--preprocess"]
        preset = self.write("one.json", json.dumps(PRESET))
        self.succeed(*arguments, preset, "-o", "out.pt")
        other = self.write("two.json", json.dumps({**PRESET, "mean": [0.4, 0.4, 0.4]}))
        self.fails(2, "checkpoint", *arguments, other, "-o", "other.pt", "--resume")
        self.succeed(*arguments, preset, "-o", "again.pt", "--resume")

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
