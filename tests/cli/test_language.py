"""evaluate on token ids, sentences and two towers: figures that are known, and what cannot work."""

from __future__ import annotations

import math

import numpy as np

import program
from program import support

USAGE, UNSUPPORTED, FILE = 2, 4, 5
WORDS = 7  # vocabulary


def save_models(folder) -> np.ndarray:
    """bigram.pt: logits of the next id from a table, which is returned; other.pt: another table;
    mean.pt: embeddings [B, T, D] of ids, with a mask input; towers.pt: two embeddings."""
    import torch

    class Bigram(torch.nn.Module):
        def __init__(self, table: torch.Tensor) -> None:
            super().__init__()
            self.table = torch.nn.Parameter(table)

        def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.embedding(input_ids.long(), self.table)

    class Sentences(torch.nn.Module):
        def __init__(self, table: torch.Tensor) -> None:
            super().__init__()
            self.table = torch.nn.Parameter(table)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.embedding(input_ids, self.table)

    class Towers(torch.nn.Module):
        def forward(self, pixels: torch.Tensor, input_ids: torch.Tensor):
            texts = torch.nn.functional.one_hot(input_ids[:, 0], 4).float()
            return {"logits": pixels @ texts.t(), "image": pixels, "text": texts}

    def save(model: torch.nn.Module, name: str) -> None:
        torch.jit.save(torch.jit.script(model.eval()), str(folder / name))

    generator = torch.manual_seed(0)
    table = torch.randn(WORDS, WORDS, generator=generator)
    save(Bigram(table), "bigram.pt")
    save(Bigram(table + torch.randn(WORDS, WORDS, generator=generator)), "other.pt")
    save(Sentences(torch.randn(WORDS, 5, generator=generator)), "mean.pt")
    save(Towers(), "towers.pt")
    return table.double().numpy()


