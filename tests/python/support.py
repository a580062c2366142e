"""Shared by the Python tests: paths, and a main that tells ctest when all was skipped."""

from __future__ import annotations

import os
import sys
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPTS = ROOT / "scripts"
FIXTURES = ROOT / "tests" / "fixtures"
DIGITS = ROOT / "examples" / "digits"
ALL_SKIPPED = 77

for folder in (SCRIPTS, FIXTURES):
    sys.path.insert(0, str(folder))


def binary() -> Path | None:
    """The repquant program named by REPQUANT_BINARY, if it has been built."""
    path = Path(os.environ.get("REPQUANT_BINARY", ROOT / "build" / "release" / "repquant"))
    return path if path.is_file() else None


def main() -> None:
    # torch.jit announces its deprecation on every call.
    result = unittest.main(exit=False, verbosity=2, warnings="ignore").result
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(ALL_SKIPPED if len(result.skipped) == result.testsRun else 0)
