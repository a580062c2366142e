"""scripts/export_transformers.py on tiny seeded models; skipped where transformers is absent."""

from __future__ import annotations

import importlib.util
import io
import json
import tempfile
import unittest
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import support
import export_transformers

HAVE = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
TINY = ("hidden_size=16", "num_hidden_layers=1", "num_attention_heads=2", "intermediate_size=24",
        "vocab_size=40", "max_position_embeddings=20")


def run(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = export_transformers.main(list(arguments))
    return code, out.getvalue(), err.getvalue()


def settings(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


@unittest.skipUnless(HAVE, "torch and transformers are not both installed")
class ExportTest(unittest.TestCase):
    def test_pooled_encoder_ignores_padding(self) -> None:
        import torch

        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "bert.pt"
            code, out, error = run("--kind", "encoder", "--config", "bert", *settings(*TINY),
                                   "--pool", "mean", "--normalize", "--output", str(target))
            self.assertEqual(code, 0, error)
            self.assertEqual(json.loads(out)["inputs"], ["input_ids", "attention_mask"])
            model = torch.jit.load(str(target))
            ids, ones = torch.arange(3, 11)[None, :], torch.ones(1, 8, dtype=torch.long)
            padded = torch.cat([ids, torch.zeros_like(ids)], 1)
            mask = torch.cat([ones, torch.zeros_like(ones)], 1)
            vector = model(ids, ones)
            torch.testing.assert_close(model(padded, mask), vector, rtol=1e-4, atol=1e-5)
            self.assertAlmostEqual(float(vector.norm()), 1.0, places=5)

    def test_decoder_is_causal(self) -> None:
        import torch

        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "llama.pt"
            code, _, error = run("--kind", "decoder", "--config", "llama", *settings(*TINY),
                                 "--output", str(target))
            self.assertEqual(code, 0, error)
            model = torch.jit.load(str(target))
            ids = torch.arange(3, 15)[None, :]
            torch.testing.assert_close(model(ids[:, :5]), model(ids)[:, :5], rtol=1e-4, atol=1e-5)


    def test_cached_decoders_go_on_where_they_were(self) -> None:
        import torch

        with tempfile.TemporaryDirectory() as folder:
            for config in ("llama", "gpt2"):
                with self.subTest(config):
                    target = Path(folder) / f"{config}.pt"
                    arguments = ("--kind", "decoder", "--config", config, *settings(*TINY), "--force",
                                 "--output", str(target))
                    self.assertEqual(run(*arguments)[0], 0)
                    ids = torch.arange(3, 15)[None, :]
                    whole = torch.jit.load(str(target))(ids)
                    code, _, error = run(*arguments, "--cache")
                    self.assertEqual(code, 0, error)
                    extra = {"cache.json": ""}
                    model = torch.jit.load(str(target), _extra_files=extra)
                    past = [torch.zeros(1, *shape)
                            for shape in json.loads(extra["cache.json"])["past"]]
                    first, past = model(ids[:, :7], past)
                    second, past = model(ids[:, 7:8], past)
                    torch.testing.assert_close(torch.cat([first, second], 1), whole[:, :8],
                                               rtol=1e-4, atol=1e-5)
                    self.assertEqual(past[0].shape[2], 8)
            code, _, error = run("--kind", "encoder", "--config", "bert", "--cache", "--output",
                                 str(Path(folder) / "x.pt"))
            self.assertEqual(code, 2)
            self.assertIn("--cache is for --kind decoder", error)


class UsageTest(unittest.TestCase):
    @unittest.skipUnless(HAVE, "torch and transformers are not both installed")
    def test_mistakes_are_named(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            target = str(Path(folder) / "x.pt")
            for arguments, text in (
                (("--config", "no_such_type"), "no_such_type"),
                (("--config", "bert", "--set", "vocab_size"), "KEY=VALUE"),
                (("--model", folder), "config.json"),
            ):
                with self.subTest(arguments):
                    code, _, error = run("--kind", "encoder", "--output", target, *arguments)
                    self.assertEqual(code, 2)
                    self.assertIn(text, error)

    @unittest.skipUnless(HAVE, "torch and transformers are not both installed")
    def test_models_of_no_kind_give_a_sentence(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "x.pt"
            for kind, config in (("seq2seq", "whisper"), ("encoder", "vit"), ("clip", "bert")):
                with self.subTest(kind=kind, config=config):
                    small = settings("num_hidden_layers=1", "encoder_layers=1", "decoder_layers=1")
                    code, _, error = run("--kind", kind, "--config", config, *small, "--output",
                                         str(target))
                    self.assertEqual(code, 2, error)
                    self.assertIn(f"{config} cannot be exported with --kind {kind}", error)
                    self.assertNotIn("Traceback", error)
                    self.assertFalse(target.exists())

    def test_nested_settings(self) -> None:
        config: dict = {}
        export_transformers.put(config, "text_config.vocab_size=40")
        export_transformers.put(config, "hidden_act=gelu")
        self.assertEqual(config, {"text_config": {"vocab_size": 40}, "hidden_act": "gelu"})


if __name__ == "__main__":
    support.main()