class LanguageTest(program.ProgramTest):
    def setUp(self) -> None:
        super().setUp()
        self.table = save_models(self.folder)
        self.ids = np.random.default_rng(1).integers(0, WORDS - 1, 101)  # the last word is BOS
        np.save(self.folder / "ids.npy", self.ids.astype(np.uint16))
        self.ids.astype("<u2").tofile(self.folder / "ids.bin")

    def losses(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        shifted = self.table - np.log(np.exp(self.table).sum(1, keepdims=True))
        return -shifted[before, after]

    def perplexity(self, *arguments: object) -> dict:
        report = self.result("evaluate", "bigram.pt", "--task", "perplexity", *arguments)
        return {**report["models"][0]["perplexity"], "protocol": report["protocol"]}


class PerplexityTest(LanguageTest):
    def test_overlap_counts_every_id_but_the_first(self) -> None:
        got = self.perplexity("--data", "ids.npy", "--window", "16", "--stride", "8")
        self.assertEqual(got["tokens"], 100)
        expected = math.exp(self.losses(self.ids[:-1], self.ids[1:]).mean())
        self.assertAlmostEqual(got["token"], expected, places=5)
        low, high = got["interval95"]
        self.assertTrue(low < expected < high)

    def test_without_overlap_windows_lose_their_first_id(self) -> None:
        got = self.perplexity("--data", "ids.npy", "--window", "10")
        losses = self.losses(self.ids[:-1], self.ids[1:])
        counted = [i for i in range(100) if (i + 1) % 10 != 0]  # 101 ids: the last stands alone
        self.assertEqual(got["tokens"], len(counted))
        self.assertAlmostEqual(got["token"], math.exp(losses[counted].mean()), places=5)

    def test_bos_and_words(self) -> None:
        self.write("text.txt", "word " * 50)
        for words in ("50", "text.txt"):
            got = self.perplexity("--data", "ids.bin", "--dtype", "uint16", "--window", "11",
                                  "--bos", WORDS - 1, "--words", words)
            self.assertEqual(got["tokens"], 101)
            before = np.concatenate([[WORDS - 1], self.ids[:-1]])
            before[::10] = WORDS - 1
            losses = self.losses(before, self.ids)
            self.assertAlmostEqual(got["token"], math.exp(losses.mean()), places=5)
            self.assertAlmostEqual(got["word"], math.exp(losses.sum() / 50), places=2)
        for part in ("windows of 11 ids", "no overlap", "BOS 6", "101 tokens count", "50 words"):
            self.assertIn(part, got["protocol"])

    def test_rows_with_a_mask(self) -> None:
        rows = self.ids[:40].reshape(4, 10)
        mask = np.ones((4, 10), np.int64)
        mask[:, 6:] = 0
        np.savez(self.folder / "rows.npz", input_ids=rows, attention_mask=mask)
        self.fails(USAGE, "attention_mask", "evaluate", "bigram.pt", "--task", "perplexity",
                  "--data", "rows.npz")
        np.save(self.folder / "rows.npy", rows)
        got = self.perplexity("--data", "rows.npy")
        self.assertEqual(got["tokens"], 36)
        self.assertAlmostEqual(got["token"], math.exp(self.losses(rows[:, :-1],
                                                                  rows[:, 1:]).mean()), places=5)

    def test_reference_and_gates(self) -> None:
        arguments = ("evaluate", "other.pt", "--task", "perplexity", "--data", "ids.npy",
                     "--window", "16", "--stride", "8", "--reference", "bigram.pt")
        report = self.result(*arguments)
        reference, model = report["reference"]["perplexity"], report["models"][0]
        self.assertAlmostEqual(model["perplexity"]["ratio"]["value"],
                               model["perplexity"]["token"] / reference["token"], places=9)
        self.assertGreater(model["kl"], 0)
        self.assertGreater(model["kl_standard_error"], 0)
        self.assertTrue(0 < model["agreement"]["value"] < 1)
        limit = model["perplexity"]["token"]
        self.succeed(*arguments, "--max-ppl", limit + 0.01, "--max-ppl-ratio", "10")
        done = self.run_program(*arguments, "--max-ppl", limit - 0.01)
        self.assertEqual(done.returncode, 1)
        self.assertIn("max-ppl", done.stderr)
        self.assertIn("MISSED", done.stdout)
        same = self.result("evaluate", "bigram.pt", *arguments[2:])["models"][0]
        self.assertEqual(same["perplexity"]["ratio"]["value"], 1.0)
        self.assertEqual(same["kl"], 0.0)

    def test_what_cannot_work(self) -> None:
        def fails(code: int, message: str, *arguments: object) -> None:
            self.fails(code, message, "evaluate", "bigram.pt", "--task", "perplexity", *arguments)

        fails(USAGE, "--window", "--data", "ids.npy", "--window", "1")
        fails(USAGE, "--stride", "--data", "ids.npy", "--window", "8", "--stride", "9")
        fails(USAGE, "--window", "--data", "ids.npy", "--stride", "9")
        fails(FILE, "--dtype", "--data", "ids.npy", "--window", "8", "--dtype", "uint16")
        fails(FILE, "folder", "--data", ".", "--window", "8")
        fails(USAGE, "--labels", "--data", "ids.npy", "--window", "8", "--labels", "ids.npy")
        self.fails(USAGE, "--words", "evaluate", "bigram.pt", "--reference", "bigram.pt", "--data",
                   "ids.npy", "--window", "8", "--words", "50")
        fails(USAGE, "--dtype", "--data", "ids.bin", "--window", "8", "--dtype", "float32")
        fails(FILE, "ids.bin", "--data", "ids.bin", "--window", "8")
        fails(FILE, "absent.bin", "--data", "absent.bin", "--window", "8", "--dtype", "uint16")
        fails(USAGE, "--words", "--data", "ids.npy", "--window", "8", "--words", "0")
        fails(USAGE, "--samples", "--data", "ids.npy", "--window", "8", "--words", "9",
              "--samples", "2")
        fails(USAGE, "--outputs", "--data", "ids.npy", "--window", "8", "--outputs", "0,1")
        fails(UNSUPPORTED, "output 1", "--data", "ids.npy", "--window", "8", "--outputs", "1")
        fails(USAGE, "--max-ppl-ratio", "--data", "ids.npy", "--window", "8", "--max-ppl-ratio",
              "2")
        fails(USAGE, "min-top1", "--data", "ids.npy", "--window", "8", "--min-top1", "0.5")
        fails(USAGE, "not a limit", "--data", "ids.npy", "--window", "8", "--max-ppl", "ten")
        np.save(self.folder / "floats.npy", np.zeros((3, 4), np.float32))
        fails(USAGE, "no token ids", "--data", "floats.npy")
        np.save(self.folder / "large.npy", np.full((2, 4), WORDS))
        fails(USAGE, "outside the vocabulary", "--data", "large.npy")
        self.fails(USAGE, "--task", "evaluate", "bigram.pt", "--task", "guess", "--data", "ids.npy")


class EmbeddingTest(LanguageTest):
    def save_pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        random = np.random.default_rng(2)
        ids = random.integers(0, WORDS, (60, 6))
        mask = (np.arange(6) < random.integers(1, 7, (60, 1))).astype(np.int64)
        scores = random.integers(0, 5, 30).astype(np.float64)  # with ties
        np.savez(self.folder / "pairs.npz", input_ids=ids, attention_mask=mask, scores=scores)
        return ids, mask, scores

    def test_spearman_as_defined(self) -> None:
        import torch

        ids, mask, scores = self.save_pairs()
        table = torch.jit.load(str(self.folder / "mean.pt")).table.detach().double().numpy()
        pooled = (table[ids] * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        unit = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        cosine = (unit[0::2] * unit[1::2]).sum(1)

        def ranks(values: np.ndarray) -> np.ndarray:
            return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])

        expected = np.corrcoef(ranks(cosine), ranks(scores))[0, 1]
        arguments = ("evaluate", "mean.pt", "--task", "embedding", "--data", "pairs.npz",
                     "--reference", "mean.pt", "--batch-size", "7")
        report = self.result(*arguments)
        model = report["models"][0]["embedding"]
        self.assertEqual(model["pairs"], 30)
        self.assertAlmostEqual(model["spearman"], expected, places=9)
        low, high = model["spearman_interval95"]
        self.assertTrue(low < expected < high)
        self.assertAlmostEqual(model["cosine"]["value"], 1.0)
        self.assertIn("mean over unmasked positions", report["protocol"])
        self.succeed(*arguments, f"--min-spearman={expected - 0.01}", "--min-cosine", "0.999")
        self.assertEqual(
            self.run_program(*arguments, f"--min-spearman={expected + 0.01}").returncode, 1)
        drawn = self.result(*arguments, "--samples", "10")["models"][0]["embedding"]
        self.assertEqual(drawn["pairs"], 10)

    def test_what_cannot_work(self) -> None:
        ids, mask, scores = self.save_pairs()

        def fails(code: int, message: str, **arrays: np.ndarray) -> None:
            np.savez(self.folder / "bad.npz", **arrays)
            self.fails(code, message, "evaluate", "mean.pt", "--task", "embedding", "--data",
                      "bad.npz")

        fails(FILE, "one score for each pair", input_ids=ids, attention_mask=mask,
              scores=scores[:-1])
        fails(FILE, "NaN", input_ids=ids, attention_mask=mask, scores=scores * np.nan)
        fails(USAGE, "nothing to measure", input_ids=ids, attention_mask=mask)
        fails(USAGE, "no position", input_ids=ids, attention_mask=0 * mask, scores=scores)
        fails(USAGE, "does not fit the inputs", input_ids=ids, scores=scores)
        np.savez(self.folder / "pair.npz", input_ids=ids[:2], attention_mask=mask[:2],
                 scores=scores[:1])
        self.fails(USAGE, "two pairs", "evaluate", "mean.pt", "--task", "embedding", "--data",
                   "pair.npz", "--min-spearman", "0.5")


