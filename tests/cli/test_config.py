"""Where settings come from, what doctor and help say, and who writes to which stream."""

from __future__ import annotations

import json

import program
from program import DIGITS_CALIB, DIGITS_MODEL, DIGITS_TEST, support


class ConfigTest(program.ProgramTest):
    def config(self, *arguments: object, **options: object) -> dict[str, tuple[str, str]]:
        shown = self.result("quantize", DIGITS_MODEL, "--print-config", *arguments, **options)
        return {row["key"]: (row["value"], row["origin"]) for row in shown["config"]}

    def test_default(self) -> None:
        config = self.config()
        self.assertEqual(config["bits"], ("w8a8", "default"))
        self.assertEqual(config["norm.clipping"], ("search", "default"))

    def test_order_of_sources(self) -> None:
        recipe = self.write("r.json", json.dumps(
            {"schema_version": 1, "bits": "w6a6", "norm": {"clipping": "minmax"},
             "weights": {"damping": 0.05}, "calibration": {"seed": 4}}))
        config = self.config(
            "--recipe", recipe, "--clipping", "learned", "--threads", "1",
            environment={"REPQUANT_NORM_CLIPPING": "percentile",
                         "REPQUANT_WEIGHTS_DAMPING": "0.02",
                         "REPQUANT_CALIB": "elsewhere", "REPQUANT_THREADS": "2"})
        self.assertEqual(config["bits"], ("w6a6", f"file {recipe}"))
        self.assertEqual(config["norm.clipping"], ("learned", "--clipping"))
        self.assertEqual(config["weights.damping"], ("0.02", "REPQUANT_WEIGHTS_DAMPING"))
        self.assertEqual(config["calibration.seed"], ("4", f"file {recipe}"))
        self.assertEqual(config["weights.block_size"], ("128", "default"))
        self.assertEqual(config["calib"], ("elsewhere", "REPQUANT_CALIB"))
        self.assertEqual(config["threads"], ("1", "command line"))

    def test_recipes_are_explained(self) -> None:
        lines = self.succeed("recipe", "show", "paper", "--explain",
                             environment={"COLUMNS": "80"}).stdout.splitlines()
        settings = [line for line in lines if not line.startswith(" ")]
        recipe = json.loads(self.succeed("recipe", "show", "paper").stdout)
        self.assertIn(f"calibration.samples = {recipe['calibration']['samples']}", settings)
        self.assertGreater(len(lines), 2 * len(settings) - 1, "a meaning below each setting")
        self.assertLessEqual(max(map(len, lines)), 80)
        self.assertEqual(json.loads(self.succeed("recipe", "show", "paper", "--explain",
                                                 "--json").stdout), recipe)

    def test_options_are_settings(self) -> None:
        config = self.config("--bits", "w4a8", "--calib-samples", "5", "--seed", "9",
                             "--batch-size", "3", "--set", "attention.per_head=false",
                             "--exclude", "head", "--exclude", "blocks.*")
        self.assertEqual(config["bits"], ("w4a8", "--bits"))
        self.assertEqual(config["calibration.samples"], ("5", "--calib-samples"))
        self.assertEqual(config["calibration.seed"], ("9", "--seed"))
        self.assertEqual(config["calibration.batch_size"], ("3", "--batch-size"))
        self.assertEqual(config["attention.per_head"], ("false", "--set"))
        self.assertEqual(config["exclude"], ('["head","blocks.*"]', "--exclude"))

    def test_no_setting_is_listed_twice(self) -> None:
        options = ("--bits", "w4a4", "--effort", "fast", "--exclude", "head", "--clipping",
                   "minmax", "--calib-samples", "16", "--batch-size", "4", "--hold-back", "2",
                   "--seed", "3", "--set", "weights.damping=0.02")
        self.assertEqual(self.config(*options).keys(), self.config().keys())
        self.assertEqual(self.config(*options)["calibration.hold_back"], ("2", "--hold-back"))
        self.assertEqual(self.config(*options)["effort"], ("fast", "--effort"))

    def test_text_form(self) -> None:
        done = self.succeed("quantize", DIGITS_MODEL, "--print-config", "--bits", "w4a4")
        self.assertRegex(done.stdout, r"(?m)^bits +=\s+w4a4 +\(--bits\)$")


