"""Files that were forged: each ends in one message and an exit code, in every command that loads
them, and never in a signal."""

from __future__ import annotations

import json
import pickletools
import re
import struct
import subprocess
import tempfile
import unittest
import zipfile
from pathlib import Path
from typing import Any, Callable

from program import DIGITS_CALIB, DIGITS_MODEL, DIGITS_TEST, support

UNSUPPORTED, FILE = 4, 5
Edit = Callable[[str, bytes], bytes]


def rewrite(source: Path, target: Path, edit: Edit) -> None:
    """The archive with each entry's bytes as `edit` gives them; names are without the folder."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, edit(name.split("/", 1)[1], old.read(name)))


def of_description(change: Callable[[dict[str, Any]], None]) -> Edit:
    """The edit of an artifact whose description `change` changes in place."""
    def edit(name: str, data: bytes) -> bytes:
        if name != "extra/repquant.json":
            return data
        description = json.loads(data)
        change(description)
        return json.dumps(description).encode()

    return edit


def with_integer_before_training(data: bytes, kind: str, value: int) -> bytes:
    """The pickle with another last integer in the state of the first object of a class."""
    ops = list(pickletools.genops(data))
    first = next(i for i, (op, argument, _) in enumerate(ops)
                 if op.name == "GLOBAL" and argument == f"__torch__.repquant {kind}")
    for i in range(first, len(ops) - 2):
        names = [op.name for op, _, _ in ops[i:i + 3]]
        if names[0].startswith("BININT") and names[1:] == ["NEWFALSE", "TUPLE"]:
            begin, end = ops[i][2], ops[i + 1][2]
            return data[:begin] + b"\x8a\x08" + struct.pack("<q", value) + data[end:]
    raise AssertionError(f"no integer at the end of {kind}")


@unittest.skipUnless(support.binary(), "needs the repquant program")
class HostileTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = Path(cls.temporary.name)
        cls.artifact = cls.folder / "digits.pt"
        done = cls.program("quantize", DIGITS_MODEL, "--bits", "w4a4", "--calib", DIGITS_CALIB,
                           "--calib-samples", "8", "-o", cls.artifact)
        assert done.returncode == 0, done.stderr

    @classmethod
    def tearDownClass(cls) -> None:
        cls.temporary.cleanup()

    @classmethod
    def program(cls, *arguments: object) -> subprocess.CompletedProcess:
        return subprocess.run([str(support.binary()), *map(str, arguments)], capture_output=True,
                              text=True, timeout=300)

    def refused(self, source: Path, code: int, message: str, edit: Edit) -> None:
        forged = self.folder / "forged.pt"
        rewrite(source, forged, edit)
        for command in (["inspect", forged], ["evaluate", forged, "--data", DIGITS_TEST],
                        ["quantize", forged, "--calib", DIGITS_CALIB, "-o", self.folder / "o.pt"]):
            if command[0] == "quantize" and source == self.artifact:
                continue  # an artifact is refused for being one
            done = self.program(*command)
            self.assertEqual(done.returncode, code, (command[0], done.stderr))
            self.assertIn(message, done.stderr)

    def test_unchanged(self) -> None:
        same = self.folder / "same.pt"
        rewrite(self.artifact, same, lambda _, data: data)
        self.assertEqual(self.program("inspect", same).returncode, 0)

    def test_storages_shorter_than_claimed(self) -> None:
        for source in (self.artifact, DIGITS_MODEL):
            for size in (0, 1):
                self.refused(source, FILE, "another size",
                             lambda name, data: data[:size] if name.startswith("data/") else data)

    def test_a_changed_bit_of_a_weight(self) -> None:
        """A file that was damaged on its way: LibTorch does not compare checksums."""
        for source in (self.artifact, DIGITS_MODEL):
            damaged = self.folder / "damaged.pt"
            with zipfile.ZipFile(source) as archive:
                largest = max((entry for entry in archive.infolist() if "/data/" in entry.filename),
                              key=lambda entry: entry.file_size)
            data = bytearray(Path(source).read_bytes())
            data[largest.header_offset + largest.file_size // 2] ^= 1
            damaged.write_bytes(data)
            commands = [["inspect", damaged],
                        ["evaluate", damaged, "--data", DIGITS_TEST],
                        ["benchmark", damaged, "--input-shape", "1,8,8"],
                        ["evaluate", DIGITS_MODEL, "--reference", damaged, "--data", DIGITS_TEST]]
            if source == self.artifact:
                commands.append(["evaluate", damaged, "--data", DIGITS_TEST, "--form", "fused"])
            else:
                commands.append(["quantize", damaged, "--calib", DIGITS_CALIB, "-o",
                                 self.folder / "o.pt"])
            for command in commands:
                done = self.program(*command)
                self.assertEqual(done.returncode, FILE, (command, done.stderr))
                self.assertIn(largest.filename, done.stderr)
                self.assertIn("CRC", done.stderr)

    def test_stored_numbers_out_of_range(self) -> None:
        for value in (1 << 32, -1, 256):
            self.refused(self.artifact, FILE, "Attend.output_max_code",
                         lambda name, data: with_integer_before_training(data, "Attend", value)
                         if name == "data.pkl" else data)

    def test_code_that_fails_while_it_is_loaded(self) -> None:
        """What TorchScript's interpreter throws is no error of LibTorch's own kind."""
        forged = self.folder / "forged.pt"
        rewrite(self.artifact, forged, lambda name, data: re.sub(
            rb"qlinear_prepack\(torch\.contiguous\((\w+)\)", rb"qlinear_prepack(torch.to(\1, 6)",
            data) if name.endswith(".py") else data)
        for command in (["inspect", forged],
                        ["evaluate", forged, "--data", DIGITS_TEST, "--form", "portable"],
                        ["evaluate", forged, "--data", DIGITS_TEST, "--form", "fused"]):
            done = self.program(*command)
            if "fused" in command:  # it packs weights itself
                self.assertEqual(done.returncode, 0, done.stderr)
                continue
            self.assertEqual(done.returncode, FILE, (command, done.stderr))
            self.assertIn("Weight should be of type int8", done.stderr)

    def test_archive_versions_that_are_no_numbers(self) -> None:
        for text in (b"9" * 21, b"x", b"", b"-3"):
            self.refused(DIGITS_MODEL, FILE, "version",
                         lambda name, data: text if name.endswith("version") else data)

    def test_memo_keys_that_take_gigabytes(self) -> None:
        bomb = b"r" + struct.pack("<I", 0xFFFFFFF0)
        for source in (self.artifact, DIGITS_MODEL):
            self.refused(source, FILE, "memo key",
                         lambda name, data: data[:-1] + bomb + data[-1:] if name == "data.pkl"
                         else data)

    def test_code_that_is_nested_too_deeply(self) -> None:
        deep = b"def f() -> int:\n  return " + b"(" * 20000 + b"1" + b")" * 20000 + b"\n"
        chain = b"def f() -> int:\n  return 1" + b"+1" * 20000 + b"\n"
        comment = b"def f(x):\n  # type: (" + b"List[" * 20000 + b"int" + b"]" * 20000 + b") -> int\n"
        comments, blank = b"  # nothing\n" * 30000, b"\n" * 100000
        for text in (deep, chain, comment, comments, blank):
            self.refused(DIGITS_MODEL, FILE, "nested too deeply",
                         lambda name, data: data + text if name.endswith(".py") else data)

    def test_operators_that_reach_files(self) -> None:
        for line in (b'torch.save(1, "f")', b'ops.aten.save(1, "f")', b'x = torch.from_file("f")',
                     b'x.save("f")', b"t = torch", b"t = ops.aten", b'(x).\\\n  save("f")',
                     b"ops.c10d.barrier(x)", b"ops.prim.rpc_async(x)",
                     b'ops.repquant.call("quantize", "{}")',
                     b'getattr(x, "save")("f")', b'getattr(x, "sa" "ve")("f")',
                     b'getattr(x, "sa\\166e")("f")', b"g = getattr"):
            text = b"def f(x: Tensor) -> None:\n  " + line + b"\n"
            self.refused(DIGITS_MODEL, UNSUPPORTED, "does not need",
                         lambda name, data: data + text if name.endswith(".py") else data)

    def test_trusted_code_may(self) -> None:
        """Through every command, from the model to the file that is made of it."""
        text = b'def f(x: Tensor) -> Tensor:\n  return torch._reshape_alias(x, [1], [1])\n'
        model, artifact = self.folder / "trusted.pt", self.folder / "trusted.w8a8.pt"
        rewrite(DIGITS_MODEL, model,
                lambda name, data: data + text if name.endswith(".py") else data)
        plan = self.folder / "plan.json"
        plan.write_text(json.dumps({
            "schema_version": 1, "models": [{"model": str(model), "calib": {
                "data": str(DIGITS_CALIB), "samples": 8}, "bits": ["w8a8"],
                "evaluate": {"data": str(DIGITS_TEST), "samples": 16}}]}))
        rewrite(self.artifact, artifact,
                lambda name, data: data + text if name.endswith(".py") else data)
        both = ("--form", "portable,fused")
        for command in (("quantize", model, "--calib", DIGITS_CALIB, "--calib-samples", 8, "-o",
                         self.folder / "o.pt"),
                        ("analyze", model, "--calib", DIGITS_CALIB, "--calib-samples", 8),
                        ("inspect", model, "--data", DIGITS_CALIB),
                        ("inspect", artifact), ("inspect", artifact, "--runtime"),
                        ("evaluate", artifact, "--reference", model, *both, "--data", DIGITS_TEST,
                         "--samples", 16),
                        ("benchmark", model, artifact, *both, "--data", DIGITS_TEST, "--rounds", 1),
                        ("verify", artifact),
                        ("run", plan, "-o", self.folder / "rows")):
            with self.subTest(command[0]):
                done = self.program(*command)
                self.assertNotEqual(done.returncode, 0, done.stdout)
                self.assertIn("_reshape_alias", done.stderr + done.stdout)
                if command[0] != "verify":  # a claim that does not hold has no hint
                    self.assertIn("--trust", done.stderr + done.stdout)
                done = self.program(*command, "--trust")
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_operators_that_crash_while_constants_are_folded(self) -> None:
        for line in (b'x = torch.segment_reduce(x, "sum", unsafe=True)',
                     b"x = torch.sparse_csr_tensor(x, x, x, [1, 1])",
                     b"x = torch.sparse_compressed_tensor(x, x, x, [1, 1])"):
            text = b"def f(x: Tensor) -> Tensor:\n  " + line + b"\n  return x\n"
            self.refused(DIGITS_MODEL, UNSUPPORTED, "does not need",
                         lambda name, data: data + text if name.endswith(".py") else data)

    def test_code_that_is_too_long(self) -> None:
        long = b"def f(x: Tensor) -> Tensor:\n" + b"  x = x + 1\n" * 200000 + b"  return x\n"
        self.refused(DIGITS_MODEL, FILE, "too long to be compiled",
                     lambda name, data: data + long if name.endswith(".py") else data)

    def test_descriptions_out_of_bounds(self) -> None:
        def refused(message: str, change: Callable[[dict], None]) -> None:
            forged = self.folder / "forged.pt"
            rewrite(self.artifact, forged, of_description(change))
            for command in (["inspect", forged],
                            ["evaluate", forged, "--form", "fused", "--data", DIGITS_TEST]):
                done = self.program(*command)
                self.assertEqual(done.returncode, FILE, (command[0], done.stderr))
                self.assertIn(message, done.stderr)

        def negative(description: dict) -> None:
            description["sites"][0]["weight_bits"] = -1

        def huge(description: dict) -> None:
            description["sites"] *= 2000

        refused("bits out of range", negative)
        refused("too large", huge)

    def test_names_do_not_steer_the_terminal(self) -> None:
        path = self.folder / "a\x1b]0;owned\x07.pt"
        for command in (["inspect", path], ["quantize", path, "--calib", DIGITS_CALIB]):
            done = self.program(*command)
            self.assertEqual(done.returncode, FILE)
            self.assertNotIn("\x1b", done.stderr)
            self.assertIn("\\x1b]0;owned\\x07", done.stderr)
        rewrite(self.artifact, path, lambda _, data: data)
        done = self.program("inspect", path)
        self.assertEqual(done.returncode, 0)
        self.assertNotIn("\x1b", done.stdout)

    def test_comments_are_no_code(self) -> None:
        text = b'# torch.save("f")\n'
        same = self.folder / "same.pt"
        rewrite(self.artifact, same,
                lambda name, data: text + data if name.endswith(".py") else data)
        self.assertEqual(self.program("inspect", same).returncode, 0)


if __name__ == "__main__":
    support.main()
