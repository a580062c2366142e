"""SIGKILL at random times and while files get their names: the same command again gives the same
files, byte for byte, and nothing else is left.

REPQUANT_KILLS: kills in all (default 6, a short check); REPQUANT_KILL_SEED. A table of what was
killed where goes to stderr.
"""

from __future__ import annotations

import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import program
from program import BINARY, DIGITS_CALIB, DIGITS_MODEL, DIGITS_TEST, support

KILLS = int(os.environ.get("REPQUANT_KILLS", "6"))
SEED = int(os.environ.get("REPQUANT_KILL_SEED", "1"))
SLOWEST = 3600  # seconds: a long table runs in the background, where seconds become minutes
FAST = ["--calib-samples", "4", "--effort", "fast", "--clipping", "minmax", "--threads", "1",
        "--exclude", "blocks.[123].*"]

PLAN = {
    "schema_version": 1, "output": "out", "bits": ["w8a8", "w4a4"],
    "models": [{"name": "digits", "model": str(DIGITS_MODEL),
                "calib": {"data": str(DIGITS_CALIB), "samples": 4},
                "set": {"effort": "fast", "norm.clipping": "minmax", "exclude": "blocks.[123].*"},
                "evaluate": {"data": str(DIGITS_TEST), "samples": 8, "batch_size": 8}}],
}

COMMANDS = {
    "quantize": ["quantize", str(DIGITS_MODEL), "--bits", "w4a4", "--calib", str(DIGITS_CALIB),
                 "-o", "out.pt", "--workdir", "work", "--resume", "--hold-back", "0", *FAST],
    "run": ["run", "plan.json", "--markdown", "out.md", "--threads", "1"],
    "analyze": ["analyze", str(DIGITS_MODEL), "--bits", "w4a4", "--calib", str(DIGITS_CALIB),
                "-o", "recipe.json", "--candidates", "w4a4,w8a8", *FAST],
}

# Files, under their temporary names too; a kill follows within milliseconds of one that is there.
COMMITS = {"quantize": [".out.pt.*", "out.pt", "work/.site_*", "work/site_0003*"],
           "run": ["out/.*.pt.*", "out/*.pt", "out/.*.json.*", "out/*.json", ".out.md.*", "out.md"],
           "analyze": [".recipe.json.*", "recipe.json"]}


def without_times(value: object) -> object:
    """Outcomes of `run` say how long something took, too."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items()
                if not any(word in key for word in ("second", "memory", "time"))}
    if isinstance(value, list):
        return [without_times(item) for item in value]
    return value


def files_of(folder: Path) -> dict[str, object]:
    """Every file below `folder`: its bytes, or of an outcome what does not depend on the clock. The
    summary of `run` has times in its text: only that it is there counts."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        name = str(path.relative_to(folder))
        content: object = path.read_bytes()
        if path.suffix == ".json" and path.parent.name == "out":
            content = without_times(json.loads(path.read_text()))
        found[name] = None if path.suffix == ".md" else content
    return found


class KillTest(program.ProgramTest):
    def setUp(self) -> None:
        super().setUp()
        self.random = random.Random(SEED)
        self.table: collections.Counter[tuple[str, str]] = collections.Counter()

    def fresh_folder(self) -> Path:
        folder = self.folder / "case"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "plan.json").write_text(json.dumps(PLAN))
        return folder

    def start(self, command: str, folder: Path) -> subprocess.Popen[bytes]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("REPQUANT_")}
        return subprocess.Popen([str(BINARY), *COMMANDS[command]], cwd=folder, env=environment,
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def finish(self, command: str, folder: Path) -> float:
        start = time.monotonic()
        process = self.start(command, folder)
        _, errors = process.communicate(timeout=SLOWEST)
        if b"there are no checkpoints" in errors:
            self.fail(errors.decode())
        self.assertEqual(process.returncode, 0, errors.decode())
        return time.monotonic() - start

    def kill_somewhere(self, command: str, folder: Path, seconds: float) -> str:
        """Starts and kills; says where the kill was meant to be and what it met."""
        process = self.start(command, folder)
        if self.random.random() < 0.5:
            place = "any time"
            try:
                process.wait(timeout=self.random.uniform(0.05, 1.0) * seconds)
            except subprocess.TimeoutExpired:
                pass
        else:
            place = "commit"
            pattern = self.random.choice(COMMITS[command])
            while process.poll() is None and not any(folder.glob(pattern)):
                time.sleep(0.0005)
            time.sleep(self.random.uniform(0.0, 0.02))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return place if process.returncode == -signal.SIGKILL else "already ended"

    def test_the_same_files_after_a_kill(self) -> None:
        expected, seconds = {}, {}
        for command in COMMANDS:
            folder = self.fresh_folder()
            seconds[command] = self.finish(command, folder)
            expected[command] = files_of(folder)
        killed = tries = 0
        while killed < KILLS and tries < 3 * KILLS:
            command = list(COMMANDS)[tries % len(COMMANDS)]
            tries += 1
            folder = self.fresh_folder()
            place = self.kill_somewhere(command, folder, seconds[command])
            self.table[command, place] += 1
            if place == "already ended":
                continue
            killed += 1
            with self.subTest(command=command, place=place, number=tries):
                if command != "run":  # what was written before the kill is not to be written again
                    for name in ("out.pt", "recipe.json"):
                        (folder / name).unlink(missing_ok=True)
                self.finish(command, folder)
                found = files_of(folder)
                self.assertEqual(sorted(found), sorted(expected[command]))
                for name, content in found.items():
                    self.assertTrue(content == expected[command][name], f"{name} differs")
                print(f"{killed} {command}, {place}: the same", file=sys.stderr, flush=True)
        for (command, place), count in sorted(self.table.items()):
            print(f"{command:10} {place:14} {count}", file=sys.stderr)
        self.assertEqual(killed, KILLS)


if __name__ == "__main__":
    support.main()
