"""Decoders that keep keys and values: quantized as the plain ones, and the same text.

REPQUANT_LLAMA2C may name a checkpoint of llama2.c, such as stories260K.bin, to write text with a real
model as well."""

from __future__ import annotations

import importlib.util
import json
import os
import unittest
from pathlib import Path
from typing import Any

import numpy as np

import program
from program import DIGITS_MODEL, support
import export_llama2c  # noqa: E402
from llama2c import KV_HEADS, LAYERS, VOCABULARY, checkpoint  # noqa: E402

CONTEXT, WINDOW = 48, 24
REAL = os.environ.get("REPQUANT_LLAMA2C", "")


def greedy(model: Any, ids: Any, past: list[Any], tokens: int, keep: bool) -> list[int]:
    """The ids that follow, with keys and values kept, or each from the whole text."""
    import torch

    text, kept, given = ids, past, ids
    for _ in range(tokens):
        logits, kept = model(given, kept)
        best = logits[:, -1:].argmax(-1)
        text = torch.cat([text, best], 1)
        given = best if keep else text
        if not keep:
            kept = past
    return text[0, ids.shape[1]:].tolist()


@unittest.skipUnless(importlib.util.find_spec("torch"), "torch is not installed")
class GenerateTest(program.ProgramTest):
    def export(self, source: Path | str, *flags: str) -> str:
        name = "cached.pt" if "--cache" in flags else "plain.pt"
        arguments = ["--checkpoint", str(source), "--output", str(self.folder / name), *flags]
        export_llama2c.export(export_llama2c.parse_args(arguments))
        return name

    def make_models(self) -> None:
        """plain.pt and cached.pt of the same weights, and ids.npy to calibrate them."""
        source = self.write("model.bin", checkpoint(CONTEXT))
        self.export(source)
        self.export(source, "--cache")
        ids = np.random.default_rng(1).integers(0, VOCABULARY, 16 * WINDOW)
        np.save(self.folder / "ids.npy", ids)

    def quantize(self, model: str, bits: str, *options: str) -> tuple[str, dict[str, Any]]:
        output = model.replace(".pt", f".{bits}.pt")
        report = self.result("quantize", model, "--bits", bits, "--calib", "ids.npy", "--window",
                             WINDOW, "--effort", "fast", "-o", output, *options)
        return output, report

    def test_quantized_as_the_plain_decoder(self) -> None:
        import torch

        self.make_models()
        for bits in ("w8a8", "w4a16"):
            with self.subTest(bits):
                _, plain = self.quantize("plain.pt", bits)
                output, cached = self.quantize("cached.pt", bits, "--strict")
                kinds = [site["kind"] for site in cached["sites"]]
                self.assertEqual(kinds, [site["kind"] for site in plain["sites"]])
                self.assertEqual(kinds.count("attend"), LAYERS)
                # The keys and values given back are no result that is judged.
                self.assertAlmostEqual(cached["output_sqnr_db"], plain["output_sqnr_db"], delta=0.5)
                extra = {"cache.json": ""}
                model = torch.jit.load(str(self.folder / output), _extra_files=extra)
                shapes = json.loads(extra["cache.json"])["past"]
                self.assertEqual(len(shapes), 2 * LAYERS)
                past = [torch.zeros(1, *shape) for shape in shapes]
                ids = torch.arange(WINDOW)[None] % VOCABULARY
                with torch.inference_mode():
                    self.assertEqual(greedy(model, ids, past, 12, keep=True),
                                     greedy(model, ids, past, 12, keep=False))
                    _, kept = model(ids, past)
                self.assertEqual(kept[0].shape[:3], (1, KV_HEADS, WINDOW))

    def test_keys_and_values_in_codes(self) -> None:
        import torch

        self.make_models()
        ids = torch.arange(WINDOW)[None] % VOCABULARY
        for bits in ("w8a8", "w4a4", "w4a16"):
            with self.subTest(bits):
                plain, report = self.quantize("cached.pt", bits)
                os.replace(self.folder / plain, self.folder / "float.pt")
                output, coded = self.quantize("cached.pt", bits, "--set", "attention.cache_bits=8",
                                              "--strict")
                self.assertEqual([site["kind"] for site in coded["sites"]],
                                 [site["kind"] for site in report["sites"]])
                self.assertGreater(coded["output_sqnr_db"], report["output_sqnr_db"] - 1.5)
                extra = {"cache.json": ""}
                model = torch.jit.load(str(self.folder / output), _extra_files=extra)
                kept = json.loads(extra["cache.json"])
                self.assertEqual(kept["type"], "uint8")
                past = [torch.zeros(1, *shape, dtype=torch.uint8) for shape in kept["past"]]
                with torch.inference_mode():
                    text = greedy(model, ids, past, 12, keep=True)
                    if bits != "w4a4":  # a tie between 4-bit codes may change the text
                        self.assertEqual(text, greedy(model, ids, past, 12, keep=False))
                    # An empty past of another type does no harm.
                    self.assertEqual(text, greedy(model, ids, [p.float() for p in past], 12, True))
                    logits, after = model(ids, past)
                    other = torch.jit.load(str(self.folder / "float.pt"))
                    expected, before = other(ids, [torch.zeros(1, p.size(1), 0, p.size(3) - 8)
                                                   for p in past])
                self.assertEqual(after[0].dtype, torch.uint8)
                self.assertEqual(after[0].shape, (*before[0].shape[:3], before[0].shape[3] + 8))
                error = (logits - expected).square().mean() / expected.square().mean()
                self.assertLess(error.item(), 0.05)
                report = self.result("benchmark", "cached.pt", output, "--form", "portable,fused",
                                     "--task", "generate", "--data", "ids.npy", "--prompt", 12,
                                     "--tokens", 16, "--rounds", 1)
                for model in report["models"][1:]:
                    self.assertTrue(0 <= model["same_tokens"] <= 16)
                report = self.result("evaluate", output, "--reference", "cached.pt", "--task",
                                     "perplexity", "--data", "ids.npy", "--window", WINDOW)
                self.assertGreater(report["models"][0]["agreement"]["value"], 0.5)
                self.succeed("verify", output, "--reference", "cached.pt", "--data", "ids.npy",
                             "--window", WINDOW)

    def test_codes_need_a_model_that_keeps_keys_and_values(self) -> None:
        self.make_models()
        self.fails(2, "keeps no keys and values", "quantize", "plain.pt", "--calib", "ids.npy",
                   "--window", WINDOW, "--set", "attention.cache_bits=8", "-o", "x.pt")
        self.fails(2, "attention.cache_bits", "quantize", "cached.pt", "--calib", "ids.npy",
                   "--window", WINDOW, "--set", "attention.cache_bits=4", "-o", "x.pt")

    def test_perplexity_needs_no_keys_and_values(self) -> None:
        self.make_models()
        report = self.result("evaluate", "cached.pt", "--reference", "plain.pt", "--task",
                             "perplexity", "--data", "ids.npy", "--window", WINDOW)
        self.assertAlmostEqual(report["models"][0]["agreement"]["value"], 1.0)

    def test_text_side_by_side(self) -> None:
        self.make_models()
        output, _ = self.quantize("cached.pt", "w8a8")
        report = self.result("benchmark", "plain.pt", "cached.pt", output, "--form",
                             "portable,fused", "--task", "generate", "--data", "ids.npy", "--prompt",
                             12, "--tokens", 16, "--rounds", 2, "--batch-sizes", "1,3")
        plain, cached, portable, fused = report["models"]
        self.assertEqual([model["keeps_past"] for model in report["models"]],
                         [False, True, True, True])
        self.assertEqual((plain["same_tokens"], cached["same_tokens"]), (16, 16))
        self.assertTrue(0 <= portable["same_tokens"] <= 16)
        self.assertEqual(portable["same_tokens"], fused["same_tokens"])
        self.assertEqual([(row["batch_size"], row["phase"]) for row in report["rows"]],
                         [(size, phase) for size in (1, 3) for phase in ("prefill", "decode")
                          for _ in range(4)])
        for row in report["rows"]:
            items = row["batch_size"] * (12 if row["phase"] == "prefill" else 1)
            self.assertAlmostEqual(row["tokens_per_second"] * row["seconds"]["median"], items)
        text = self.succeed("benchmark", "cached.pt", "--task", "generate", "--prompt", 8, "--tokens",
                            4, "--rounds", 1).stdout
        for words in ("random ids; 8 tokens of prompt, 4 written", "prefill", "decode", "tokens/s",
                      "4 of 4"):
            self.assertIn(words, text)

    def test_what_cannot_write_text(self) -> None:
        self.make_models()
        generate = ("--task", "generate", "--rounds", 1)
        self.fails(2, "", "benchmark", DIGITS_MODEL, *generate)
        self.fails(4, "must fit into the context", "benchmark", "cached.pt", *generate, "--prompt",
                   40, "--tokens", 20)
        self.fails(2, "--prompt", "benchmark", "cached.pt", "--prompt", 8)
        self.fails(2, "--task", "benchmark", "cached.pt", "--task", "sing")

    @unittest.skipUnless(REAL, "REPQUANT_LLAMA2C names no checkpoint of llama2.c")
    def test_real_model(self) -> None:
        self.export(REAL)
        self.export(REAL, "--cache")
        report = self.result("benchmark", "plain.pt", "cached.pt", "--task", "generate", "--prompt",
                             16, "--tokens", 200, "--rounds", 1)
        self.assertEqual([model["same_tokens"] for model in report["models"]], [200, 200])


if __name__ == "__main__":
    support.main()
