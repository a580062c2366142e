"""Runs the repquant program and looks at what it says: exit code, both streams, files left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))

import support  # noqa: E402

BINARY = support.binary()
MODELS = support.FIXTURES / "models"
IMAGES = support.ROOT / "tests" / "data" / "fixtures" / "images"
DIGITS_MODEL = support.DIGITS / "digits_vit.pt"
DIGITS_CALIB = support.DIGITS / "digits_calib.npz"
DIGITS_TEST = support.DIGITS / "digits_test.npz"

PRESET = {
    "schema_version": 1, "resize": 16, "resize_mode": "exact", "interpolation": "bilinear",
    "crop": [16, 16], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "color": "rgb",
}


@unittest.skipIf(BINARY is None, "repquant has not been built; set REPQUANT_BINARY")
class ProgramTest(unittest.TestCase):
    """Each test gets an empty folder of its own."""

    def setUp(self) -> None:
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def run_program(
        self, *arguments: object, environment: dict[str, str] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        variables = {
            key: value for key, value in os.environ.items() if not key.startswith("REPQUANT_")
        }
        variables["COLUMNS"] = "200"  # whatever the terminal of the tests
        variables.update(environment or {})
        return subprocess.run(
            [str(BINARY), *map(str, arguments)], capture_output=True, text=True, check=False,
            timeout=300, env=variables, cwd=self.folder, **options,
        )

    def succeed(self, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        done = self.run_program(*arguments, **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def result(self, *arguments: object, **options: Any) -> dict[str, Any]:
        """The JSON object of a run that succeeds."""
        parsed = json.loads(self.succeed(*arguments, "--json", **options).stdout)
        self.assertEqual(parsed["schema_version"], 1)
        return parsed

    def fails(
        self, code: int, message: str, *arguments: object, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """A run that ends with `code` and says `message`, without trace, result or new files."""
        before = self.files()
        done = self.run_program(*arguments, **options)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertIn("error: ", done.stderr)
        self.assertIn(message, done.stderr)
        for noise in ("Traceback", "frame #", "Exception raised from", "terminate called"):
            self.assertNotIn(noise, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertEqual(self.files(), before, "files were left behind or changed")
        return done

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*")) if path.is_file()
        }

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path
