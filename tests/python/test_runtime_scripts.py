"""The scripts that compare runtimes, plot latencies and profile. No test looks at a time."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import math
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

import numpy as np
import torch

from support import DIGITS, binary, main

import compare_runtimes
import plot_latency
import profile_fused

MODEL = DIGITS / "digits_vit.pt"


def loader() -> bool:
    return Path(os.environ.get("REPQUANT_LIBRARY", "missing")).is_file()


def run(program, *arguments: object) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = program.main([str(argument) for argument in arguments])
    return code, out.getvalue(), err.getvalue()


class FolderTest(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)


class CompareTest(FolderTest):
    def test_distance_by_hand(self) -> None:
        expected = torch.tensor([3.0, 4.0])
        self.assertAlmostEqual(
            compare_runtimes.sqnr_db(expected, expected + torch.tensor([0.5, 0.0])), 20.0)
        self.assertEqual(compare_runtimes.sqnr_db(expected, expected), math.inf)

    def test_interval_of_the_median(self) -> None:
        # Binomial, n = 10: P(fewer than 2 below the median) = 11 / 1024 <= 0.025 < 56 / 1024.
        values = [float(i) for i in range(10)]
        self.assertEqual(compare_runtimes.median_interval(values[::-1]), (1.0, 8.0))
        self.assertEqual(compare_runtimes.median_interval([2.0, 1.0]), (1.0, 2.0))

    def test_torch_and_bf16(self) -> None:
        code, out, err = run(compare_runtimes, MODEL, "--calib", DIGITS / "digits_calib.npz",
                             "--no-onnx", "--no-openvino", "--batch-sizes", "1,3", "--rounds", 3, "--json")
        self.assertEqual(code, 0, err)
        rows = json.loads(out)["rows"]
        self.assertEqual([(row["contender"], row["batch_size"]) for row in rows],
                         [("fp32", 1), ("bf16", 1), ("fp32", 3), ("bf16", 3)])
        self.assertIsNone(rows[0]["sqnr_db"])
        self.assertTrue(20 < rows[1]["sqnr_db"] < 80)  # 8 bits of significand
        self.assertEqual(rows[0]["speed_up"], {"median": 1.0, "interval95": [1.0, 1.0]})
        self.assertNotIn("speed_up_openvino", rows[0])
        self.assertEqual(rows[0]["file_bytes"], MODEL.stat().st_size)

    @unittest.skipUnless(binary() and loader(), "needs the repquant program and its library")
    def test_artifacts_and_their_profile(self) -> None:
        artifact = self.folder / "q.pt"
        subprocess.run([str(binary()), "quantize", str(MODEL), "--calib",
                        str(DIGITS / "digits_calib.npz"), "--bits", "w8a8", "--calib-samples", "32",
                        "--threads", "1", "-q", "-o", str(artifact)], check=True,
                       stdout=subprocess.DEVNULL)
        code, out, err = run(compare_runtimes, MODEL, artifact, "--calib",
                             DIGITS / "digits_calib.npz", "--no-onnx", "--no-openvino", "--no-bf16",
                             "--rounds", 1)
        self.assertEqual(code, 0, err)
        for name in ("| fp32 |", "| q.pt portable |", "| q.pt fused |"):
            self.assertIn(name, out)
        code, out, err = run(profile_fused, artifact, "--input-shape", "2,1,8,8", "--rounds", 2,
                             "--least-share", 0)
        self.assertEqual(code, 0, err)
        # 2 samples of 17 tokens, of which the last of four blocks gives one; width 64, hidden width
        # 256. Where a fold pays at the second Linear of one, the first does not make its codes.
        for rows, blocks in ((34, 3), (2, 1)):
            calls = re.findall(rf"\| repquant::linear\w* \| {rows} x 64 -> 256 \| (\d+) \|", out)
            self.assertEqual(sum(int(count) for count in calls), blocks, out)
            self.assertIn(f"| repquant::linear | {rows} x 256 -> 64 | {blocks} |", out)
        self.assertIn("| repquant::linear_tokens |", out)
        self.assertIn("repquant::attention", out)
        code, _, err = run(profile_fused, MODEL, "--input-shape", "2,1,8,8")
        self.assertEqual(code, 1)
        self.assertIn("not an artifact", err)

    def test_outputs_are_compared_first(self) -> None:
        contenders = [compare_runtimes.Contender("fp32", lambda inputs: inputs[0]),
                      compare_runtimes.Contender("other", lambda inputs: -inputs[0])]
        x = [torch.ones(2, 3)]
        with self.assertRaisesRegex(compare_runtimes.CompareError, "other: outputs are -6.0 dB"):
            compare_runtimes.check_outputs(contenders, x)
        contenders[1].run = lambda inputs: inputs[0][:, :2]
        with self.assertRaisesRegex(compare_runtimes.CompareError, "other: outputs"):
            compare_runtimes.check_outputs(contenders, x)
        contenders[1].run = lambda inputs: inputs[0] * math.nan
        with self.assertRaisesRegex(compare_runtimes.CompareError, "expected finite ones"):
            compare_runtimes.check_outputs(contenders, x)

    def test_bad_data(self) -> None:
        code, _, err = run(compare_runtimes, MODEL, "--calib", self.folder / "none.npy")
        self.assertEqual(code, 1)
        self.assertIn("cannot read", err)
        code, _, err = run(compare_runtimes, MODEL, "--calib", self.folder)
        self.assertEqual(code, 1)
        self.assertIn("stores no preprocessing", err)

    @unittest.skipIf(importlib.util.find_spec("onnxruntime"), "ONNX Runtime is installed")
    def test_without_onnx_runtime(self) -> None:
        code, _, err = run(compare_runtimes, MODEL, "--calib", DIGITS / "digits_calib.npz")
        self.assertEqual(code, 1)
        self.assertIn("requirements-onnxruntime.txt", err)

    @unittest.skipIf(importlib.util.find_spec("openvino"), "OpenVINO is installed")
    def test_without_openvino(self) -> None:
        code, _, err = run(compare_runtimes, MODEL, "--no-onnx", "--calib",
                           DIGITS / "digits_calib.npz")
        self.assertEqual(code, 1)
        self.assertIn("requirements-openvino.txt", err)

    @unittest.skipUnless(importlib.util.find_spec("onnxruntime"), "needs ONNX Runtime")
    def test_onnx_runtime(self) -> None:
        code, out, err = run(compare_runtimes, MODEL, "--calib", DIGITS / "digits_calib.npz",
                             "--calib-samples", 16, "--rounds", 1, "--no-openvino", "--json")
        self.assertEqual(code, 0, err)
        rows = {row["contender"]: row for row in json.loads(out)["rows"]}
        self.assertGreater(rows["onnxruntime fp32"]["sqnr_db"], 60)
        self.assertTrue(0 < rows["onnxruntime int8"]["sqnr_db"] < 60)

    @unittest.skipUnless(importlib.util.find_spec("nncf"), "needs OpenVINO and NNCF")
    def test_openvino(self) -> None:
        code, out, err = run(compare_runtimes, MODEL, "--calib", DIGITS / "digits_calib.npz",
                             "--rounds", 1, "--no-onnx", "--json")
        self.assertEqual(code, 0, err)
        rows = {row["contender"]: row for row in json.loads(out)["rows"]}
        self.assertGreater(rows["openvino fp32"]["sqnr_db"], 60)
        self.assertTrue(10 < rows["openvino int8"]["sqnr_db"] < 60)
        self.assertEqual(rows["openvino fp32"]["speed_up_openvino"]["median"], 1.0)
        self.assertGreater(rows["openvino int8"]["quantize_seconds"], 0)

    def test_samples_are_apart(self) -> None:
        path = self.folder / "rows.npz"
        ids = np.arange(24, dtype=np.uint16).reshape(12, 2)
        np.savez(path, mask=ids * 0 + 1, ids=ids)
        fitted, others = compare_runtimes.read_samples(path, None, 4, 5, ["ids", "mask"])
        self.assertEqual([x.dtype for x in fitted], [torch.int64, torch.int64])
        self.assertEqual((len(fitted[0]), len(others[0])), (4, 5))
        self.assertFalse(set(fitted[0][:, 0].tolist()) & set(others[0][:, 0].tolist()))
        self.assertTrue((fitted[1] == 1).all())


def result(**changes: object) -> dict:
    def row(model: str, form: str, size: int, seconds: float, ratio: float) -> dict:
        return {"model": model, "form": form, "batch_size": size,
                "seconds": {"median": seconds},
                "speed_up": {"median": ratio, "interval95": [0.9 * ratio, 1.1 * ratio]}}

    rows = []
    for size in (1, 8):
        rows += [row("a/net.pt", "float", size, 0.04 * size, 1.0),
                 row("b/net.w8a8.pt", "portable", size, 0.02 * size, 2.0),
                 row("b/net.w8a8.pt", "fused", size, 0.01 * size, 4.0)]
    found = {"schema_version": 1, "command": "benchmark", "threads": 1, "rows": rows,
             "models": [{"path": "a/net.pt", "file_bytes": 23_200_000},
                        {"path": "b/net.w8a8.pt", "file_bytes": 834_000}]}
    return found | changes


class PlotTest(FolderTest):
    def write(self, content: object) -> Path:
        path = self.folder / "result.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    def test_table(self) -> None:
        code, out, err = run(plot_latency, self.write(result()))
        self.assertEqual(code, 0, err)
        lines = out.splitlines()
        self.assertEqual(lines[2], "| net | FP32 | 23.2 MB | 40.0 | 1.00x | 320.0 | 1.00x |")
        self.assertEqual(lines[4], "|  | w8a8 fused | 834 kB | 10.0 | 4.00x | 80.0 | 4.00x |")
        self.assertEqual(len(lines), 5)

    def test_comparison(self) -> None:
        rows = [{"contender": name, "batch_size": 1, "file_bytes": size,
                 "seconds": {"median": seconds},
                 "speed_up": {"median": 0.04 / seconds, "interval95": [1.0, 2.0]}}
                for name, size, seconds in (("fp32", 23_200_000, 0.04), ("openvino int8", None, 0.02),
                                            ("net.w8a8.pt fused", 834_000, 0.01))]
        compared = {"schema_version": 2, "command": "compare_runtimes", "model": "a/net.pt",
                    "threads": 1, "rows": rows}
        code, out, err = run(plot_latency, self.write(compared))
        self.assertEqual(code, 0, err)
        self.assertEqual(out.splitlines()[2:], [
            "| net | FP32 | 23.2 MB | 40.0 | 1.00x |",
            "|  | openvino int8 | - | 20.0 | 2.00x |",
            "|  | w8a8 fused | 834 kB | 10.0 | 4.00x |"])

    def test_bad_files(self) -> None:
        for content, message in (("{", "cannot read"), ("[]", "not the output of"),
                                 (result(command="evaluate"), "not the output of"),
                                 (result(schema_version=9), "schema version 9"),
                                 (result(rows=[]), "no measurements")):
            with self.subTest(message):
                code, out, err = run(plot_latency, self.write(content))
                self.assertEqual((code, out), (1, ""))
                self.assertIn(message, err)

    @unittest.skipUnless(importlib.util.find_spec("matplotlib"), "needs matplotlib")
    def test_plot_is_reproducible(self) -> None:
        path, output = self.write(result()), self.folder / "images" / "latency.svg"
        self.assertEqual(run(plot_latency, path, "--output", output)[0], 0)
        first = output.read_bytes()
        self.assertEqual(run(plot_latency, path, path, "--output", output)[0], 0)
        self.assertNotEqual(output.read_bytes(), first)
        self.assertEqual(run(plot_latency, path, "--output", output)[0], 0)
        self.assertEqual(output.read_bytes(), first)
        for text in (b"w8a8 fused", b"batch 8", b"4.0x"):
            self.assertIn(text, first)

    @unittest.skipIf(importlib.util.find_spec("matplotlib"), "matplotlib is installed")
    def test_plot_without_matplotlib(self) -> None:
        code, _, err = run(plot_latency, self.write(result()), "--output", self.folder / "a.svg")
        self.assertEqual(code, 1)
        self.assertIn("requirements-plot.txt", err)


if __name__ == "__main__":
    main()