class RetrievalTest(LanguageTest):
    def test_pairs(self) -> None:
        # Images 0 to 2 are like their texts, image 3 is like text 0.
        pixels = np.eye(4, dtype=np.float32) + 0.1
        pixels[3] = [1.0, 0.0, 0.0, 0.5]
        np.savez(self.folder / "pairs.npz", pixels=pixels, input_ids=np.arange(4)[:, None])
        arguments = ("evaluate", "towers.pt", "--task", "retrieval", "--data", "pairs.npz",
                     "--outputs", "1,2")
        model = self.result(*arguments)["models"][0]["retrieval"]
        found = {(row["direction"], row["k"]): row["value"] for row in model["recalls"]}
        self.assertEqual(found, {("image to text", 1): 0.75, ("text to image", 1): 1.0})
        self.succeed(*arguments, "--min-recall1", "0.75")
        self.assertEqual(self.run_program(*arguments, "--min-recall1", "0.8").returncode, 1)
        self.fails(USAGE, "--outputs", *arguments[:-1], "1")
        self.fails(USAGE, "each another", *arguments[:-1], "1,1")
        # Similarities, which are as wide as the batch, are no embeddings.
        for task in ("retrieval", "embedding"):
            self.fails(USAGE, "changes with the samples", "evaluate", "towers.pt", "--task", task,
                       "--data", "pairs.npz", "--reference", "towers.pt")

    def test_zero_shot(self) -> None:
        # Ten images, four class texts: both sides go through the model in batches of three.
        labels = np.arange(10) % 4
        pixels = np.eye(4, dtype=np.float32)[labels]
        pixels[0] = pixels[1]  # one is wrong
        np.savez(self.folder / "images.npz", pixels=pixels, labels=labels)
        np.savez(self.folder / "texts.npz", input_ids=np.arange(4)[:, None])
        report = self.result("evaluate", "towers.pt", "--task", "retrieval", "--data",
                             "images.npz", "--texts", "texts.npz", "--outputs", "1,2",
                             "--batch-size", "3", "--reference", "towers.pt")
        model = report["models"][0]["retrieval"]
        self.assertEqual(model["recalls"][0]["count"], 9)
        self.assertEqual(model["recalls"][0]["total"], 10)
        self.assertEqual({row["direction"] for row in model["recalls"]}, {"image to text"})
        self.assertAlmostEqual(model["cosine"]["value"], 1.0)
        self.assertIn("one for each class", report["protocol"])

    def test_what_cannot_work(self) -> None:
        np.savez(self.folder / "images.npz", pixels=np.eye(4, dtype=np.float32))
        np.savez(self.folder / "texts.npz", input_ids=np.arange(3)[:, None])
        arguments = ("evaluate", "towers.pt", "--task", "retrieval", "--data", "images.npz",
                     "--texts", "texts.npz", "--outputs", "1,2")
        self.fails(USAGE, "no pairs", *arguments)
        np.savez(self.folder / "images.npz", pixels=np.eye(4, dtype=np.float32),
                 labels=np.array([0, 1, 2, 3]))
        self.fails(USAGE, "label", *arguments)
        np.save(self.folder / "texts.npy", np.arange(4)[:, None])
        self.fails(USAGE, "names", *(str(a).replace("texts.npz", "texts.npy") for a in arguments))


class QuantizeTest(LanguageTest):
    def test_stream_of_ids_calibrates(self) -> None:
        model = program.MODELS / "decoder.script.pt"
        np.save(self.folder / "stream.npy", np.arange(200) % 11)
        report = self.result("quantize", model, "--bits", "w8a8", "--calib", "stream.npy",
                             "--window", "16", "--calib-samples", "8", "-o", "out.pt")
        self.assertIn("windows of 16 ids", report["protocol"])
        self.assertIn("12 windows", report["protocol"])  # the short last one is left out
        got = self.result("evaluate", "out.pt", "--task", "perplexity", "--data", "stream.npy",
                          "--window", "16", "--reference", model)["models"][0]
        self.assertEqual(got["perplexity"]["tokens"], 200 - 13)
        self.assertGreater(got["sqnr_db"], 10)
        self.assertTrue(self.result("inspect", model, "--data", "stream.npy", "--window",
                                    "16")["proven"])


if __name__ == "__main__":
    support.main()