class DoctorTest(program.ProgramTest):
    def test_findings(self) -> None:
        findings = {row["name"]: row["value"] for row in self.result("doctor")["findings"]}
        generic = self.result("doctor", environment={"REPQUANT_CPU_LEVEL": "generic"})["findings"]
        level, = (row for row in generic if row["name"] == "fused kernels")
        self.assertEqual(level["value"], "generic")
        self.assertIn("REPQUANT_CPU_LEVEL", level["note"])
        self.assertIn(findings["fused kernels"], ("generic", "avx2", "avx512vnni", "onednn"))
        self.assertTrue(findings["LibTorch"].startswith("2."))
        self.assertEqual(findings["C++ ABI"], "C++11")
        kernels = [findings[f"kernels {name}"]
                   for name in ("generic", "avx2", "avx512vnni", "onednn")]
        self.assertEqual(kernels[0], "right")
        self.assertTrue(set(kernels) <= {"right", "missing"}, kernels)
        self.assertIn(findings["u8 x s8 products"], ("exact", "saturate"))

    def test_products_of_the_library_can_be_switched_on(self) -> None:
        note = {row["name"]: row["note"] for row in self.result("doctor")["findings"]}
        if "onednn" not in note["fused kernels"]:
            self.skipTest("oneDNN has no integer products on this processor")
        self.assertIn("AMX", note["fused kernels"])  # why they are in use, or are not
        asked = self.result("doctor", environment={"REPQUANT_CPU_LEVEL": "onednn"})["findings"]
        self.assertIn("onednn", [row["value"] for row in asked if row["name"] == "fused kernels"])
        # Without them the switch asks for something that is not there.
        kept_away = {"REPQUANT_CPU_LEVEL": "onednn", "ONEDNN_MAX_CPU_ISA": "AVX2"}
        done = self.run_program("doctor", environment=kept_away)
        self.assertEqual(done.returncode, 2)
        self.assertIn("REPQUANT_CPU_LEVEL", done.stderr)
        self.assertIn("avx512vnni", done.stderr)

    def test_probe_sees_saturation(self) -> None:
        # oneDNN kept from VNNI adds pairs of u8 x s8 products in 16 bits. A processor without VNNI
        # may get an exact product of another library instead (seen on one with AVX2 alone).
        here = {row["name"]: row["value"] for row in self.result("doctor")["findings"]}
        if "avx512vnni" not in here["instruction sets"]:
            self.skipTest("a processor with AVX512-VNNI is needed to keep oneDNN from it")
        findings = {row["name"]: row["value"] for row in
                    self.result("doctor", environment={"ONEDNN_MAX_CPU_ISA": "AVX2"})["findings"]}
        self.assertEqual(findings["u8 x s8 products"], "saturate")

    def test_help_lists_exit_codes(self) -> None:
        shown = self.succeed("--help").stdout
        for code in ("0", "1", "2", "4", "5", "6", "7", "70", "130"):
            self.assertRegex(shown, rf"(?m)^  {code} +\w")
        for command in ("quantize", "evaluate", "inspect", "run", "doctor"):
            self.assertIn("--threads", self.succeed(command, "--help").stdout)

    def test_version(self) -> None:
        self.assertRegex(self.succeed("--version").stdout, r"^repquant \d+\.\d+\.\d+")


class StreamTest(program.ProgramTest):
    EVALUATE = ("evaluate", DIGITS_MODEL, "--data", DIGITS_TEST, "--samples", "20")

    def test_stdout_has_the_result_only(self) -> None:
        done = self.succeed(*self.EVALUATE)
        self.assertIn("protocol:", done.stdout)
        self.assertIn("evaluate", done.stderr)
        self.assertNotIn("20/20", done.stdout)

    def test_quiet(self) -> None:
        self.assertEqual(self.succeed(*self.EVALUATE, "--quiet").stderr, "")

    def test_quiet_still_shows_errors(self) -> None:
        done = self.run_program("evaluate", "absent.pt", "--data", DIGITS_TEST, "--quiet")
        self.assertEqual(done.returncode, 5)
        self.assertIn("absent.pt", done.stderr)

    def test_log_file(self) -> None:
        self.succeed(*self.EVALUATE, "--quiet", "--log-file", "log.txt")
        self.assertIn("evaluate", (self.folder / "log.txt").read_text())

    def test_no_color_codes_in_pipes(self) -> None:
        done = self.succeed("inspect", DIGITS_MODEL, environment={"REPQUANT_UNKNOWN": "1"})
        self.assertNotIn("\x1b", done.stdout + done.stderr)

    def test_json_is_one_object(self) -> None:
        for arguments in (self.EVALUATE, ("inspect", DIGITS_MODEL), ("doctor",),
                          ("inspect", DIGITS_MODEL, "--data", DIGITS_CALIB)):
            with self.subTest(arguments[0]):
                self.assertEqual(self.result(*arguments)["command"], arguments[0])


if __name__ == "__main__":
    support.main()
