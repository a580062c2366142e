"""Bit allocation: analyze, quantize --target-bits, and what they refuse."""

from __future__ import annotations

import json
import shutil

import program
from program import DIGITS_CALIB, DIGITS_MODEL, DIGITS_TEST, support

GATE, USAGE, FILE = 1, 2, 5
CALIB = ("--calib", DIGITS_CALIB, "--calib-samples", "32")


class AnalyzeTest(program.ProgramTest):
    def test_table_and_recipe(self) -> None:
        report = self.result("analyze", DIGITS_MODEL, "--bits", "w4a4", *CALIB, "--target-bits",
                             "4.5", "-o", "recipe.json")
        self.assertEqual(report["command"], "analyze")
        kl = [site["kl"] for site in report["sites"]]
        self.assertEqual(len(kl), 26)
        self.assertEqual(kl, sorted(kl, reverse=True))
        chosen = report["recommended"]
        self.assertLessEqual(chosen["weight_bits"], 4.5)
        self.assertLessEqual(chosen["activation_bits"], 4.5)
        recipe = json.loads((self.folder / "recipe.json").read_text())
        self.assertEqual(len(recipe["overrides"]), 26)
        preview = self.result("inspect", DIGITS_MODEL, "--data", DIGITS_CALIB, "--recipe",
                              "recipe.json")
        bits = {site["path"]: (site["weight_bits"], site["activation_bits"])
                for site in preview["sites"]}
        for site in report["sites"]:
            self.assertEqual(bits[site["path"]],
                             (site["chosen_weight_bits"], site["chosen_activation_bits"]))
        text = self.succeed("analyze", DIGITS_MODEL, "--bits", "w4a4", *CALIB).stdout
        self.assertIn("cumulative SQNR dB", text)
        self.assertIn("mean over multiply-adds", text)

    def test_refused(self) -> None:
        analyze = ("analyze", DIGITS_MODEL)
        self.fails(USAGE, "no calibration data", *analyze, "--bits", "w4a4")
        self.fails(USAGE, "weight-only", *analyze, "--bits", "w4a16", *CALIB)
        self.fails(USAGE, "weight-only", *analyze, "--candidates", "w4a4,w4a16", *CALIB)
        self.fails(USAGE, "bit widths are not written", *analyze, "--candidates", "w4a4,", *CALIB)
        self.fails(USAGE, "out of range", *analyze, "--target-bits", "9", *CALIB)
        self.fails(USAGE, "matches no", *analyze, "--exclude", "nothing.*", *CALIB)
        self.fails(USAGE, "leaves nothing", *analyze, "--exclude", "*", *CALIB)
        self.fails(FILE, "does not exist", "analyze", "missing.pt", *CALIB)
        self.write("recipe.json", "{}")
        self.fails(FILE, "recipe.json", *analyze, *CALIB, "-o", "recipe.json")


class TargetBitsTest(program.ProgramTest):
    def test_average_is_met_and_stored(self) -> None:
        model = self.folder / "digits.pt"
        shutil.copy(DIGITS_MODEL, model)
        report = self.result("quantize", model, *CALIB, "--target-bits", "4.5")
        self.assertEqual(report["output"], str(self.folder / "digits.mixed4.5.pt"))
        mixed = report["mixed"]
        for part in ("weight_bits", "activation_bits"):
            self.assertTrue(4.2 < mixed[part] <= 4.5, mixed)
        stored = self.result("inspect", report["output"])
        self.assertEqual(stored["mixed"], mixed)
        self.assertIn("mixed bits", self.succeed("inspect", report["output"]).stdout)
        accuracy = self.result("evaluate", report["output"], "--data", DIGITS_TEST)["models"][0]
        self.assertGreater(accuracy["top1"]["value"], 0.95)

    def test_same_file_on_any_threads(self) -> None:
        for threads in ("1", "2"):
            self.succeed("quantize", DIGITS_MODEL, *CALIB, "--target-bits", "4.25", "--candidates",
                         "w3a3,w4a4,w6a6", "--threads", threads, "-o", f"{threads}.pt")
        self.assertEqual((self.folder / "1.pt").read_bytes(), (self.folder / "2.pt").read_bytes())

    def test_refused(self) -> None:
        quantize = ("quantize", DIGITS_MODEL, *CALIB, "-o", "out.pt")
        for target in ("2.5", "8.5", "-4", "0"):
            self.fails(USAGE, "out of range", *quantize, f"--target-bits={target}")
        for target in ("four", "nan", "4.5x", "inf"):
            self.fails(USAGE, "not a number of bits", *quantize, f"--target-bits={target}")
        self.fails(USAGE, "weight-only", *quantize, "--target-bits", "4.5", "--bits", "w4a16")
        self.fails(USAGE, "--target-bits", *quantize, "--candidates", "w4a4")
        self.fails(USAGE, "weight-only", *quantize, "--target-bits", "4.5", "--candidates", "w4a16")
        self.fails(USAGE, "leaves nothing", *quantize, "--target-bits", "4.5", "--exclude", "*")
        # The first layer's input stays at 8 bits, so not even 3 bits elsewhere give 3 on average.
        self.fails(USAGE, "first_layer.activation_bits", *quantize, "--target-bits", "3")


class MaxDropKlTest(program.ProgramTest):
    def test_bound_is_met_and_stored(self) -> None:
        model = self.folder / "digits.pt"
        shutil.copy(DIGITS_MODEL, model)
        report = self.result("quantize", model, *CALIB, "--max-drop-kl", "0.05", "--time-limit",
                             "1h")
        self.assertEqual(report["output"], str(self.folder / "digits.mixed.pt"))
        held_back = report["mixed"]["held_back"]
        self.assertLessEqual(held_back["kl"], 0.05)
        self.assertEqual((held_back["max_kl"], held_back["samples"]), (0.05, 8))
        self.assertEqual(report["samples"], 24)
        self.assertLess(report["mixed"]["weight_bits"], 8)
        self.assertIn("held-back", self.succeed("inspect", report["output"]).stdout)

    def test_refused(self) -> None:
        quantize = ("quantize", DIGITS_MODEL, *CALIB, "-o", "out.pt")
        self.fails(GATE, "no choice of bits", *quantize, "--max-drop-kl", "1e-7")
        self.assertFalse((self.folder / "out.pt").exists())
        self.fails(USAGE, "positive number", *quantize, "--max-drop-kl", "0")
        self.fails(USAGE, "--max-drop-kl", *quantize, "--max-drop-kl", "little")
        self.fails(USAGE, "--target-bits", *quantize, "--max-drop-kl", "0.1", "--target-bits", "5")
        self.fails(USAGE, "--max-drop-kl", *quantize, "--time-limit", "10m")
        for limit in ("soon", "0", "-5", "5x"):
            self.fails(USAGE, "--time-limit", *quantize, "--max-drop-kl", "0.1",
                       f"--time-limit={limit}")


if __name__ == "__main__":
    support.main()
