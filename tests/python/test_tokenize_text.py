"""scripts/tokenize_text.py: the llama2.c tokenizer by its definition, documents, rows, bad input."""

from __future__ import annotations

import contextlib
import io
import json
import random
import struct
import tempfile
import unittest
from pathlib import Path

import numpy as np

import support
import tokenize_text
from tokenize_text import Llama2cTokenizer, TokenizeError

PIECES = [b"<unk>", b"<s>", b"</s>"] + [b"<0x%02X>" % byte for byte in range(256)]
WORDS = [(b" ", -20.0), (b"a", -21.0), (b"b", -22.0), (b"c", -23.0), (b"ab", -1.0), (b"bc", -2.0),
         (b"abc", -3.0), (b" a", -4.0), (b"aa", -5.0), ("é".encode(), -24.0)]


def write_llama2c(path: Path) -> None:
    with path.open("wb") as file:
        file.write(struct.pack("<i", 6))
        for piece, score in [(piece, 0.0) for piece in PIECES] + WORDS:
            file.write(struct.pack("<fi", score, len(piece)) + piece)


def merge_by_definition(tokenizer: Llama2cTokenizer, text: str) -> list[int]:
    """The loop of llama2.c: looks at all pairs, merges the best, until there is none."""
    pieces: list[bytes | int] = []
    for character in " " + text:
        encoded = character.encode()
        pieces += [encoded] if encoded in tokenizer.ids else [byte + 3 for byte in encoded]
    while True:
        best, place = -1e10, -1
        for i in range(len(pieces) - 1):
            a, b = pieces[i], pieces[i + 1]
            if isinstance(a, bytes) and isinstance(b, bytes) and a + b in tokenizer.ids:
                score = tokenizer.scores[tokenizer.ids[a + b]]
                if score > best:
                    best, place = score, i
        if place < 0:
            return [tokenizer.ids[p] if isinstance(p, bytes) else p for p in pieces]
        pieces[place:place + 2] = [pieces[place] + pieces[place + 1]]


class TokenizeTest(unittest.TestCase):
    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        self.path = self.folder / "tokenizer.bin"
        write_llama2c(self.path)

    def run_script(self, *arguments: object) -> tuple[int, str]:
        out, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            code = tokenize_text.main([*map(str, arguments), "--tokenizer", str(self.path)])
        return code, out.getvalue() + errors.getvalue()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path


class Llama2cTest(TokenizeTest):
    def test_best_score_first(self) -> None:
        tokenizer = Llama2cTokenizer(self.path)
        first = len(PIECES)
        # " abc": ab (-1) before bc (-2), then abc (-3); " a" has lost its a.
        self.assertEqual(tokenizer.plain("abc"), [first, first + 6])
        self.assertEqual(tokenizer.plain("é\n"), [first, first + 9, 10 + 3])
        self.assertEqual(tokenizer.plain("€"), [first, 0xE2 + 3, 0x82 + 3, 0xAC + 3])
        self.assertEqual(tokenizer.plain(""), [])

    def test_equals_the_loop_of_llama2c(self) -> None:
        tokenizer = Llama2cTokenizer(self.path)
        letters = random.Random(5)
        for _ in range(200):
            text = "".join(letters.choice("aaabbc xé") for _ in range(letters.randrange(1, 40)))
            self.assertEqual(tokenizer.plain(text), merge_by_definition(tokenizer, text), text)

    def test_damaged_files(self) -> None:
        whole = self.path.read_bytes()
        for content in (whole[:-1], whole[:9], whole[:4], whole + struct.pack("<fi", 0.0, -5)):
            self.path.write_bytes(content)
            with self.assertRaises(TokenizeError):
                Llama2cTokenizer(self.path)


class StreamTest(TokenizeTest):
    def test_documents_begin_with_bos(self) -> None:
        text = self.write("text.txt", "One a\nb\n\nOne c\n")
        code, said = self.run_script("stream", text, "-o", self.folder / "ids.npy",
                                     "--document-start", "^One")
        self.assertEqual(code, 0, said)
        ids = np.load(self.folder / "ids.npy")
        self.assertEqual(ids.dtype, np.uint16)
        tokenizer = Llama2cTokenizer(self.path)
        self.assertEqual(ids.tolist(),
                         [1, *tokenizer.plain("One a\nb"), 1, *tokenizer.plain("One c")])
        self.assertIn("5 words, 2 document(s)", said)

    def test_bin_and_types(self) -> None:
        text = self.write("text.txt", "abc")
        for dtype in ("uint16", "int32", "int64"):
            code, _ = self.run_script("stream", text, "-o", self.folder / "ids.bin", "--no-bos",
                                      "--dtype", dtype)
            self.assertEqual(code, 0)
            self.assertEqual(np.fromfile(self.folder / "ids.bin", dtype).tolist(),
                             Llama2cTokenizer(self.path).plain("abc"))

    def test_bad_input(self) -> None:
        text = self.write("text.txt", "abc")
        for arguments, message in (
            (("stream", self.folder / "absent.txt", "-o", self.folder / "a.npy"), "absent.txt"),
            (("stream", text, "-o", self.folder / "a.txt"), ".npy or .bin"),
            (("stream", self.write("empty.txt", ""), "-o", self.folder / "a.npy", "--no-bos"),
             "no token"),
        ):
            code, said = self.run_script(*arguments)
            self.assertEqual(code, 2)
            self.assertIn(message, said)


