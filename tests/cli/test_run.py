"""repquant run: rows, gates, summaries, resumption, and plans that make no sense."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from typing import Any

import numpy as np

import program
from program import BINARY, DIGITS_CALIB, DIGITS_MODEL, DIGITS_TEST, support

GATE, USAGE, FILE = 1, 2, 5


class RunTest(program.ProgramTest):
    def model(self, name: str = "digits", **changes: Any) -> dict[str, Any]:
        model = {"name": name, "model": str(DIGITS_MODEL),
                 "calib": {"data": str(DIGITS_CALIB), "samples": 8},
                 "set": {"norm.clipping": "minmax"},  # fast
                 "evaluate": {"data": str(DIGITS_TEST), "samples": 100, "batch_size": 50}}
        return {**model, **changes}

    def plan(self, *models: dict[str, Any], **changes: Any) -> str:
        plan = {"schema_version": 1, "output": "out", "bits": ["w8a8", "w4a4"],
                "models": list(models) or [self.model()], **changes}
        self.write("plan.json", json.dumps(plan))
        return "plan.json"

    def run_json(self, code: int, *arguments: object) -> dict[str, Any]:
        done = self.run_program("run", *arguments, "--json")
        self.assertEqual(done.returncode, code, done.stderr)
        return json.loads(done.stdout)


class RowsTest(RunTest):
    def test_gates_summaries_and_resumption(self) -> None:
        broken = self.model("broken", model="absent.pt")
        plan = self.plan(self.model(), broken,
                         self.model("strict", bits=["w8a8"], gates={"max_kl": 0.0}),
                         gates={"min_top1": 0.5, "min_coverage": 0.9})
        report = self.run_json(FILE, plan, "--markdown", "out.md", "--junit", "out.xml")
        statuses = {(row["model"], row["row"]): row["status"] for row in report["rows"]}
        self.assertEqual(statuses, {
            ("digits", "w8a8"): "passed", ("digits", "w4a4"): "passed",
            ("broken", "w8a8"): "failed", ("broken", "w4a4"): "failed",
            ("strict", "w8a8"): "missed"})
        self.assertEqual((report["passed"], report["missed"], report["failed"]), (2, 1, 2))
        # The same calibration serves both bit widths, and here even the third model.
        self.assertEqual(report["calibrations"], 1)
        self.assertIn("absent.pt", report["rows"][2]["error"])
        self.assertTrue((self.folder / "out" / "digits.w4a4.pt").is_file())
        for row in report["rows"][:2]:
            self.assertEqual(len(row["gates"]), 2)
            self.assertGreater(row["metrics"]["top1"], 0.9)
            self.assertLess(row["metrics"]["size_ratio"], 1.0)

        markdown = (self.folder / "out.md").read_text()
        self.assertIn("| digits | w4a4 | passed |", markdown)
        self.assertIn("2 passed, 1 missed a gate, 2 failed", markdown)
        suites = ElementTree.parse(self.folder / "out.xml").getroot()
        self.assertEqual([suites.get(key) for key in ("tests", "failures", "errors")],
                         ["5", "1", "2"])
        self.assertGreater(float(suites.get("time")), 0.0)
        self.assertAlmostEqual(float(suites.get("time")), sum(
            float(case.get("time")) for case in suites.iter("testcase")), delta=0.01)
        self.assertEqual([suite.get("name") for suite in suites], ["digits", "broken", "strict"])
        self.assertIn("max-kl", suites.find("testsuite[@name='strict']/testcase/failure")
                      .get("message"))

        # Again: what is there is taken over; a gate alone is judged anew.
        times = {path: path.stat().st_mtime_ns for path in (self.folder / "out").glob("*.pt")}
        plan = self.plan(self.model(), self.model("strict", bits=["w8a8"]),
                         gates={"min_top1": 0.5})
        again = self.run_json(0, plan)
        self.assertTrue(all(row["resumed"] for row in again["rows"]))
        self.assertEqual(again["rows"][0]["metrics"], report["rows"][0]["metrics"])
        self.assertEqual(again["calibrations"], 0)
        self.assertEqual(times, {path: path.stat().st_mtime_ns for path in times})
        text = self.succeed("run", plan).stdout
        self.assertIn("not run again", text)
        self.assertIn("3 passed", text)

    def test_a_regression_against_an_earlier_run(self) -> None:
        def night(folder: str, bits: str, code: int, **changes: Any) -> dict[str, Any]:
            row = [{"bits": bits, "label": "row"}]
            return self.run_json(code, self.plan(output=folder, bits=row, **changes))["rows"][0]

        baseline = {"folder": "first", "allow": {"sqnr_db": 1.0, "kl": 0.001, "top1": 0.02}}
        night("first", "w8a8", 0)
        self.assertEqual(len(night("same", "w8a8", 0, baseline=baseline)["gates"]), 3)
        gates = night("worse", "w4a4", GATE, baseline=baseline)["gates"]
        self.assertEqual([gate["passed"] for gate in gates], [False, False, True])
        self.assertEqual(gates[0]["gate"], "baseline sqnr_db")
        new = {**baseline, "folder": "nothing"}
        (self.folder / "nothing").mkdir()
        self.assertEqual(night("new", "w8a8", 0, baseline=new)["gates"], [])
        itself = {**baseline, "folder": "./same"}
        self.fails(USAGE, "baseline/folder", "run", self.plan(output="same", baseline=itself))
        unknown = {**baseline, "allow": {"beauty": 0.1}}
        self.assertEqual(night("odd", "w8a8", USAGE, baseline=unknown)["status"], "failed")

    def test_a_missed_gate_alone_is_code_1(self) -> None:
        self.run_json(GATE, self.plan(bits=["w8a8"], gates={"max_kl": 0.0}))

    def test_dry_run(self) -> None:
        plan = self.plan(self.model(), self.model("broken", model="absent.pt", bits=["w8a8"]))
        report = self.run_json(FILE, plan, "--dry-run")
        self.assertEqual([row["status"] for row in report["rows"]],
                         ["planned", "planned", "failed"])
        self.assertEqual(sorted(self.files()), ["plan.json"])
        plan = self.plan(bits=["w8a8"])
        self.run_json(0, plan)
        rows = self.run_json(0, plan, "--dry-run")["rows"]
        self.assertEqual([(row["status"], row["resumed"]) for row in rows], [("passed", True)])

    def test_a_run_killed_before_the_outcome_is_written(self) -> None:
        plan = self.plan(bits=["w8a8"])
        environment = {k: v for k, v in os.environ.items() if not k.startswith("REPQUANT_")}
        process = subprocess.Popen([str(BINARY), "run", plan], cwd=self.folder, env=environment,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        artifact = self.folder / "out" / "digits.w8a8.pt"
        while process.poll() is None and not artifact.exists():
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        outcome = json.loads((self.folder / "out" / "digits.w8a8.json").read_text())
        self.assertNotIn("fingerprint", outcome, "the kill came too late for this test")
        made = artifact.read_bytes()
        row = self.run_json(0, plan)["rows"][0]
        self.assertFalse(row["resumed"])
        self.assertEqual(artifact.read_bytes(), made)

    def test_what_changed_is_run_again(self) -> None:
        self.run_json(0, self.plan(bits=["w8a8"]))
        artifact = self.folder / "out" / "digits.w8a8.pt"
        before = artifact.read_bytes()

        def resumed(**changes: Any) -> bool:
            return self.run_json(0, self.plan(self.model(**changes),
                                              bits=["w8a8"]))["rows"][0]["resumed"]

        self.assertTrue(resumed())
        self.assertFalse(resumed(set={"norm.clipping": "percentile"}))
        self.assertNotEqual(artifact.read_bytes(), before)
        self.assertFalse(resumed())
        self.assertEqual(artifact.read_bytes(), before)
        artifact.write_bytes(before[:-1])  # damaged
        self.assertFalse(resumed())
        self.write("out/digits.w8a8.json", "{")
        self.assertFalse(resumed())
        self.assertFalse(resumed(evaluate={"data": str(DIGITS_TEST), "samples": 50}))

    def test_labels_beside_the_samples_are_part_of_the_data(self) -> None:
        (self.folder / "data").mkdir()
        digits = np.load(DIGITS_TEST)
        for i, image in enumerate(digits["images"][:20]):
            np.save(self.folder / "data" / f"{i:02}.npy", image)
        plan = self.plan(self.model(bits=["w8a8"], evaluate={"data": "data"}))
        top1 = []
        for shift in (0, 1):
            labels = (digits["labels"][:20] + shift) % 10
            self.write("data/labels.txt", "".join(f"{label}\n" for label in labels))
            row = self.run_json(0, plan)["rows"][0]
            self.assertFalse(row.get("resumed", False))
            top1.append(row["metrics"]["top1"])
        self.assertGreater(top1[0], 0.8)
        self.assertLess(top1[1], 0.2)

    def test_rows_equal_single_runs(self) -> None:
        row = self.run_json(0, self.plan(bits=["w4a4"]))["rows"][0]
        self.succeed("quantize", DIGITS_MODEL, "--bits", "w4a4", "--calib", DIGITS_CALIB,
                     "--calib-samples", "8", "--clipping", "minmax", "-o", "single.pt")
        self.assertEqual((self.folder / "single.pt").read_bytes(),
                         (self.folder / row["artifact"]).read_bytes())
        single = self.result("evaluate", "single.pt", "--data", DIGITS_TEST, "--samples", "100",
                             "--batch-size", "50", "--reference", DIGITS_MODEL)["models"][0]
        self.assertEqual(row["metrics"]["top1"], single["top1"]["value"])
        self.assertEqual(row["metrics"]["kl"], single["kl"])

    def test_files_of_others_are_not_replaced(self) -> None:
        self.write("out/digits.w8a8.pt", "precious")
        row = self.run_json(FILE, self.plan(bits=["w8a8"]))["rows"][0]
        self.assertIn("--force", row["error"])
        self.assertEqual((self.folder / "out/digits.w8a8.pt").read_text(), "precious")
        self.run_json(0, self.plan(bits=["w8a8"]), "--force")

    def test_names_in_summaries_are_escaped(self) -> None:
        plan = self.plan(self.model(model='no<such>&"model"|.pt'), bits=["w8a8"])
        self.run_json(FILE, plan, "--markdown", "out.md", "--junit", "out.xml")
        error = ElementTree.parse(self.folder / "out.xml").getroot().find(".//error")
        self.assertIn('no<such>&"model"|.pt', error.get("message"))
        self.assertIn("\\|", (self.folder / "out.md").read_text())

    def test_example(self) -> None:
        folder = self.folder / "example"
        done = subprocess.run(
            [str(support.SCRIPTS / "ci_example.sh"), str(support.ROOT / "examples/ci/plan.json"),
             str(folder)], capture_output=True, text=True, check=False,
            env={**os.environ, "REPQUANT": str(BINARY)})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("3 passed", done.stdout)
        for name in ("summary.md", "junit.xml", "log.txt", "digits.w4a4.pt"):
            self.assertTrue((folder / name).is_file(), name)


class BadPlanTest(RunTest):
    def plan_fails(self, pointer: str, *models: dict[str, Any], **changes: Any) -> None:
        self.plan(*models, **changes)
        self.fails(USAGE, f"plan.json#{pointer}", "run", "plan.json")

    def test_pointers(self) -> None:
        model = self.model
        self.plan_fails("/schema_version", schema_version=2)
        self.plan_fails("/modles", modles=[])
        self.plan_fails("/models", models=[])
        self.plan_fails("/models/0", 7)
        self.plan_fails("/models/1/name", model(), model("../up"))
        self.plan_fails("/models/0/name", model(".hidden"))
        self.plan_fails("/models/0/model", model(model=3))
        self.plan_fails("/models/0/model", model(model="a\nb"))
        self.plan_fails("/models/0/calib", model(calib=[]))
        self.plan_fails("/models/0/calib/smaples", model(calib={"data": "x", "smaples": 3}))
        self.plan_fails("/models/0/calib/samples", model(calib={"data": "x", "samples": 0}))
        self.plan_fails("/models/0/evaluate/task", model(evaluate={"data": "x", "task": "guess"}))
        self.plan_fails("/models/0/evaluate/window", model(evaluate={"data": "x", "window": 1}))
        self.plan_fails("/models/0/evaluate/outputs", model(evaluate={"data": "x",
                                                                      "outputs": [-1]}))
        self.plan_fails("/models/0/evaluate/batch_size", model(evaluate={"data": "x",
                                                                         "batch_size": 1e9}))
        self.plan_fails("/models/0/set/norm.cliping", model(set={"norm.cliping": "minmax"}))
        self.plan_fails("/models/0/exclude/0", model(exclude=[1]))
        self.plan_fails("/models/0/bits", model(bits=[]))
        self.plan_fails("/bits/1", bits=["w8a8", "w9a9"])
        self.plan_fails("/bits/1", bits=["w8a8", "w8a8"])
        self.plan_fails("/bits/0", bits=[{"bits": "w8a8", "label": "a/b"}])
        self.plan_fails("/bits/0/bit", bits=[{"bits": "w8a8", "bit": 1}])
        self.plan_fails("/gates/min-top1", gates={"min-top1": 0.5})
        self.plan_fails("/gates/min_top1", gates={"min_top1": 95})
        self.plan_fails("/gates/max_kl", gates={"max_kl": "0.1"})

    def test_gates_without_their_figures(self) -> None:
        without = self.model()
        del without["evaluate"]
        self.plan_fails("/bits/0", without, gates={"min_top1": 0.5})
        alone = self.model(evaluate={"data": str(DIGITS_TEST), "compare": False})
        self.plan_fails("/bits/0", alone, gates={"max_kl": 0.5})

    def test_missing_keys(self) -> None:
        for key in ("model", "calib"):
            model = self.model()
            del model[key]
            self.plan(model)
            self.fails(USAGE, key, "run", "plan.json")
        self.write("plan.json", json.dumps({"models": [self.model()]}))
        self.fails(USAGE, "bits", "run", "plan.json")

    def test_not_json(self) -> None:
        self.fails(FILE, "absent.json", "run", "absent.json")
        self.write("plan.json", '{"models": [}')
        self.fails(USAGE, "line 1", "run", "plan.json")
        self.write("plan.json", '{"models": [], "models": []}')
        self.fails(USAGE, "duplicate", "run", "plan.json")
        self.write("plan.json", "[" * 100)
        self.fails(USAGE, "deep", "run", "plan.json")

    def test_output(self) -> None:
        self.plan()
        self.write("file", "")
        self.fails(FILE, "file", "run", "plan.json", "--output", "file/below")
        self.fails(FILE, "nowhere", "run", "plan.json", "--junit", "nowhere/out.xml")

    def test_recipe(self) -> None:
        self.plan(self.model(recipe="absent.json"))
        self.fails(FILE, "absent.json", "run", "plan.json")


if __name__ == "__main__":
    support.main()
