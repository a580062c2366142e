#!/usr/bin/env python3
"""Turns text into token ids for `repquant`, with a model's own tokenizer.

  tokenize_text.py stream TEXT -o ids.npy --tokenizer T     one stream of ids (perplexity)
  tokenize_text.py rows TABLE.tsv -o rows.npz --tokenizer T --columns 6,7 --score-column 5
                                                            padded rows of sentences (embedding)

The tokenizer is a tokenizer.json of the `tokenizers` package, a folder that holds one (or files that
`transformers` reads), or a tokenizer.bin of llama2.c, which needs no package at all.

A stream is .npy or, without a header, .bin. Rows are an .npz with input_ids, attention_mask and
token_type_ids, int64 [rows, length], and, if asked, `scores` (one for each pair of rows) or `labels`.
"""

from __future__ import annotations

import argparse
import heapq
import re
import struct
import sys
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
BYTE_OFFSET = 3  # llama2.c: id of byte 0, after unknown, BOS and EOS
LLAMA2C_BOS = 1


class TokenizeError(Exception):
    """Input that cannot be used; the text says what and where."""


class Row(NamedTuple):
    ids: list[int]
    types: list[int]


class Tokenizer(Protocol):
    def bos(self) -> int | None:
        """Id that begins a text, if the tokenizer names one."""

    def plain(self, text: str) -> list[int]:
        """Ids without special tokens."""

    def row(self, first: str, second: str | None) -> Row:
        """Ids with the special tokens that the model expects around a sentence or a pair."""

    def pad(self) -> int:
        """Id to fill up rows with."""


class Llama2cTokenizer:
    """SentencePiece BPE as llama2.c stores it: merges the pair of best score until none is left."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        self.scores: list[float] = []
        self.ids: dict[bytes, int] = {}
        offset = 4  # the longest length comes first
        while offset < len(data):
            if offset + 8 > len(data):
                raise TokenizeError(f"{path} ends inside a token")
            score, length = struct.unpack_from("<fi", data, offset)
            offset += 8
            if length < 0 or offset + length > len(data):
                raise TokenizeError(f"{path} has a token of a bad length at byte {offset}")
            self.ids.setdefault(data[offset:offset + length], len(self.scores))
            self.scores.append(score)
            offset += length
        if not self.scores:
            raise TokenizeError(f"{path} holds no tokens")

    def bos(self) -> int | None:
        return LLAMA2C_BOS

    def pad(self) -> int:
        return 0

    def _pieces(self, text: str) -> list[bytes | int]:
        """Characters in the vocabulary as bytes, others as ids of their bytes."""
        pieces: list[bytes | int] = []
        for character in " " + text:
            encoded = character.encode()
            if encoded in self.ids:
                pieces.append(encoded)
            else:
                pieces.extend(byte + BYTE_OFFSET for byte in encoded)
        return pieces

    def plain(self, text: str) -> list[int]:
        if not text:
            return []
        pieces: list[bytes | int | None] = list(self._pieces(text))
        count = len(pieces)
        before = list(range(-1, count - 1))
        after = list(range(1, count + 1))
        heap: list[tuple[float, int, bytes, bytes]] = []

        def offer(left: int) -> None:
            right = after[left] if left >= 0 else count
            if right >= count:
                return
            a, b = pieces[left], pieces[right]
            if isinstance(a, bytes) and isinstance(b, bytes) and a + b in self.ids:
                heapq.heappush(heap, (-self.scores[self.ids[a + b]], left, a, b))

        for position in range(count):
            offer(position)
        while heap:  # best score first, then leftmost; stale offers name pieces that are gone
            _, left, a, b = heapq.heappop(heap)
            right = after[left]
            if pieces[left] != a or right >= count or pieces[right] != b:
                continue
            pieces[left], pieces[right] = a + b, None
            after[left] = after[right]
            if after[left] < count:
                before[after[left]] = left
            offer(left)
            offer(before[left])
        return [self.ids[piece] if isinstance(piece, bytes) else piece
                for piece in pieces if piece is not None]

    def row(self, first: str, second: str | None) -> Row:
        if second is not None:
            raise TokenizeError("the llama2.c tokenizer has no form for pairs in one row")
        ids = [LLAMA2C_BOS, *self.plain(first)]
        return Row(ids, [0] * len(ids))


class FastTokenizer:
    """A tokenizer.json of the `tokenizers` package."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        inner.no_padding()
        inner.no_truncation()

    def _first_known(self, names: tuple[str, ...]) -> int | None:
        known = (self.inner.token_to_id(name) for name in names)
        return next((token for token in known if token is not None), None)

    def bos(self) -> int | None:
        return self._first_known(("<s>", "<|begin_of_text|>", "<bos>", "</s>", "<|endoftext|>"))

    def pad(self) -> int:
        return self._first_known(("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>")) or 0

    def plain(self, text: str) -> list[int]:
        return self.inner.encode(text, add_special_tokens=False).ids

    def row(self, first: str, second: str | None) -> Row:
        encoding = self.inner.encode(first, second)
        return Row(encoding.ids, encoding.type_ids)


