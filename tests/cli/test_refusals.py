"""What is refused is refused before the work, and nothing of the user's is replaced in passing."""

from __future__ import annotations

import json
import shutil

import numpy as np
import torch

import program
from program import DIGITS_CALIB, DIGITS_MODEL, DIGITS_TEST, IMAGES, MODELS, PRESET, support
from test_hostile import rewrite

GATE, USAGE, UNSUPPORTED, FILE = 1, 2, 4, 5


class Draws(program.ProgramTest):
    def test_what_was_drawn_of_how_many(self) -> None:
        data = ("--data", DIGITS_TEST)
        some = self.result("evaluate", DIGITS_MODEL, *data, "--samples", "24")
        self.assertTrue(some["protocol"].startswith("24 of 600 samples"), some["protocol"])
        every = self.result("evaluate", DIGITS_MODEL, *data)
        self.assertTrue(every["protocol"].startswith("600 samples"), every["protocol"])
        timed = self.result("benchmark", DIGITS_MODEL, *data, "--rounds", "1")
        self.assertTrue(timed["protocol"].startswith("1 of 600 samples"), timed["protocol"])


class Files(program.ProgramTest):
    def test_a_corrupt_image_in_the_middle(self) -> None:
        shutil.copy(MODELS / "vit_fused.trace.pt", self.folder / "vit.pt")
        self.write("vit.pt.preprocess.json", json.dumps(PRESET))
        (self.folder / "images").mkdir()
        for i in range(9):
            shutil.copy(IMAGES / "rgb8.png", self.folder / f"images/{i}.png")
        self.write("images/7.png", (IMAGES / "rgb8.png").read_bytes()[:200])
        done = self.fails(FILE, "images/7.png", "evaluate", "vit.pt", "--reference", "vit.pt",
                          "--data", "images", "--batch-size", "2", "--threads", "1")
        self.assertIn("truncated, after 6 of 9 samples", done.stderr)

    def test_what_is_no_json(self) -> None:
        shutil.copy(DIGITS_TEST, self.folder / "arrays.npz")
        np.save(self.folder / "array.npy", np.zeros(3))
        for name, what in (("arrays.npz", "a zip archive"), ("array.npy", "an array of NumPy")):
            for arguments in (("run", name), ("compare", name, name),
                              ("quantize", DIGITS_MODEL, "--calib", DIGITS_CALIB, "--recipe",
                               self.folder / name)):
                with self.subTest(name=name, command=arguments[0]):
                    done = self.fails(FILE if arguments[0] == "compare" else USAGE, what,
                                      *arguments)
                    self.assertIn("JSON text", done.stderr)


