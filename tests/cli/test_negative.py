"""What cannot work: each case gives its message and exit code and leaves no file behind."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import unittest
import zlib
from pathlib import Path

import numpy as np
import torch

import program
from program import DIGITS_CALIB, DIGITS_MODEL, DIGITS_TEST, IMAGES, MODELS, PRESET, support

GATE, USAGE, UNSUPPORTED, FILE = 1, 2, 4, 5


def gray_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (struct.pack(">I", len(data)) + kind + data +
                struct.pack(">I", zlib.crc32(kind + data)))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(width)) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


class NegativeTest(program.ProgramTest):
    def quantize_fails(self, code: int, message: str, *arguments: object, **options: object):
        output = self.folder / "out.pt"
        done = self.fails(code, message, "quantize", *arguments, "-o", output, **options)
        self.assertFalse(output.exists())
        return done

    def digits_fail(self, code: int, message: str, *arguments: object, **options: object):
        return self.quantize_fails(code, message, DIGITS_MODEL, "--calib", DIGITS_CALIB,
                                   *arguments, **options)

    def calib_fails(self, code: int, message: str, calib: object):
        return self.quantize_fails(code, message, DIGITS_MODEL, "--bits", "w4a4", "--calib", calib)

    def image_model(self) -> Path:
        model = self.folder / "vit.pt"
        shutil.copy(MODELS / "vit_fused.trace.pt", model)
        self.write("vit.pt.preprocess.json", json.dumps(PRESET))
        return model


class ModelTest(NegativeTest):
    def model_fails(self, code: int, message: str, model: object) -> None:
        self.quantize_fails(code, message, model, "--calib", DIGITS_CALIB)
        self.fails(code, message, "evaluate", model, "--data", DIGITS_TEST)
        self.fails(code, message, "inspect", model)

    def test_missing(self) -> None:
        self.model_fails(FILE, "does not exist", "missing.pt")

    def test_folder(self) -> None:
        (self.folder / "model").mkdir()
        self.model_fails(FILE, "folder", "model")

    def test_empty(self) -> None:
        self.model_fails(FILE, "empty", self.write("empty.pt", ""))

    def test_truncated(self) -> None:
        whole = DIGITS_MODEL.read_bytes()
        for size in (3, 1000, len(whole) // 2, len(whole) - 1):
            with self.subTest(size=size):
                self.model_fails(FILE, "cut.pt", self.write("cut.pt", whole[:size]))

    def test_not_torchscript(self) -> None:
        self.model_fails(FILE, "TorchScript", self.write("text.pt", "this is no model\n" * 99))
        archive = self.folder / "arrays.pt"
        with archive.open("wb") as file:
            np.savez(file, a=np.zeros(3))
        self.model_fails(FILE, "TorchScript", archive)

    def test_state_dict(self) -> None:
        self.model_fails(FILE, "without code", support.ROOT / "tests/data/fixtures/arrays/dict.pt")

    def test_no_site(self) -> None:
        for form in ("trace", "script"):
            data = MODELS / "no_linear.npz"
            self.quantize_fails(UNSUPPORTED, "no site", MODELS / f"no_linear.{form}.pt", "--calib",
                                data)

    def test_linear_in_branch(self) -> None:
        """It stays in floating point, which is no secret."""
        model = MODELS / "linear_in_if.script.pt"
        data = self.folder / "x.npy"
        np.save(data, np.random.default_rng(0).standard_normal((8, 10, 16), np.float32))
        done = self.succeed("quantize", model, "--calib", data, "-o", self.folder / "branch.pt")
        self.assertIn("it lies in a branch", " ".join(done.stdout.split()))
        self.quantize_fails(GATE, "it lies in a branch", model, "--calib", data, "--strict")


class CalibrationTest(NegativeTest):
    def test_none(self) -> None:
        done = self.quantize_fails(USAGE, "no calibration data", DIGITS_MODEL, "--bits", "w4a4")
        self.assertIn("--calib synthetic", done.stderr)

    def test_missing(self) -> None:
        self.calib_fails(FILE, "missing_folder", "missing_folder")

    def test_empty_folder(self) -> None:
        (self.folder / "nothing").mkdir()
        self.calib_fails(FILE, "nothing", "nothing")

    def test_mixed_folder(self) -> None:
        folder = self.folder / "mixed"
        folder.mkdir()
        shutil.copy(IMAGES / "rgb8.png", folder)
        np.save(folder / "array.npy", np.zeros((1, 8, 8), np.float32))
        self.quantize_fails(FILE, "mixed", self.image_model(), "--calib", folder)

    def test_images_without_preset(self) -> None:
        folder = self.folder / "images"
        folder.mkdir()
        shutil.copy(IMAGES / "rgb8.png", folder)
        self.calib_fails(USAGE, "preset", folder)

    def test_corrupt_image(self) -> None:
        folder = self.folder / "images"
        folder.mkdir()
        shutil.copy(IMAGES / "rgb8.png", folder / "good.png")
        jpeg = (IMAGES / "jpeg_444.jpg").read_bytes()
        self.write("images/torn.jpg", jpeg[: len(jpeg) // 2])
        self.quantize_fails(FILE, "torn.jpg", self.image_model(), "--calib", folder)

    def test_wrong_shape(self) -> None:
        np.save(self.folder / "shape.npy", np.zeros((16, 3, 7, 9), np.float32))
        self.calib_fails(USAGE, "fails on the data", "shape.npy")

    def test_wrong_number_of_inputs(self) -> None:
        np.savez(self.folder / "two.npz", a=np.zeros((4, 1, 8, 8), np.float32),
                 b=np.zeros((4, 1, 8, 8), np.float32))
        self.calib_fails(USAGE, "inputs of the model", "two.npz")

    def test_nan_and_infinity(self) -> None:
        for value in (np.nan, np.inf):
            images = np.zeros((16, 1, 8, 8), np.float32)
            images[11, 0, 3, 3] = value
            np.save(self.folder / "bad.npy", images)
            with self.subTest(value=value):
                self.calib_fails(FILE, "11", "bad.npy")

    def test_no_samples(self) -> None:
        np.save(self.folder / "none.npy", np.zeros((0, 1, 8, 8), np.float32))
        self.calib_fails(FILE, "none.npy", "none.npy")

    def test_samples_without_values(self) -> None:
        np.save(self.folder / "none.npy", np.zeros((4, 0, 8), np.float32))
        self.calib_fails(FILE, "holds no values", "none.npy")
        (self.folder / "some").mkdir()
        for i, length in enumerate((8, 0)):
            np.save(self.folder / "some" / f"{i}.npy", np.zeros((1, 8, length), np.float32))
        self.calib_fails(FILE, "1.npy", "some")

    def test_pipe(self) -> None:
        os.mkfifo(self.folder / "pipe")
        self.calib_fails(FILE, "a pipe", "pipe")

    def test_synthetic_without_shape(self) -> None:
        self.calib_fails(USAGE, "--input-shape", "synthetic")

    def test_options_of_other_data(self) -> None:
        self.digits_fail(USAGE, "--input-shape", "--input-shape", "1,8,8")
        self.fails(USAGE, "--input-shape", "inspect", DIGITS_MODEL, "--data", DIGITS_CALIB,
                   "--input-shape", "1,8,8")
        self.quantize_fails(USAGE, "--window", DIGITS_MODEL, "--calib", "synthetic",
                            "--input-shape", "1,8,8", "--window", "8")

    def test_an_image_that_is_too_narrow(self) -> None:
        model = self.image_model()
        self.write("vit.pt.preprocess.json", json.dumps({**PRESET, "resize_mode": "shorter"}))
        shutil.copytree(IMAGES, self.folder / "images")
        (self.folder / "images" / "narrow.png").write_bytes(gray_png(50000, 1))
        self.quantize_fails(FILE, "narrow.png", model, "--calib", "images")


class RecipeTest(NegativeTest):
    def recipe_fails(self, message: str, text: str) -> None:
        self.digits_fail(USAGE, message, "--recipe", self.write("recipe.json", text))

    def test_unknown_key(self) -> None:
        self.recipe_fails("did you mean clipping",
                          '{"schema_version": 1, "norm": {"cliping": "search"}}')

    def test_duplicate_key(self) -> None:
        self.recipe_fails("bits", '{"schema_version": 1, "bits": "w4a4", "bits": "w8a8"}')

    def test_wrong_type(self) -> None:
        self.recipe_fails("/weights/damping", '{"schema_version": 1, "weights": {"damping": "1"}}')

    def test_not_json(self) -> None:
        self.recipe_fails("recipe.json", '{"schema_version": 1,')

    def test_missing_recipe(self) -> None:
        self.digits_fail(FILE, "absent.json", "--recipe", "absent.json")

    def test_bits(self) -> None:
        for bits in ("w1a8", "w9a8", "w8a1", "w8a9", "w16a8", "8", "w4", "4a4"):
            with self.subTest(bits=bits):
                self.digits_fail(USAGE, "--bits", f"--bits={bits}")

    def test_unknown_clipping(self) -> None:
        self.digits_fail(USAGE, "learned", "--clipping", "best")

    def test_bad_setting(self) -> None:
        self.digits_fail(USAGE, "norm.clipping", "--set", "norm.cliping=search")
        self.digits_fail(USAGE, "--set", "--set", "norm.clipping")
        self.digits_fail(USAGE, "damping", "--set", "weights.damping=7")
        self.digits_fail(USAGE, "0.01 and 0.02", "--set", "weights.damping=0.01", "--set",
                         "weights.damping=0.02")

    def test_bad_variable(self) -> None:
        self.digits_fail(USAGE, "REPQUANT_BITS", environment={"REPQUANT_BITS": "w4a99"})

    def test_pattern_without_match(self) -> None:
        done = self.digits_fail(USAGE, "blocks.0.fc3", "--exclude", "blocks.0.fc3")
        self.assertIn("blocks.0.fc1", done.stderr)  # the nearest names
        self.recipe_fails("nowhere.*", json.dumps({
            "schema_version": 1,
            "overrides": [{"pattern": "nowhere.*", "weight_bits": 8}]}))

    def test_everything_excluded(self) -> None:
        self.digits_fail(USAGE, "nothing to quantize", "--exclude", "*")


class CoverageTest(NegativeTest):
    def test_strict(self) -> None:
        class Recurrent(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = torch.nn.GRU(8, 8, batch_first=True)
                self.head = torch.nn.Linear(8, 4)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.head(self.layer(x)[0])

        x = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(1))
        model = self.folder / "recurrent.pt"
        torch.jit.trace(Recurrent().eval(), x).save(model)
        np.save(self.folder / "x.npy", x.numpy())
        coverage = self.result("inspect", model, "--data", "x.npy")["coverage"]
        self.assertEqual([row["op"] for row in coverage["not_quantized"]], ["aten::gru"])
        self.quantize_fails(GATE, "--strict", model, "--calib", "x.npy", "--strict")
        self.succeed("quantize", model, "--calib", "x.npy", "-o", "recurrent.w8a8.pt")
        left = self.result("inspect", "recurrent.w8a8.pt")["runtime"]["float_products"]
        self.assertEqual(left, ["aten::gru"])
        self.assertIn("1 product left", self.succeed("verify", "recurrent.w8a8.pt").stdout)

    def test_min_coverage(self) -> None:
        self.digits_fail(GATE, "--min-coverage", "--exclude", "blocks.*.fc1", "--min-coverage",
                         "95%")

    def test_bad_share(self) -> None:
        for share in ("95", "-1%", "x", "101%", "nan"):
            with self.subTest(share=share):
                self.digits_fail(USAGE, "--min-coverage", f"--min-coverage={share}")


class HeldBackTest(NegativeTest):
    def test_min_sqnr(self) -> None:
        self.digits_fail(GATE, "--min-sqnr", "--min-sqnr", "90")

    def test_min_agreement(self) -> None:
        self.digits_fail(GATE, "--min-agreement", "--recipe", "static", "--bits", "w2a2",
                         "--min-agreement", "100%")

    def test_nothing_to_judge_by(self) -> None:
        self.digits_fail(USAGE, "held back", "--min-sqnr", "1", "--hold-back", "0")

    def test_bad_share(self) -> None:
        self.digits_fail(USAGE, "--min-agreement", "--min-agreement=95")


class CpuLevelTest(NegativeTest):
    def test_level_that_is_not_there(self) -> None:
        for command in (("doctor",), ("inspect", DIGITS_MODEL)):
            self.fails(USAGE, "REPQUANT_CPU_LEVEL", *command,
                       environment={"REPQUANT_CPU_LEVEL": "avx3"})


class OutputTest(NegativeTest):
    def test_exists(self) -> None:
        output = self.write("there.pt", "precious")
        self.fails(FILE, "--force", "quantize", DIGITS_MODEL, "--calib", DIGITS_CALIB, "-o", output)

    def test_is_the_model(self) -> None:
        model = self.folder / "model.pt"
        shutil.copy(DIGITS_MODEL, model)
        self.fails(USAGE, "replace the model", "quantize", model, "--calib", DIGITS_CALIB, "-o",
                   self.folder / "." / "model.pt", "--force")

    def test_missing_folder(self) -> None:
        self.fails(FILE, "nowhere", "quantize", DIGITS_MODEL, "--calib", DIGITS_CALIB, "-o",
                   "nowhere/out.pt")

    def test_checkpoints_among_the_samples(self) -> None:
        (self.folder / "calib").mkdir()
        for i, image in enumerate(np.load(DIGITS_CALIB)["images"][:4]):
            np.save(self.folder / "calib" / f"{i}.npy", image)
        for workdir in ("calib", "calib/work", "./calib/../calib"):
            self.quantize_fails(USAGE, "--workdir", DIGITS_MODEL, "--calib", "calib", "--workdir",
                                workdir)

    def test_is_a_folder(self) -> None:
        (self.folder / "out.pt").mkdir()
        self.fails(FILE, "out.pt", "quantize", DIGITS_MODEL, "--calib", DIGITS_CALIB, "-o",
                   "out.pt", "--force")

    def test_unwritable_folder(self) -> None:
        # The kernel refuses files in /proc to everyone, root included.
        self.fails(FILE, "/proc", "quantize", DIGITS_MODEL, "--calib", DIGITS_CALIB, "-o",
                   "/proc/out.pt")

    def test_file_size_limit(self) -> None:
        self.digits_fail(FILE, "out.pt", "--bits", "w8a8", "--calib-samples", "8",
                         preexec_fn=limit_file_size)

    def test_name_too_long(self) -> None:
        self.fails(FILE, "too long", "quantize", DIGITS_MODEL, "--calib", DIGITS_CALIB, "-o",
                   "x" * 300 + ".pt")

    def test_dangling_link(self) -> None:
        (self.folder / "out.pt").symlink_to("nowhere/out.pt")
        self.fails(FILE, "nowhere", "quantize", DIGITS_MODEL, "--calib", DIGITS_CALIB, "-o",
                   "out.pt")
        (self.folder / "loop.pt").symlink_to("loop.pt")
        self.fails(FILE, "loop.pt", "quantize", DIGITS_MODEL, "--calib", DIGITS_CALIB, "-o",
                   "loop.pt", "--force")

    @unittest.skipUnless(os.geteuid() == 0, "mounting a small file system needs root")
    def test_full_disk(self) -> None:
        disk = self.folder / "disk"
        disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)],
                                 capture_output=True, check=False)
        if mounted.returncode != 0:
            self.skipTest("mounting is not permitted here")
        try:
            self.fails(FILE, "out.pt", "quantize", DIGITS_MODEL, "--bits", "w8a8", "--calib",
                       DIGITS_CALIB, "--calib-samples", "8", "-o", disk / "out.pt")
            self.assertEqual(list(disk.iterdir()), [])
        finally:
            subprocess.run(["umount", str(disk)], check=True)


def limit_file_size() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))


class OptionTest(NegativeTest):
    def test_usage(self) -> None:
        for arguments in (
            ("unknown",), ("quantize",), ("evaluate", DIGITS_MODEL),
            ("quantize", DIGITS_MODEL, "--no-such-option"),
            ("quantize", DIGITS_MODEL, "--resume"),
            ("quantize", DIGITS_MODEL, "--quiet", "--verbose"),
            ("doctor", "--threads", "0"), ("doctor", "--threads", "two"),
        ):
            with self.subTest(arguments=arguments):
                self.fails(USAGE, "--help", *arguments)

    def test_device(self) -> None:
        self.fails(USAGE, "--device is gone", "doctor", "--device", "cuda")

    def test_log_file(self) -> None:
        # The kernel refuses files in /proc to everyone; missing folders are made.
        self.fails(FILE, "log.txt", "doctor", "--log-file", "/proc/log.txt")


class EvaluateTest(NegativeTest):
    def evaluate_fails(self, code: int, message: str, *arguments: object) -> None:
        self.fails(code, message, "evaluate", DIGITS_MODEL, *arguments)

    def unlabelled(self) -> Path:
        path = self.folder / "unlabelled.npy"
        with np.load(DIGITS_TEST) as arrays:
            np.save(path, arrays["images"][:20])
        return path

    def test_nothing_to_measure(self) -> None:
        self.evaluate_fails(USAGE, "nothing to measure", "--data", self.unlabelled())

    def test_gate_without_its_data(self) -> None:
        self.evaluate_fails(USAGE, "--reference", "--data", DIGITS_TEST, "--min-agreement", "0.9")
        self.evaluate_fails(USAGE, "--reference", "--data", DIGITS_TEST, "--max-kl", "0.1")
        self.evaluate_fails(USAGE, "--min-top1", "--data", self.unlabelled(), "--reference",
                            DIGITS_MODEL, "--min-top1", "0.9")

    def test_labels_do_not_fit(self) -> None:
        data = self.unlabelled()
        self.evaluate_fails(FILE, "labels.txt", "--data", data, "--labels",
                            self.write("labels.txt", "1\n2\n"))
        self.evaluate_fails(USAGE, "label", "--data", data, "--labels",
                            self.write("labels.txt", "10\n" * 20))

    def test_class_folders_do_not_fit(self) -> None:
        model = self.image_model()
        for name in ("cat", "dog"):
            (self.folder / "images" / name).mkdir(parents=True)
            shutil.copy(IMAGES / "rgb8.png", self.folder / "images" / name)
        self.fails(USAGE, "--classes", "evaluate", model, "--data", self.folder / "images")

    def test_reference_of_another_shape(self) -> None:
        np.save(self.folder / "images.npy", np.zeros((2, 3, 16, 16), np.float32))
        self.fails(USAGE, "digits_vit.pt", "evaluate", MODELS / "vit_fused.trace.pt",
                   "--data", "images.npy", "--reference", DIGITS_MODEL)


if __name__ == "__main__":
    support.main()
