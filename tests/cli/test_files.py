"""Files are named for what they are, with what helps; results without use are said to be so."""

from __future__ import annotations

import json
import shutil
import zipfile

import numpy as np

import program
from program import DIGITS_CALIB, DIGITS_MODEL, DIGITS_TEST, IMAGES, MODELS, PRESET, support

USAGE, UNSUPPORTED, FILE = 2, 4, 5


class ModelFiles(program.ProgramTest):
    def model_is(self, what: str, hint: str, name: str) -> None:
        for command in (("quantize", name, "--calib", DIGITS_CALIB), ("inspect", name),
                        ("evaluate", name, "--data", DIGITS_TEST)):
            done = self.fails(FILE, what, *command)
            self.assertIn(hint, done.stderr)

    def zip(self, name: str, *entries: str) -> str:
        with zipfile.ZipFile(self.folder / name, "w") as archive:
            for entry in entries:
                archive.writestr(entry, "")
        return name

    def test_state_dict_and_pickled_module(self) -> None:
        import torch

        model = torch.nn.Linear(2, 2)
        torch.save(model.state_dict(), self.folder / "state.pt")
        torch.save({"model": model.state_dict(), "epoch": 3}, self.folder / "wrapped.pt")
        torch.save(model, self.folder / "module.pt")
        torch.save(model.state_dict(), self.folder / "old.pt",
                   _use_new_zipfile_serialization=False)
        self.model_is("a state dict", "--checkpoint", "state.pt")
        self.model_is("a state dict", "--checkpoint", "wrapped.pt")
        self.model_is("a pickled torch.nn.modules.linear.Linear", "torch.jit.trace", "module.pt")
        self.model_is("old format", "--checkpoint", "old.pt")

    def test_other_formats(self) -> None:
        self.model_is("torch.export (.pt2)", "torch.jit.trace",
                      self.zip("m.pt2", "m/archive_format", "m/models/model.json"))
        header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
        self.write("m.safetensors", len(header).to_bytes(8, "little") + header + bytes(4))
        self.model_is("safetensors", "--checkpoint", "m.safetensors")
        self.write("m.onnx", b"\x08\x08\x12\x07pytorch")
        self.model_is("ONNX", "torch.jit.trace", "m.onnx")
        self.write("lfs.pt", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        self.model_is("Git LFS", "git lfs pull", "lfs.pt")
        shutil.copy(DIGITS_CALIB, self.folder / "data.pt")
        self.model_is("NumPy", "the model comes first", "data.pt")

    def test_the_model_before_its_preset(self) -> None:
        (self.folder / "images").mkdir()
        shutil.copy(IMAGES / "rgb8.png", self.folder / "images")
        self.fails(FILE, "torch.export", "quantize", self.zip("m.pt2", "m/archive_format"),
                   "--calib", "images")


class TokenFiles(program.ProgramTest):
    def setUp(self) -> None:
        super().setUp()
        import torch

        class Language(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.words = torch.nn.Embedding(32, 8)
                self.positions = torch.nn.Embedding(16, 8)
                self.head = torch.nn.Linear(8, 32)

            def forward(self, ids: torch.Tensor) -> torch.Tensor:
                return self.head(self.words(ids) + self.positions(torch.arange(ids.size(1))))

        torch.jit.save(torch.jit.script(Language().eval()), str(self.folder / "lm.pt"))

    def ids(self, largest: int) -> str:
        np.save(self.folder / "ids.npy", np.arange(400) % largest)
        return "ids.npy"

    def language(self, code: int, message: str, *arguments: object) -> None:
        self.fails(code, message, "evaluate", "lm.pt", "--task", "perplexity", *arguments)
        self.fails(code, message, "quantize", "lm.pt",
                   *("--calib" if word == "--data" else word for word in arguments))

    def test_ids_without_a_window(self) -> None:
        self.language(FILE, "one stream of integers", "--data", self.ids(32))

    def test_window_beyond_the_context(self) -> None:
        self.language(USAGE, "at most 16 ids", "--data", self.ids(32), "--window", "20")

    def test_ids_outside_the_vocabulary(self) -> None:
        self.language(USAGE, "outside the vocabulary", "--data", self.ids(40), "--window",
                      "12")

    def test_raw_text(self) -> None:
        self.write("story.txt", "Once upon a time\nthere was a model.\n")
        self.language(FILE, "scripts/tokenize_text.py", "--data", "story.txt")
        self.language(FILE, "scripts/tokenize_text.py", "--data", "story.txt", "--window", "8")


class UselessResults(program.ProgramTest):
    def test_a_reference_of_other_weights(self) -> None:
        import torch

        model = torch.jit.load(str(DIGITS_MODEL))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.flatten().flip(0).reshape(parameter.shape))
        torch.jit.save(model, str(self.folder / "other.pt"))
        arguments = ("--data", DIGITS_TEST, "--samples", "64")
        done = self.succeed("evaluate", DIGITS_MODEL, *arguments, "--reference", "other.pt")
        self.assertIn("has little in common with other.pt", done.stderr)
        self.succeed("quantize", DIGITS_MODEL, "--bits", "w8a8", "--calib", DIGITS_CALIB,
                     "--calib-samples", "16", "-o", "q.pt")
        done = self.succeed("evaluate", "q.pt", *arguments, "--reference", "other.pt")
        self.assertIn("not made from that reference", done.stderr)
        done = self.succeed("evaluate", "q.pt", *arguments, "--reference", DIGITS_MODEL)
        self.assertNotIn("little in common", done.stderr)

    def test_a_lost_quantization(self) -> None:
        done = self.succeed("quantize", DIGITS_MODEL, "--bits", "w2a2", "--effort", "fast",
                            "--clipping", "minmax", "--calib", "synthetic", "--input-shape",
                            "1,8,8", "--calib-samples", "8", "-o", "q.pt",
                            "--set", "attention.token_scales=never")
        self.assertIn("the result is lost", done.stderr)


class Labels(program.ProgramTest):
    def test_what_the_help_says(self) -> None:
        model = self.folder / "vit.pt"
        shutil.copy(MODELS / "vit_fused.trace.pt", model)
        self.write("vit.pt.preprocess.json", json.dumps(PRESET))
        for name, image in (("a", "rgb8.png"), ("b", "jpeg_444.jpg")):
            (self.folder / "images" / name).mkdir(parents=True)
            shutil.copy(IMAGES / image, self.folder / "images" / name / image)
        arguments = ("evaluate", model, "--data", "images")
        plain, named = (self.result(*arguments, "--labels", self.write(name, text))["models"][0]
                        for name, text in (("plain.txt", "0\n1\n"),
                                           ("named.txt", "b/jpeg_444.jpg\t1\na/rgb8.png\t0\n")))
        self.assertEqual(plain["top1"], named["top1"])
        none = self.result(*arguments, "--labels", "none", "--reference", model)["models"][0]
        self.assertNotIn("top1", none)
        self.assertEqual(none["agreement"]["value"], 1.0)
        self.fails(USAGE, "nothing to measure", *arguments, "--labels", "none")


class Width(program.ProgramTest):
    def widest(self, *arguments: object, columns: int) -> int:
        done = self.succeed(*arguments, environment={"COLUMNS": str(columns)})
        return max(len(line) for line in done.stdout.splitlines())

    def test_help_and_tables_fit(self) -> None:
        for command in ("quantize", "evaluate", "inspect", "benchmark", "analyze", "run", "doctor"):
            for columns in (80, 120):
                self.assertLessEqual(self.widest(command, "--help", columns=columns), columns,
                                     command)
            self.assertIn(f"Example:\n  repquant {command}",
                          self.succeed(command, "--help").stdout)
        self.assertIn("(default: 16)", self.succeed("evaluate", "--help").stdout)
        table = ("evaluate", DIGITS_MODEL, "--data", DIGITS_TEST, "--samples", "32", "--reference",
                 DIGITS_MODEL)
        self.assertLessEqual(self.widest(*table, columns=80), 80)
        narrow = self.succeed(*table, environment={"COLUMNS": "80"}).stdout
        self.assertIn("--wide shows", narrow)
        wide = self.succeed(*table, "--wide", environment={"COLUMNS": "80"}).stdout
        self.assertIn("top-5 %", wide)
        self.assertNotIn("top-5 %", narrow.splitlines()[2])
        self.assertIn("\nnext: repquant quantize", narrow)


if __name__ == "__main__":
    support.main()
