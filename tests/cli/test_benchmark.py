"""repquant benchmark: what it checks and reports. No test looks at how long anything took."""

from __future__ import annotations

import numpy as np

import program
from program import DIGITS_CALIB, DIGITS_MODEL, DIGITS_TEST, MODELS, support


class BenchmarkTest(program.ProgramTest):
    def test_models_side_by_side(self) -> None:
        self.succeed("quantize", DIGITS_MODEL, "--bits", "w8a8", "--calib", DIGITS_CALIB, "-o",
                     "w8a8.pt")
        report = self.result("benchmark", DIGITS_MODEL, "w8a8.pt", "--data", DIGITS_TEST,
                             "--batch-sizes", "1,16", "--rounds", "5", "--threads", "1")
        self.assertEqual(len(report["rows"]), 4)
        self.assertEqual([row["batch_size"] for row in report["rows"]], [1, 1, 16, 16])
        for row in report["rows"]:
            seconds, speed_up = row["seconds"], row["speed_up"]
            self.assertTrue(0 < seconds["minimum"] <= seconds["median"] <= seconds["p90"]
                            <= seconds["p99"])
            self.assertAlmostEqual(row["samples_per_second"],
                                   row["batch_size"] / seconds["median"])
            low, high = speed_up["interval95"]
            self.assertTrue(low <= speed_up["median"] <= high)
            self.assertGreater(row["peak_memory_bytes"], 10**7)
        baseline, artifact = report["models"]
        self.assertFalse(baseline["artifact"])
        self.assertIsNone(baseline["sqnr_db"])  # equal to itself: no error at all
        self.assertTrue(artifact["artifact"])
        self.assertGreater(artifact["sqnr_db"], 20)
        self.assertGreater(artifact["integer_share"], 0.5)
        self.assertEqual(artifact["file_bytes"], (self.folder / "w8a8.pt").stat().st_size)

    def test_random_numbers_by_shape(self) -> None:
        done = self.succeed("benchmark", DIGITS_MODEL, "--input-shape", "1,8,8", "--rounds", "2")
        for word in ("median ms", "synthetic", "speed-up", "95 % interval"):
            self.assertIn(word, done.stdout)

    def test_outputs_are_compared_first(self) -> None:
        # The artifact of another model: its head has been negated.
        import torch

        model = torch.jit.load(str(DIGITS_MODEL))
        with torch.no_grad():
            model.head.weight.neg_()
        torch.jit.save(model, str(self.folder / "other.pt"))
        self.succeed("quantize", "other.pt", "--bits", "w8a8", "--calib", DIGITS_CALIB, "-o",
                     "other.w8a8.pt")
        self.fails(7, "nothing in common with the baseline", "benchmark", DIGITS_MODEL, "other.w8a8.pt",
                   "--data", DIGITS_TEST, "--rounds", "1")

    def test_both_forms_of_an_artifact(self) -> None:
        self.succeed("quantize", DIGITS_MODEL, "--bits", "w4a8", "--calib", DIGITS_CALIB, "-o",
                     "q.pt", "--calib-samples", "32")
        report = self.result("benchmark", DIGITS_MODEL, "q.pt", "--form", "portable,fused",
                             "--data", DIGITS_TEST, "--batch-sizes", "16", "--rounds", "3",
                             "--threads", "1")
        forms = ["float", "portable", "fused"]
        self.assertEqual([model["form"] for model in report["models"]], forms)
        self.assertEqual([row["form"] for row in report["rows"]], forms)
        self.assertIn(report["cpu_level"], ("generic", "avx2", "avx512vnni", "onednn"))
        _, portable, fused = report["models"]
        self.assertEqual(portable["path"], fused["path"])
        # The same codes, through other operators: the same error but for ties.
        self.assertLess(abs(portable["sqnr_db"] - fused["sqnr_db"]), 3)
        self.assertLess(portable["integer_share"], 1.0)
        self.assertEqual(fused["integer_share"], 1.0)
        text = self.succeed("benchmark", "q.pt", "--fused", "--input-shape", "1,8,8", "--rounds",
                            "1").stdout
        self.assertIn("q.pt (fused)", text)
        self.assertIn("fused operators on ", text)
        self.fails(2, "--form excludes --fused", "benchmark", "q.pt", "--fused", "--form", "fused")
        self.fails(2, "fused is given twice", "benchmark", "q.pt", "--form", "fused,fused")

    def test_forms_that_are_none(self) -> None:
        shape = ("--input-shape", "1,8,8")
        self.fails(2, "no model has a fused form", "benchmark", DIGITS_MODEL, "--fused", *shape)
        self.fails(2, "unknown form", "benchmark", DIGITS_MODEL, "--form", "fusd", *shape)
        self.fails(2, "unknown form", "benchmark", DIGITS_MODEL, "--form", "float", *shape)
        self.fails(5, "missing.pt", "benchmark", "missing.pt", "--fused", *shape)

    def test_models_of_other_tasks(self) -> None:
        self.fails(2, "model fails on the data", "benchmark", DIGITS_MODEL,
                   MODELS / "vit_fused.trace.pt", "--input-shape", "1,8,8", "--rounds", "1")

    def test_bad_options(self) -> None:
        self.fails(2, "--input-shape", "benchmark", DIGITS_MODEL)
        self.fails(2, "--batch-sizes", "benchmark", DIGITS_MODEL, "--batch-sizes", "0")
        self.fails(2, "--rounds", "benchmark", DIGITS_MODEL, "--rounds", "0")
        np.save(self.folder / "few.npy", np.zeros((3, 1, 8, 8), np.float32))
        self.fails(2, "fewer samples than the batch size", "benchmark", DIGITS_MODEL, "--data",
                   "few.npy", "--batch-sizes", "4")
        self.fails(5, "missing.pt", "benchmark", "missing.pt", "--input-shape", "1,8,8")


if __name__ == "__main__":
    support.main()
