"""verify, compare and --report: what an artifact says is true, and results can be handed on."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import tempfile
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Callable

import program
from program import DIGITS_CALIB, DIGITS_MODEL, DIGITS_TEST, support
from test_hostile import of_description, rewrite

GATE, USAGE, FILE = 1, 2, 5
MOBILE = support.FIXTURES / "architectures" / "mobile_like.pt"
ALBERT = support.FIXTURES / "architectures" / "albert.pt"
NAMES = ["archive", "format", "table", "codes", "coverage", "integers", "log grid", "model", "fold",
         "forms", "outputs", "reproduction"]


class ArtifactTest(program.ProgramTest):
    """One artifact for all tests of a class."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.temporary = tempfile.TemporaryDirectory()
        cls.artifact = Path(cls.temporary.name) / "digits.w4a4.pt"
        subprocess.run([str(program.BINARY), "quantize", str(DIGITS_MODEL), "--bits", "w4a4",
                        "--calib", str(DIGITS_CALIB), "--calib-samples", "16", "-o",
                        str(cls.artifact)], check=True, capture_output=True)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.temporary.cleanup()


class VerifyTest(ArtifactTest):
    def refuted(self, claim: str, sentence: str, path: Path, *arguments: object) -> None:
        done = self.run_program("verify", path, *arguments, "--json")
        self.assertEqual(done.returncode, GATE, done.stderr)
        result = json.loads(done.stdout)
        self.assertFalse(result["holds"])
        last = result["claims"][-1]
        self.assertEqual(last["name"], claim, last)
        self.assertIn(sentence, last["sentence"])
        self.assertTrue(all(claim["holds"] for claim in result["claims"][:-1]))
        self.assertIn(sentence, done.stderr)

    def forged(self, edit: Callable[[str, bytes], bytes], artifact: Path | None = None) -> Path:
        path = self.folder / "forged.pt"
        rewrite(artifact or self.artifact, path, edit)
        return path

    def described(self, edit: Callable[[dict[str, Any]], None],
                  artifact: Path | None = None) -> Path:
        return self.forged(of_description(edit), artifact)

    def test_all_claims_hold(self) -> None:
        result = self.result("verify", self.artifact, "--reference", DIGITS_MODEL, "--data",
                             DIGITS_TEST, "--reproduce", "--calib", DIGITS_CALIB)
        self.assertEqual([claim["name"] for claim in result["claims"]], NAMES)
        self.assertTrue(all(claim["holds"] for claim in result["claims"]), result)
        self.assertEqual(result["not_looked_at"], [])
        sentences = {claim["name"]: claim["sentence"] for claim in result["claims"]}
        self.assertIn("at most 16 different codes", sentences["codes"])
        self.assertIn("same bytes", sentences["reproduction"])
        self.assertIn("change their outputs", sentences["fold"])
        alone = self.succeed("verify", self.artifact).stdout
        self.assertIn("not looked at", alone)
        self.assertIn("--reproduce", alone)

    def test_without_a_reference_operators_are_compared(self) -> None:
        result = self.result("verify", self.artifact, "--data", DIGITS_TEST)
        self.assertEqual([claim["name"] for claim in result["claims"]], NAMES[:7] + ["forms"])

    def test_a_layer_that_is_applied_again(self) -> None:
        made, data = self.folder / "albert.w8a8.pt", ALBERT.with_suffix(".npz")
        self.succeed("quantize", ALBERT, "--bits", "w8a8", "--calib", data, "-o", made)
        self.succeed("verify", made, "--reference", ALBERT, "--data", data)

    def test_a_changed_byte(self) -> None:
        path = self.folder / "changed.pt"
        shutil.copy(self.artifact, path)
        with zipfile.ZipFile(path) as archive:
            largest = max((entry for entry in archive.infolist() if "/data/" in entry.filename),
                          key=lambda entry: entry.file_size)
        bytes_ = bytearray(path.read_bytes())
        bytes_[largest.header_offset + largest.file_size // 2] ^= 1
        path.write_bytes(bytes_)
        self.refuted("archive", largest.filename, path)

    def test_a_description_that_is_not_true(self) -> None:
        def bits(description: dict[str, Any]) -> None:
            next(s for s in description["sites"] if s["weight_bits"] == 4)["weight_bits"] = 8

        def module(description: dict[str, Any]) -> None:
            description["sites"][1]["module"] = "nowhere"

        def coverage(description: dict[str, Any]) -> None:
            description["coverage"]["quantized_parameters"] += 1

        def parameters(description: dict[str, Any]) -> None:
            description["sites"][1]["parameters"] += 1

        self.refuted("table", "8-bit weights", self.described(bits))
        self.refuted("table", "nowhere", self.described(module))
        self.refuted("coverage", "sums to", self.described(coverage))
        self.refuted("coverage", "parameters, but stores", self.described(parameters))

    def test_convolutions(self) -> None:
        made = self.folder / "mobile.pt"
        data = MOBILE.with_suffix(".npz")
        self.succeed("quantize", MOBILE, "--bits", "w8a8", "--calib", data, "-o", made)
        self.succeed("verify", made, "--reference", MOBILE, "--data", data)

        def bits(description: dict[str, Any]) -> None:
            kind = "grouped_convolution"
            next(s for s in description["sites"] if s["kind"] == kind)["activation_bits"] = 4

        self.refuted("table", "the largest code of its input is 255", self.described(bits, made))

    def test_folds_before_grids_per_token(self) -> None:
        made = self.folder / "token.pt"
        self.succeed("quantize", DIGITS_MODEL, "--bits", "w4a4", "--set",
                     "norm.granularity=per_token", "--set", "input.granularity=per_token",
                     "--effort", "fast", "--calib", DIGITS_CALIB, "--calib-samples", "16", "-o", made)
        against = ["--reference", DIGITS_MODEL, "--data", DIGITS_TEST]
        claims = self.result("verify", made, *against)["claims"]
        sentence = next(claim for claim in claims if claim["name"] == "fold")["sentence"]
        self.assertIn("folds of norms before grids per token", sentence)

        def negated(name: str, data: bytes) -> bytes:
            """Weights of norms are constants of the graph: 64 positive numbers."""
            if not name.startswith("constants/") or len(data) != 4 * 64:
                return data
            values = struct.unpack("<64f", data)
            return struct.pack("<64f", *(-v for v in values)) if min(values) > 0 else data

        self.refuted("fold", "not the model's with positive multipliers",
                     self.forged(negated, made), *against)

    def test_code_that_computes_something_else(self) -> None:
        path = self.forged(lambda name, data: data.replace(b"exp2_", b"exp_")
                           if name.endswith(".py") else data)
        self.refuted("log grid", "the powers that their codes stand for", path)

    def test_a_graph_that_computes_something_else(self) -> None:
        against = ["--reference", DIGITS_MODEL, "--data", DIGITS_TEST]
        last = rb"return (\(head_scale\)\.forward\([^\n]*\))\n"
        for forged in (rb"return torch.neg(\1)\n", rb"return torch.mul(\1, 0.)\n",
                       rb"return torch.flip(\1, [-1])\n"):
            path = self.forged(lambda name, data: re.sub(last, forged, data, count=1)
                               if name.endswith(".py") else data)
            self.assertNotEqual(path.read_bytes(), self.artifact.read_bytes())
            self.refuted("outputs", "is another computation", path, *against)

    # Of a few samples with one number each it may be by chance.
    def test_a_lucky_figure_of_samples_held_back(self) -> None:
        def lucky(description: dict[str, Any]) -> None:
            description["held_back"]["sqnr_db"] = 80.0

        result = self.result("verify", self.described(lucky), "--reference", DIGITS_MODEL, "--data",
                             DIGITS_TEST)
        self.assertIn("the samples that were fitted", result["claims"][-1]["sentence"])

    def test_outputs_are_left_out_without_a_reference_or_real_data(self) -> None:
        for arguments, missing in ((["--data", DIGITS_TEST], "--reference"),
                                   (["--reference", DIGITS_MODEL, "--input-shape", "1,8,8"],
                                    "not random")):
            result = self.result("verify", self.artifact, *arguments)
            self.assertNotIn("outputs", [claim["name"] for claim in result["claims"]])
            self.assertTrue(any("its outputs" in sentence and missing in sentence
                                for sentence in result["not_looked_at"]), result["not_looked_at"])

    def test_levels_that_do_not_rise(self) -> None:
        def levels_of(data: bytes) -> tuple[int, ...]:
            return struct.unpack("<16b", data) if len(data) == 16 else ()

        def is_levels(name: str, data: bytes) -> bool:
            values = levels_of(data)
            return (name.startswith("data/") and len(set(values)) == 16
                    and values == tuple(sorted(values)))

        for change in (lambda data: data[:1] * 16, lambda data: data[::-1],
                       lambda data: data[:3] + data[2:3] + data[4:]):
            path = self.forged(lambda name, data: change(data) if is_levels(name, data) else data)
            self.refuted("codes", "do not rise", path)

    def test_levels_that_are_stored_as_codes(self) -> None:
        made = self.folder / "w6a6.pt"
        self.succeed("quantize", DIGITS_MODEL, "--bits", "w6a6", "--effort", "fast", "--calib",
                     DIGITS_CALIB, "--calib-samples", "16", "-o", made)
        claims = self.result("verify", made)["claims"]
        sentence = next(claim for claim in claims if claim["name"] == "codes")["sentence"]
        self.assertIn("6 bits: at most 64 different codes", sentence)

        def other_codes(codes: bytes) -> Path:
            """Of the weights of 64 x 64, which take a byte for each element."""
            return self.forged(lambda name, data: codes if name.startswith("data/")
                               and len(data) == 64 * 64 else data, made)

        beyond = struct.pack("<4096b", *([-128, 127] * 2048))
        self.refuted("codes", "6-bit codes, but one of them is -128", other_codes(beyond))
        many = struct.pack("<4096b", *(i % 65 - 64 for i in range(4096)))
        self.refuted("codes", "6-bit codes, but 65 different ones", other_codes(many))

    def test_another_model_and_other_data(self) -> None:
        other = self.folder / "other.pt"
        with zipfile.ZipFile(DIGITS_MODEL) as old, zipfile.ZipFile(other, "w") as new:
            for name in old.namelist():
                new.writestr(name, old.read(name))
        self.refuted("model", "made from a model with SHA-256", self.artifact, "--reference", other)
        self.refuted("reproduction", "was calibrated on data", self.artifact, "--reference",
                     DIGITS_MODEL, "--reproduce", "--calib", DIGITS_TEST)

    def test_what_cannot_be_looked_at_is_no_claim(self) -> None:
        self.fails(FILE, "does not exist", "verify", "absent.pt")
        self.fails(4, "not an artifact", "verify", DIGITS_MODEL)
        self.fails(FILE, "absent.npz", "verify", self.artifact, "--data", "absent.npz")
        self.fails(FILE, "absent.pt", "verify", self.artifact, "--reference", "absent.pt")
        self.fails(USAGE, "--calib", "verify", self.artifact, "--reference", DIGITS_MODEL,
                   "--reproduce")


class CompareTest(ArtifactTest):
    def test_artifacts(self) -> None:
        other = self.folder / "digits.w8a8.pt"
        self.succeed("quantize", DIGITS_MODEL, "--bits", "w8a8", "--calib", DIGITS_CALIB,
                     "--calib-samples", "16", "--effort", "fast", "-o", other)
        result = self.result("compare", self.artifact, other)
        values = {value["name"]: value for value in result["values"]}
        self.assertGreater(values["file_bytes"]["change"], 0)
        self.assertFalse(values["model_sha256"]["differs"])
        site = next(site for site in result["sites"] if site["a"]["weight_bits"] == 4)
        self.assertEqual(site["b"]["weight_bits"], 8)
        self.assertGreater(site["b"]["own_sqnr_db"], site["a"]["own_sqnr_db"])
        text = self.succeed("compare", self.artifact, other).stdout
        self.assertIn("file_bytes", text)
        self.assertNotIn("model_sha256", text)
        same = self.result("compare", self.artifact, self.artifact)
        self.assertFalse(any(value["differs"] for value in same["values"]))

    def test_tables_fit_the_terminal(self) -> None:
        other = self.folder / "digits.w8a8.pt"
        self.succeed("quantize", DIGITS_MODEL, "--bits", "w8a8", "--calib", DIGITS_CALIB,
                     "--calib-samples", "16", "--effort", "fast", "-o", other)
        for command in (("compare", self.artifact, other), ("recipe", "list"),
                        ("inspect", self.artifact, "--runtime")):
            text = self.succeed(*command, environment={"COLUMNS": "80"}).stdout
            self.assertLessEqual(max(map(len, text.splitlines())), 80, text)
        text = self.succeed("compare", self.artifact, other).stdout
        self.assertNotIn("coverage/rows", text)
        self.assertIn("own change", text)
        self.assertIn("coverage/rows", self.succeed("compare", self.artifact, other, "-v").stdout)

    def test_results(self) -> None:
        for name, samples in (("a.json", 64), ("b.json", 128)):
            done = self.succeed("evaluate", self.artifact, "--data", DIGITS_TEST, "--samples",
                                samples, "--reference", DIGITS_MODEL, "--json")
            self.write(name, done.stdout)
        result = self.result("compare", "a.json", "b.json")
        values = {value["name"]: value for value in result["values"]}
        self.assertEqual(values["samples"]["change"], 64)
        self.assertIn("models/digits.w4a4.pt portable/top1/value", values)
        self.write("doctor.json", self.succeed("doctor", "--json").stdout)
        self.fails(USAGE, "different kinds", "compare", "a.json", "doctor.json")
        self.fails(FILE, "no result", "compare", "a.json", self.write("x.json", "{}"))


class Page(HTMLParser):
    """Counts tags, and refuses what is not closed, loads or runs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: dict[str, int] = {}
        self.text = ""
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        assert tag not in ("script", "img", "link", "iframe", "object", "b"), tag
        for name, _ in attributes:
            assert not name.startswith("on") and name not in ("href", "src", "style"), name
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text += data


class ReportTest(ArtifactTest):
    def page(self, name: str = "report.html") -> Page:
        return Page((self.folder / name).read_text())

    def test_quantize(self) -> None:
        model = self.folder / "<b>&'x.pt"
        shutil.copy(DIGITS_MODEL, model)
        arguments = ("quantize", model, "--bits", "w8a8", "--calib", DIGITS_CALIB, "--effort",
                     "fast", "--calib-samples", "16")
        self.succeed(*arguments, "--report", "report.html")
        page = self.page()
        for text in ("<b>&'x.w8a8.pt", "cumulative", "Where most is lost",
                     "How each figure was measured", '"calibration"'):
            self.assertIn(text, page.text)
        self.assertGreater(page.tags["rect"], 30)
        self.succeed(*arguments, "--force", "--report", "report.html")  # replaced
        self.succeed(*arguments, "--force", "--report", "report.md")
        markdown = (self.folder / "report.md").read_text()
        self.assertIn("| site | bits |", markdown)
        self.assertNotIn("<b>", markdown.replace("\\<b\\>", ""))

    def test_evaluate_and_benchmark(self) -> None:
        self.succeed("evaluate", DIGITS_MODEL, self.artifact, "--data", DIGITS_TEST, "--samples",
                     "64", "--reference", DIGITS_MODEL, "--max-kl", "9", "--report", "report.html")
        page = self.page()
        for text in ("top-1 %", "95 % interval", "max-kl", "digits.w4a4.pt"):
            self.assertIn(text, page.text)
        self.assertIn("line", page.tags)  # an interval
        self.succeed("benchmark", DIGITS_MODEL, self.artifact, "--input-shape", "1,8,8", "--rounds",
                     "3", "--form", "portable,fused", "--report", "report.html")
        page = self.page()
        self.assertIn("digits.w4a4.pt (fused)", page.text)
        self.assertEqual(page.tags["line"], 3)

    def test_analyze_and_run(self) -> None:
        self.succeed("analyze", DIGITS_MODEL, "--bits", "w4a4", "--calib", DIGITS_CALIB,
                     "--calib-samples", "8", "--report", "report.html")
        self.assertIn("the most sensitive first", self.page().text)
        self.write("plan.json", json.dumps({
            "schema_version": 1, "output": "out", "bits": ["w8a8"],
            "models": [{"name": "digits", "model": str(DIGITS_MODEL),
                        "set": {"norm.clipping": "minmax"},
                        "calib": {"data": str(DIGITS_CALIB), "samples": 8}}]}))
        self.succeed("run", "plan.json", "--report", "report.html")
        self.assertIn("rows passed", self.page().text)

    def test_refused_before_the_work(self) -> None:
        self.write("mine.html", "<html>of the user</html>")
        for name, code in (("report.pdf", USAGE), ("mine.html", FILE), ("no/report.html", FILE)):
            self.fails(code, name, "quantize", DIGITS_MODEL, "--calib", DIGITS_CALIB, "--report",
                       name)



if __name__ == "__main__":
    support.main()
