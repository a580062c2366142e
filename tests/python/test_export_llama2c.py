"""scripts/export_llama2c.py on a small random checkpoint, and on damaged ones."""

from __future__ import annotations

import importlib.util
import io
import json
import struct
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import support
import export_llama2c
from llama2c import HEADS, KV_HEADS, LAYERS, VOCABULARY, WIDTH, checkpoint

HAVE_TORCH = importlib.util.find_spec("torch") is not None
if HAVE_TORCH:
    import torch

CONTEXT = 12


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and standard error of the script."""
    err = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(err):
        code = export_llama2c.main(list(arguments))
    return code, err.getvalue()


@unittest.skipUnless(HAVE_TORCH, "torch is not installed")
class ExportTest(unittest.TestCase):
    def test_all_forms_agree_and_see_no_later_token(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "model.bin"
            source.write_bytes(checkpoint(CONTEXT))
            ids = torch.arange(10)[None, :] % VOCABULARY
            outputs = []
            for i, form in enumerate(([], ["--script"], ["--script", "--fused-norm"])):
                target = Path(folder) / f"{i}.pt"
                code, error = run("--checkpoint", str(source), "--output", str(target), *form)
                self.assertEqual(code, 0, error)
                model = torch.jit.load(str(target))
                outputs.append(model(ids))
                torch.testing.assert_close(model(ids[:, :4]), outputs[-1][:, :4])
            self.assertEqual(outputs[0].shape, (1, 10, VOCABULARY))
            self.assertGreater(float(outputs[0].std()), 0.1)
            for other in outputs[1:]:
                torch.testing.assert_close(other, outputs[0], rtol=1e-4, atol=1e-5)

    def test_kept_keys_and_values_change_nothing(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "model.bin"
            source.write_bytes(checkpoint(CONTEXT))
            ids = torch.arange(20).reshape(2, 10) % VOCABULARY
            plain = Path(folder) / "plain.pt"
            self.assertEqual(run("--checkpoint", str(source), "--output", str(plain))[0], 0)
            whole = torch.jit.load(str(plain))(ids)
            for form in ([], ["--script"]):
                target = Path(folder) / "cached.pt"
                code, error = run("--checkpoint", str(source), "--output", str(target), "--cache",
                                  "--force", *form)
                self.assertEqual(code, 0, error)
                extra = {"cache.json": ""}
                model = torch.jit.load(str(target), _extra_files=extra)
                shape = [KV_HEADS, 0, WIDTH // HEADS]
                self.assertEqual(json.loads(extra["cache.json"]),
                                 {"schema_version": 1, "past": [shape] * (2 * LAYERS)})
                past = [torch.zeros(2, *shape)] * (2 * LAYERS)
                parts = []
                for part in ids[:, :6], ids[:, 6:9], ids[:, 9:]:
                    logits, past = model(part, past)
                    parts.append(logits)
                self.assertEqual(past[0].shape, (2, KV_HEADS, 10, WIDTH // HEADS))
                torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)

    def test_damaged_checkpoints_are_refused(self) -> None:
        whole = checkpoint(CONTEXT)
        bad = {"empty": b"", "short": whole[:-4], "long": whole + b"1234",
               "header": struct.pack("<7i", 15, 1, 1, 4, 2, 9, 9) + whole[28:]}
        with tempfile.TemporaryDirectory() as folder:
            for name, data in bad.items():
                with self.subTest(name):
                    source = Path(folder) / name
                    source.write_bytes(data)
                    target = Path(folder) / "out.pt"
                    code, error = run("--checkpoint", str(source), "--output", str(target))
                    self.assertEqual(code, 2)
                    self.assertIn(str(source), error)
                    self.assertFalse(target.exists())


if __name__ == "__main__":
    support.main()