class TransformersTokenizer:
    """Anything that `transformers` reads from a folder."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self.inner = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)

    def bos(self) -> int | None:
        return self.inner.bos_token_id

    def pad(self) -> int:
        return self.inner.pad_token_id or 0

    def plain(self, text: str) -> list[int]:
        return self.inner(text, add_special_tokens=False, verbose=False)["input_ids"]

    def row(self, first: str, second: str | None) -> Row:
        encoding = self.inner(first, second)
        return Row(encoding["input_ids"],
                   encoding.get("token_type_ids") or [0] * len(encoding["input_ids"]))


def load_tokenizer(path: Path) -> Tokenizer:
    """Decides by what is there. Raises TokenizeError."""
    if not path.exists():
        raise TokenizeError(f"tokenizer not found: {path}")
    if path.is_file() and path.suffix == ".bin":
        return Llama2cTokenizer(path)
    json_file = path / "tokenizer.json" if path.is_dir() else path
    try:
        if json_file.is_file():
            import tokenizers

            return FastTokenizer(tokenizers.Tokenizer.from_file(str(json_file)))
        return TransformersTokenizer(path)
    except ImportError as error:
        raise TokenizeError(f"{path} needs the Python package {error.name}") from error
    except Exception as error:  # tokenizers raises plain Exception
        raise TokenizeError(f"{path} is no tokenizer: {error}") from error


def split_documents(text: str, start: str | None) -> list[str]:
    """Documents, each from a line that matches `start` up to the next one; without it the whole."""
    if start is None:
        return [text]
    documents: list[list[str]] = []
    for line in text.splitlines():
        if not documents or re.search(start, line):
            documents.append([])
        documents[-1].append(line)
    joined = ("\n".join(lines).strip() for lines in documents)
    return [document for document in joined if document]


def make_stream(tokenizer: Tokenizer, documents: list[str], bos: int | None) -> np.ndarray:
    """int64 [ids]; each document begins with `bos`, if there is one."""
    ids: list[int] = []
    for document in documents:
        ids += ([] if bos is None else [bos]) + tokenizer.plain(document)
    if not ids:
        raise TokenizeError("the text gives no token")
    return np.asarray(ids, np.int64)


def save_stream(path: Path, ids: np.ndarray, dtype: str | None) -> str:
    """Writes .npy, or the bare ids to .bin; returns the type of the elements."""
    kind = np.dtype(dtype or ("uint16" if ids.max() < 1 << 16 else "int32"))
    if ids.max() > np.iinfo(kind).max:
        raise TokenizeError(f"id {ids.max()} does not fit {kind}")
    if path.suffix == ".bin":
        ids.astype(kind.newbyteorder("<")).tofile(path)
    elif path.suffix == ".npy":
        np.save(path, ids.astype(kind))
    else:
        raise TokenizeError(f"{path}: a stream is .npy or .bin")
    return kind.name


def read_table(path: Path, skip: int) -> list[list[str]]:
    """Lines of a tab-separated file as lists of cells."""
    lines = path.read_text(encoding="utf-8").splitlines()[skip:]
    return [line.split("\t") for line in lines if line.strip()]


def cell(row: list[str], column: int, line: int) -> str:
    if not 1 <= column <= len(row):
        raise TokenizeError(f"line {line} has {len(row)} columns, column {column} is asked for")
    return row[column - 1].strip()


def number(text: str, kind: type, line: int) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        raise TokenizeError(f"line {line}: {text!r} is no number") from error


def make_rows(tokenizer: Tokenizer, sentences: list[tuple[str, str | None]],
              length: int | None) -> dict[str, np.ndarray]:
    """The arrays of INPUTS, int64 [rows, length]; without a length, that of the longest row."""
    rows = [tokenizer.row(first, second) for first, second in sentences]
    width = length or max(len(row.ids) for row in rows)
    arrays = {name: np.zeros((len(rows), width), np.int64) for name in INPUTS}
    arrays["input_ids"][:] = tokenizer.pad()
    for index, row in enumerate(rows):
        ids = row.ids
        if len(ids) > width:  # the last special token stays
            ids = ids[:width - 1] + ids[-1:]
        arrays["input_ids"][index, :len(ids)] = ids
        arrays["attention_mask"][index, :len(ids)] = 1
        arrays["token_type_ids"][index, :len(ids)] = row.types[:len(ids)]
    return arrays


def run_stream(arguments: argparse.Namespace) -> str:
    tokenizer = load_tokenizer(arguments.tokenizer)
    text = arguments.text.read_text(encoding="utf-8")
    bos = None if arguments.no_bos else tokenizer.bos() if arguments.bos is None else arguments.bos
    documents = split_documents(text, arguments.document_start)
    ids = make_stream(tokenizer, documents, bos)
    kind = save_stream(arguments.output, ids, arguments.dtype)
    words = sum(len(document.split()) for document in documents)
    return (f"{arguments.output}: {len(ids)} ids ({kind}), {words} words, {len(documents)} "
            f"document(s), BOS {'none' if bos is None else bos}")


def run_rows(arguments: argparse.Namespace) -> str:
    tokenizer = load_tokenizer(arguments.tokenizer)
    table = read_table(arguments.table, arguments.skip)[:arguments.rows]
    if not table:
        raise TokenizeError(f"{arguments.table} has no rows")
    pairs = len(arguments.columns) == 2
    if arguments.score_column and (not pairs or arguments.joint):
        raise TokenizeError("scores belong to pairs in rows of their own: give two --columns")
    if arguments.joint and not pairs:
        raise TokenizeError("--joint needs two --columns")
    sentences: list[tuple[str, str | None]] = []
    for line, row in enumerate(table, arguments.skip + 1):
        cells = [cell(row, column, line) for column in arguments.columns]
        sentences += [(cells[0], cells[1])] if arguments.joint else [(text, None) for text in cells]
    arrays = {name: array for name, array in
              make_rows(tokenizer, sentences, arguments.length).items()
              if name in arguments.inputs}
    for name, column, kind in (("scores", arguments.score_column, float),
                               ("labels", arguments.label_column, int)):
        if column:
            values = [number(cell(row, column, line), kind, line)
                      for line, row in enumerate(table, arguments.skip + 1)]
            arrays[name] = np.asarray(values, np.float64 if kind is float else np.int64)
    if arguments.output.suffix != ".npz":
        raise TokenizeError(f"{arguments.output}: rows are .npz")
    np.savez_compressed(arguments.output, **arrays)
    shape = arrays[arguments.inputs[0]].shape
    return f"{arguments.output}: {shape[0]} rows of {shape[1]} ids, {', '.join(arrays)}"


def columns(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    if not 1 <= len(numbers) <= 2 or min(numbers) < 1:
        raise argparse.ArgumentTypeError("one or two columns, counted from 1")
    return numbers


def input_names(text: str) -> list[str]:
    names = text.split(",")
    if not set(names) <= set(INPUTS):
        raise argparse.ArgumentTypeError(f"names out of {', '.join(INPUTS)}")
    return names


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = result.add_subparsers(required=True)

    stream = commands.add_parser("stream", help="one stream of ids")
    stream.add_argument("text", type=Path, help="UTF-8 text")
    stream.add_argument("--bos", type=int, help="id before each document (default: tokenizer's)")
    stream.add_argument("--no-bos", action="store_true", help="no id before documents")
    stream.add_argument("--document-start", metavar="REGEX",
                        help="a line that matches begins a document (default: one document)")
    stream.add_argument("--dtype", choices=("uint16", "int32", "uint32", "int64"),
                        help="default: uint16 if the ids fit, else int32")
    stream.set_defaults(run=run_stream)

    rows = commands.add_parser("rows", help="padded rows of sentences or pairs")
    rows.add_argument("table", type=Path, help="tab-separated file, UTF-8")
    rows.add_argument("--columns", type=columns, required=True,
                      help="column of the sentence, or both of a pair, from 1: 6,7")
    rows.add_argument("--score-column", type=int, help="column of the pairs' scores")
    rows.add_argument("--label-column", type=int, help="column of class indices")
    rows.add_argument("--joint", action="store_true", help="a pair makes one row, not two")
    rows.add_argument("--length", type=int, help="ids in a row (default: the longest)")
    rows.add_argument("--rows", type=int, help="read so many lines (default: all)")
    rows.add_argument("--skip", type=int, default=0, help="leave out so many lines (a heading)")
    rows.add_argument("--inputs", type=input_names, default=list(INPUTS),
                      help="arrays to write, those that the model takes")
    rows.set_defaults(run=run_rows)

    for command in (stream, rows):
        command.add_argument("-o", "--output", type=Path, required=True)
        command.add_argument("--tokenizer", type=Path, required=True)
    return result


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        print(arguments.run(arguments))
    except (TokenizeError, OSError, UnicodeError) as error:
        print(f"tokenize_text: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
