"""scripts/train_sst2.py on a table of a few sentences, and on one that is none."""

from __future__ import annotations

import io
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import support
import torch

import train_sst2


class TrainSst2(unittest.TestCase):
    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = Path(holder.name)
        rows = [f"{'good' if i % 2 else 'bad'} film {i}\t{i % 2}\n" for i in range(8)]
        for name in ("train.tsv", "dev.tsv"):
            (self.folder / name).write_text("".join(rows), encoding="utf-8")

    def run_script(self) -> tuple[int, str]:
        errors = io.StringIO()
        with redirect_stdout(io.StringIO()), redirect_stderr(errors):
            code = train_sst2.main(["--data", str(self.folder), "--output",
                                    str(self.folder / "out"), "--epochs", "1", "--threads", "1"])
        return code, errors.getvalue()

    def test_writes_a_model_and_its_rows(self) -> None:
        self.assertEqual(self.run_script(), (0, ""))
        with np.load(self.folder / "out" / "dev.npz") as rows:
            ids, mask, labels = rows["input_ids"], rows["attention_mask"], rows["labels"]
        self.assertEqual(ids.shape, (8, train_sst2.LENGTH))
        self.assertEqual(mask.sum(1).tolist(), [3] * 8)
        self.assertEqual(labels.tolist(), [0, 1] * 4)
        self.assertEqual(ids[0, 2], train_sst2.UNKNOWN)  # "0" stands there once
        model = torch.jit.load(self.folder / "out" / "model.pt")
        logits = model(torch.from_numpy(ids), torch.from_numpy(mask))
        self.assertEqual(list(logits.shape), [8, 2])
        shorter = model(torch.from_numpy(ids[:1, :3]), torch.from_numpy(mask[:1, :3]))
        self.assertTrue(torch.allclose(logits[:1], shorter, atol=1e-5), "padding changes nothing")

    def test_a_line_without_a_label(self) -> None:
        (self.folder / "dev.tsv").write_text("a film\t1\na sentence\n", encoding="utf-8")
        code, errors = self.run_script()
        self.assertEqual(code, 1)
        self.assertIn("dev.tsv:2: expected a sentence, a tab, and 0 or 1", errors)
        self.assertFalse((self.folder / "out").exists())


if __name__ == "__main__":
    support.main()