class BeforeTheWork(program.ProgramTest):
    """No progress is reported by what is refused first: "evaluate 0/..." is its first line."""

    def refused(self, code: int, message: str, *arguments: object, **options: object) -> None:
        done = self.fails(code, message, *arguments, **options)
        for phase in ("evaluate 0", "evaluate 1", "quantize 0"):
            self.assertNotIn(phase, done.stderr)

    def unlabelled(self) -> str:
        with np.load(DIGITS_TEST) as arrays:
            np.save(self.folder / "images.npy", arrays["images"][:20])
        return "images.npy"

    def image_model(self) -> None:
        shutil.copy(MODELS / "vit_fused.trace.pt", self.folder / "vit.pt")
        self.write("vit.pt.preprocess.json", json.dumps(PRESET))

    def test_gates_without_their_figures(self) -> None:
        data = ("--data", DIGITS_TEST)
        self.refused(USAGE, "--reference", "evaluate", DIGITS_MODEL, *data, "--max-kl", "1")
        self.refused(USAGE, "--task perplexity", "evaluate", DIGITS_MODEL, *data, "--max-ppl", "9")
        self.refused(USAGE, "does not measure", "evaluate", DIGITS_MODEL, *data, "--reference",
                     DIGITS_MODEL, "--min-cosine", "0.9")
        self.refused(USAGE, "--labels", "evaluate", DIGITS_MODEL, "--data", self.unlabelled(),
                     "--reference", DIGITS_MODEL, "--min-top1", "0.5")
        self.refused(USAGE, "scores", "evaluate", DIGITS_MODEL, "--task", "embedding", *data,
                     "--reference", DIGITS_MODEL, "--min-spearman", "0.5")

    def test_empty_gates_are_no_absent_gates(self) -> None:
        arguments = ("evaluate", DIGITS_MODEL, "--data", DIGITS_TEST)
        self.refused(USAGE, "--min-top1", *arguments, "--min-top1", "")
        self.refused(USAGE, "REPQUANT_MIN_TOP1", *arguments, environment={"REPQUANT_MIN_TOP1": ""})
        self.refused(USAGE, "--min-coverage", "quantize", DIGITS_MODEL, "--calib", DIGITS_CALIB,
                     "--min-coverage", "")

    def test_unlabelled_folder_and_class_folders(self) -> None:
        self.image_model()
        for folder in ("flat", "classes/cat", "classes/dog"):
            (self.folder / folder).mkdir(parents=True)
            shutil.copy(IMAGES / "rgb8.png", self.folder / folder)
        self.refused(USAGE, "nothing to measure", "evaluate", "vit.pt", "--data", "flat")
        self.refused(USAGE, "--classes", "evaluate", "vit.pt", "--data", "classes")

    def test_junk_files_in_one_message(self) -> None:
        self.image_model()
        (self.folder / "images").mkdir()
        shutil.copy(IMAGES / "rgb8.png", self.folder / "images")
        self.write("images/notes.txt", "text")
        self.write("images/old.gif", "GIF89a")
        done = self.fails(FILE, "2 files are neither", "quantize", "vit.pt", "--calib", "images")
        self.assertIn("notes.txt", done.stderr)
        self.assertIn("old.gif", done.stderr)

    def test_tasks_that_the_data_is_not_for(self) -> None:
        data = ("--data", DIGITS_TEST)
        self.refused(USAGE, "no token ids", "evaluate", DIGITS_MODEL, *data, "--task", "perplexity")
        self.refused(USAGE, "nothing to measure", "evaluate", DIGITS_MODEL, *data, "--task",
                     "embedding")
        self.refused(UNSUPPORTED, "output 1", "evaluate", DIGITS_MODEL, *data, "--task", "retrieval")
        self.refused(UNSUPPORTED, "output 3", "evaluate", DIGITS_MODEL, *data, "--outputs", "3")

    def test_sequences_first(self) -> None:
        class SequencesFirst(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = torch.nn.Linear(8, 3)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.layer(torch.cumsum(x, 0))

        torch.jit.script(SequencesFirst()).save(self.folder / "model.pt")
        np.save(self.folder / "x.npy", np.random.default_rng(3).normal(size=(12, 5, 8)).astype("f"))
        self.refused(USAGE, "second dimension", "evaluate", "model.pt", "--reference", "model.pt",
                     "--data", "x.npy")

    def test_a_second_model_that_takes_other_data(self) -> None:
        self.succeed("quantize", MODELS / "planted.trace.pt", "--calib",
                     MODELS / "planted_calib.npz", "--effort", "fast", "-o", "other.pt")
        for command in (("evaluate", DIGITS_MODEL, "other.pt"),
                        ("evaluate", "other.pt", "--reference", DIGITS_MODEL),
                        ("benchmark", DIGITS_MODEL, "other.pt")):
            self.refused(USAGE, "other.pt", *command, "--data", DIGITS_TEST)

    def test_coverage_and_samples_that_judge(self) -> None:
        quantize = ("quantize", DIGITS_MODEL, "--calib", DIGITS_CALIB)
        done = self.fails(GATE, "below --min-coverage", *quantize, "--min-coverage", "1")
        self.assertNotIn("drawn", done.stderr)  # no sample was read
        for arguments in (("--hold-back", "0"), ("--calib-samples", "4")):
            done = self.fails(USAGE, "held back", *quantize, "--min-sqnr", "9", *arguments)
            self.assertNotIn("drawn", done.stderr)
        np.savez(self.folder / "few.npz", images=np.zeros((4, 1, 8, 8), np.float32))
        self.fails(USAGE, "4 samples", "quantize", DIGITS_MODEL, "--calib", "few.npz",
                   "--min-agreement", "0.9")

    def test_shapes_before_all_samples_are_drawn(self) -> None:
        done = self.fails(USAGE, "fails on the data", "quantize", DIGITS_MODEL, "--calib",
                          "synthetic", "--input-shape", "3,8,8")
        self.assertNotIn("drawn", done.stderr)

    def test_folders_that_cannot_be_written(self) -> None:
        quantize = ("quantize", DIGITS_MODEL, "--calib", DIGITS_CALIB, "--workdir")
        self.write("file", "text")
        for folder in ("/proc/none", "file", "file/below", "x" * 300):
            done = self.fails(FILE, folder, *quantize, folder)
            self.assertNotIn("drawn", done.stderr)
        self.write("plan.json", json.dumps({
            "schema_version": 1, "bits": ["w8a8"],
            "models": [{"model": str(DIGITS_MODEL), "calib": str(DIGITS_CALIB)}]}))
        for more in ((), ("--dry-run",)):
            self.fails(FILE, "x" * 300, "run", "plan.json", "-o", "x" * 300, *more)

    def test_limits_that_no_figure_can_have(self) -> None:
        evaluate = ("evaluate", DIGITS_MODEL, "--data", DIGITS_TEST, "--reference", DIGITS_MODEL)
        for option, value in (("--max-kl", "-1"), ("--max-ppl", "0.5"), ("--max-ppl-ratio", "-1"),
                              ("--min-spearman", "1.5"), ("--min-cosine", "-2"),
                              ("--min-top1", "1.1"), ("--min-sqnr", "inf")):
            self.refused(USAGE, option, *evaluate, option, value)
        self.write("plan.json", json.dumps({
            "schema_version": 1, "bits": ["w8a8"], "gates": {"max_size_ratio": -1},
            "models": [{"model": str(DIGITS_MODEL), "calib": str(DIGITS_CALIB)}]}))
        self.refused(USAGE, "a number from 0", "run", "plan.json")

    def test_a_baseline_that_is_not_there(self) -> None:
        plan = {"schema_version": 1, "output": "out", "bits": ["w8a8"],
                "baseline": {"folder": "last-night", "allow": {"size_ratio": 0.1}},
                "models": [{"model": str(DIGITS_MODEL), "calib": str(DIGITS_CALIB)}]}
        self.write("plan.json", json.dumps(plan))
        self.fails(FILE, "last-night", "run", "plan.json")
        (self.folder / "last-night").mkdir()
        done = self.succeed("run", "plan.json", "--dry-run")
        self.assertIn("nothing is compared", done.stderr)

    def test_environment_variables_that_name_nothing(self) -> None:
        done = self.succeed("recipe", "list", environment={"REPQUANT_TRHEADS": "2"})
        self.assertIn("REPQUANT_TRHEADS", done.stderr)
        self.assertIn("REPQUANT_THREADS", done.stderr)

    def test_a_bad_model_is_named_before_its_data(self) -> None:
        content = DIGITS_MODEL.read_bytes()
        self.write("cut.pt", content[:len(content) // 2])
        (self.folder / "images").mkdir()
        shutil.copy(IMAGES / "rgb8.png", self.folder / "images")
        self.refused(FILE, "cut.pt", "quantize", "cut.pt", "--calib", "images")
        self.refused(FILE, "cut.pt", "evaluate", "cut.pt", "--data", "images")
        code = b"def f(x: Tensor) -> None:\n  torch.save(1, 'f')\n"
        rewrite(DIGITS_MODEL, self.folder / "code.pt",
                lambda name, data: data + code if name.endswith(".py") else data)
        self.refused(UNSUPPORTED, "aten::save", "quantize", "code.pt", "--calib", "images")
        self.refused(UNSUPPORTED, "aten::save", "evaluate", "code.pt", "--data", "images")

    def test_settings_have_no_effect_on_an_artifact(self) -> None:
        self.succeed("quantize", DIGITS_MODEL, "--calib", DIGITS_CALIB, "--calib-samples", "8",
                     "--effort", "fast", "-o", "artifact.pt")
        for option in (("--bits", "w4a4"), ("--data", DIGITS_TEST), ("--recipe", "paper")):
            self.fails(USAGE, option[0], "inspect", "artifact.pt", *option)
        self.succeed("inspect", "artifact.pt", "--runtime", "--wide",
                     environment={"REPQUANT_BITS": "w4a4"})

    def test_rows_of_a_plan(self) -> None:
        self.write("plan.json", json.dumps({
            "schema_version": 1, "output": "out", "bits": ["w8a8"], "gates": {"min_top1": 0.5},
            "models": [{"model": str(DIGITS_MODEL), "calib": str(DIGITS_CALIB),
                        "evaluate": {"data": self.unlabelled()}}]}))
        for arguments in (("--dry-run",), ()):
            done = self.run_program("run", "plan.json", *arguments)
            self.assertEqual(done.returncode, USAGE, done.stderr)
            self.assertIn("could not run", done.stderr)
            self.assertNotIn("quantize 0", done.stderr)
            self.assertFalse((self.folder / "out/digits_vit.w8a8.pt").exists())
            self.assertFalse((self.folder / "out/digits_vit.w8a8.json").exists())


class Overwriting(program.ProgramTest):
    def test_log_file(self) -> None:
        self.write("model.pt", "precious")
        self.fails(FILE, "no log", "doctor", "--log-file", "model.pt")
        for _ in range(2):  # an earlier log is replaced
            self.succeed("evaluate", DIGITS_MODEL, "--data", DIGITS_TEST, "--samples", "8",
                         "--log-file", "log.txt")
            self.assertGreater((self.folder / "log.txt").stat().st_size, 24)

    def test_inputs_are_no_outputs(self) -> None:
        shutil.copy(DIGITS_CALIB, self.folder / "calib.npz")
        arguments = ("quantize", DIGITS_MODEL, "--calib", "calib.npz", "--force")
        self.fails(USAGE, "replace the calibration data", *arguments, "-o", "./calib.npz")
        self.write("recipe.json", '{"schema_version": 1}')
        self.fails(USAGE, "replace the recipe", *arguments, "--recipe", "recipe.json", "-o",
                   "recipe.json")
        (self.folder / "many").mkdir()
        shutil.copy(IMAGES / "rgb8.png", self.folder / "many")
        self.fails(USAGE, "replace the calibration data", "quantize", DIGITS_MODEL, "--calib",
                   "many", "--force", "-o", "many/rgb8.png")
        self.fails(USAGE, "replace the model", "analyze", DIGITS_MODEL, "--calib", "calib.npz",
                   "--force", "-o", DIGITS_MODEL)

    def test_summaries_of_a_run(self) -> None:
        plan = {"schema_version": 1, "output": "out", "bits": ["w8a8"],
                "models": [{"model": "absent.pt", "calib": str(DIGITS_CALIB)}]}
        self.write("plan.json", json.dumps(plan))
        self.fails(FILE, "plan.json", "run", "plan.json", "--markdown", "plan.json")
        self.fails(FILE, "plan.json", "run", "plan.json", "--junit", "plan.json")
        for _ in range(2):  # an earlier summary is replaced
            done = self.run_program("run", "plan.json", "--markdown", "a.md", "--junit", "b.xml")
            self.assertEqual(done.returncode, FILE, done.stderr)
            self.assertIn("absent.pt", (self.folder / "a.md").read_text())
        self.write("absent.w8a8.json", json.dumps({**plan, "output": "."}))
        self.fails(USAGE, "replace the plan", "run", "absent.w8a8.json")


class Words(program.ProgramTest):
    def test_help(self) -> None:
        for arguments in ((), ("help",), ("--help",)):
            self.assertIn("quantize", self.succeed(*arguments).stdout)
        self.assertEqual(self.succeed("help", "quantize").stdout,
                         self.succeed("quantize", "--help").stdout)

    def test_nearest_names(self) -> None:
        for typed, meant in (("eval", "evaluate"), ("bench", "benchmark"), ("quantise", "quantize")):
            self.fails(USAGE, f"did you mean {meant}?", typed)
        done = self.fails(USAGE, "did you mean --output?", "quantize", "a.pt", "--ouput", "b.pt")
        self.assertEqual(done.stderr.count("did you mean"), 1)

    def test_errors_in_json(self) -> None:
        for code, kind, arguments in (
            (USAGE, "usage", ("quantize",)),
            (FILE, "file", ("quantize", "absent.pt", "--calib", DIGITS_CALIB)),
            (USAGE, "usage", ("evaluate", DIGITS_MODEL, "--data", DIGITS_TEST, "--max-kl", "1")),
        ):
            with self.subTest(arguments):
                done = self.run_program(*arguments, "--json")
                self.assertEqual(done.returncode, code)
                error = json.loads(done.stdout)["error"]
                self.assertEqual((error["kind"], error["exit_code"]), (kind, code))
                self.assertEqual(set(error), {"kind", "exit_code", "what", "where", "expected",
                                              "got", "hint"})
                self.assertIn(error["what"], done.stderr)


if __name__ == "__main__":
    support.main()
