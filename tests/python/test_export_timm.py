"""scripts/export_timm.py on a tiny random timm model; skipped where timm is not installed."""

from __future__ import annotations

import importlib.util
import io
import json
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import support
import export_timm

NEEDED = ("torch", "torchvision", "timm", "safetensors", "yaml", "huggingface_hub")
ABSENT = [name for name in NEEDED if importlib.util.find_spec(name) is None]
MISSING = f"not installed: {ABSENT}; see scripts/requirements-export.txt" if ABSENT else ""
if not ABSENT:
    import torch

MODEL = "test_vit"


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of the script."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = export_timm.main(list(arguments))
    return code, out.getvalue(), err.getvalue()


class PresetTest(unittest.TestCase):
    CONFIG = {
        "input_size": (3, 224, 224), "interpolation": "bicubic", "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5), "crop_pct": 0.9, "crop_mode": "center",
    }

    def test_matches_the_documented_preset_of_vit_tiny(self) -> None:
        self.assertEqual(
            export_timm.preprocess_preset(self.CONFIG),
            {
                "schema_version": 1, "resize": 248, "resize_mode": "shorter",
                "interpolation": "bicubic", "crop": [224, 224], "mean": [0.5, 0.5, 0.5],
                "std": [0.5, 0.5, 0.5], "color": "rgb",
            },
        )

    def test_resize_rounds_down_like_timm(self) -> None:
        preset = export_timm.preprocess_preset({**self.CONFIG, "crop_pct": 0.875})
        self.assertEqual(preset["resize"], 256)
        preset = export_timm.preprocess_preset({**self.CONFIG, "crop_pct": 0.95})
        self.assertEqual(preset["resize"], 235)  # 235.79

    def test_refuses_what_the_preset_cannot_say(self) -> None:
        for change in ({"crop_mode": "squash"}, {"input_size": (1, 224, 224)},
                       {"input_size": (3, 224, 192)}, {"interpolation": "nearest"}):
            with self.subTest(change), self.assertRaises(export_timm.ExportError):
                export_timm.preprocess_preset({**self.CONFIG, **change})


@unittest.skipIf(MISSING, MISSING)
class ExportTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def export(self, *extra: str) -> Path:
        path = self.folder / "model.pt"
        if "--checkpoint" not in extra:
            extra = (*extra, "--seed", "0")
        code, out, err = run("--model", MODEL, "--output", str(path), "--force", *extra)
        self.assertEqual(code, 0, err)
        self.assertLess(json.loads(out)["deviation"], 1e-4)
        return path

    def test_trace_and_script_agree_at_any_batch_size(self) -> None:
        traced = torch.jit.load(str(self.export()))
        scripted = torch.jit.load(str(self.export("--script")))
        shape = export_timm.import_timm().create_model(MODEL).default_cfg["input_size"]
        for batch in (1, 2, 5):
            images = torch.randn(batch, *shape)
            torch.testing.assert_close(traced(images), scripted(images))

    def test_fused_attention_stays_fused(self) -> None:
        graph = str(torch.jit.freeze(torch.jit.load(str(self.export()))).inlined_graph)
        self.assertIn("aten::scaled_dot_product_attention", graph)

    def test_preset_is_in_the_archive(self) -> None:
        extra = {"preprocess.json": ""}
        torch.jit.load(str(self.export()), _extra_files=extra)
        preset = json.loads(extra["preprocess.json"])
        self.assertEqual(preset["schema_version"], 1)
        self.assertEqual(len(preset["mean"]), 3)

    def test_another_image_size_is_that_of_the_preset(self) -> None:
        extra = {"preprocess.json": ""}
        model = torch.jit.load(str(self.export("--model-arg", "img_size=64")), _extra_files=extra)
        self.assertEqual(json.loads(extra["preprocess.json"])["crop"], [64, 64])
        model(torch.randn(3, 3, 64, 64))

    def test_seed_decides_the_weights(self) -> None:
        timm = export_timm.import_timm()

        def weights(seed: str) -> dict[str, torch.Tensor]:
            args = export_timm.parse_args(["--model", MODEL, "--output", "-", "--seed", seed])
            return export_timm.build_model(timm, args).state_dict()

        first, again, other = weights("1"), weights("1"), weights("2")
        for name, tensor in first.items():
            self.assertTrue(torch.equal(tensor, again[name]), name)
            self.assertFalse(torch.equal(tensor, other[name]), name)  # nothing is left constant

    def test_checkpoint_is_loaded_strictly(self) -> None:
        timm = export_timm.import_timm()
        model = timm.create_model(MODEL).eval()
        state = model.state_dict()
        good, bad = self.folder / "good.pth", self.folder / "bad.pth"
        torch.save(state, good)
        reloaded = torch.jit.load(str(self.export("--checkpoint", str(good))))
        images = torch.randn(2, *model.default_cfg["input_size"])
        torch.testing.assert_close(reloaded(images), model(images))
        state.pop(next(iter(state)))
        torch.save(state, bad)
        code, _, err = run("--model", MODEL, "--checkpoint", str(bad), "--output",
                           str(self.folder / "other.pt"))
        self.assertEqual(code, 2)
        self.assertIn("does not fit", err)
        self.assertFalse((self.folder / "other.pt").exists())

    def test_weights_are_never_random_unasked(self) -> None:
        err = io.StringIO()
        with redirect_stderr(err), self.assertRaises(SystemExit) as stopped:
            export_timm.main(["--model", MODEL, "--output", str(self.folder / "x.pt")])
        self.assertEqual(stopped.exception.code, 2)
        for option in ("--checkpoint", "--pretrained", "--seed"):
            self.assertIn(option, err.getvalue().splitlines()[-1])
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_what_timm_cannot_build_is_a_sentence(self) -> None:
        code, _, err = run("--model", MODEL, "--seed", "0", "--model-arg", "embed_dim=7",
                           "--output", str(self.folder / "x.pt"))
        self.assertEqual(code, 2)
        self.assertIn("timm cannot build test_vit", err)

    def test_existing_output_and_unknown_model_are_refused(self) -> None:
        path = self.export()
        before = path.read_bytes()
        code, _, err = run("--model", MODEL, "--seed", "0", "--output", str(path))
        self.assertEqual((code, "--force" in err), (2, True))
        self.assertEqual(path.read_bytes(), before)
        code, _, err = run("--model", "test_vit_", "--seed", "0", "--output",
                           str(self.folder / "x.pt"))
        self.assertEqual((code, "test_vit" in err), (2, True))
        self.assertEqual(sorted(item.name for item in self.folder.iterdir()), ["model.pt"])


if __name__ == "__main__":
    support.main()