class RowsTest(TokenizeTest):
    def rows(self, *arguments: object) -> dict[str, np.ndarray]:
        table = self.write("t.tsv", "x\tabc\ta\t2.5\t1\ny\tb\tcab\t4\t0\n")
        code, said = self.run_script("rows", table, "-o", self.folder / "o.npz", *arguments)
        self.assertEqual(code, 0, said)
        with np.load(self.folder / "o.npz") as arrays:
            return dict(arrays)

    def test_pairs_take_two_rows(self) -> None:
        arrays = self.rows("--columns", "2,3", "--score-column", "4")
        self.assertEqual(arrays["input_ids"].shape[0], 4)
        self.assertEqual(arrays["scores"].tolist(), [2.5, 4.0])
        tokenizer = Llama2cTokenizer(self.path)
        for index, text in enumerate(("abc", "a", "b", "cab")):
            ids = [1, *tokenizer.plain(text)]
            self.assertEqual(arrays["input_ids"][index, :len(ids)].tolist(), ids)
            self.assertEqual(arrays["attention_mask"][index].sum(), len(ids))
        self.assertEqual(arrays["input_ids"].dtype, np.int64)

    def test_length_labels_and_inputs(self) -> None:
        arrays = self.rows("--columns", "2", "--label-column", "5", "--length", "2",
                           "--inputs", "input_ids,attention_mask")
        self.assertEqual(set(arrays), {"input_ids", "attention_mask", "labels"})
        self.assertEqual(arrays["input_ids"].shape, (2, 2))
        self.assertEqual(arrays["labels"].tolist(), [1, 0])

    def test_bad_input(self) -> None:
        table = self.write("t.tsv", "abc\tx\n")
        for arguments, message in (
            (("--columns", "3"), "line 1 has 2 columns"),
            (("--columns", "1", "--label-column", "2"), "is no number"),
            (("--columns", "1", "--score-column", "2"), "pairs"),
            (("--columns", "1,2", "--joint"), "pairs in one row"),
            (("--columns", "1", "--skip", "1"), "no rows"),
        ):
            code, said = self.run_script("rows", table, "-o", self.folder / "o.npz", *arguments)
            self.assertEqual(code, 2, said)
            self.assertIn(message, said)


class FastTokenizerTest(TokenizeTest):
    def setUp(self) -> None:
        super().setUp()
        try:
            import tokenizers  # noqa: F401
        except ImportError:
            self.skipTest("needs the Python package tokenizers")

    def test_special_tokens_and_types(self) -> None:
        vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "hello": 4, "world": 5}
        piece = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                 {"Sequence": {"id": "A", "type_id": 0}},
                 {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]
        pair = [*piece, {"Sequence": {"id": "B", "type_id": 1}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]
        special = {name: {"id": name, "ids": [number], "tokens": [name]}
                   for name, number in (("[CLS]", 2), ("[SEP]", 3))}
        self.path = self.write("tokenizer.json", json.dumps({
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
            "normalizer": None, "pre_tokenizer": {"type": "Whitespace"}, "decoder": None,
            "post_processor": {"type": "TemplateProcessing", "single": piece, "pair": pair,
                               "special_tokens": special},
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}}))
        table = self.write("t.tsv", "hello\tworld hello\n")
        code, said = self.run_script("rows", table, "-o", self.folder / "o.npz", "--columns",
                                     "1,2", "--joint", "--length", "8")
        self.assertEqual(code, 0, said)
        with np.load(self.folder / "o.npz") as arrays:
            self.assertEqual(arrays["input_ids"].tolist(), [[2, 4, 3, 5, 4, 3, 0, 0]])
            self.assertEqual(arrays["attention_mask"].tolist(), [[1] * 6 + [0] * 2])
            self.assertEqual(arrays["token_type_ids"].tolist(), [[0, 0, 0, 1, 1, 1, 0, 0]])


if __name__ == "__main__":
    support.main()
