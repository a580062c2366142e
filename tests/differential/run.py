#!/usr/bin/env python3
"""Differential test over random transformers, drawn by models.py and checked by check.py.

    run.py --seeds 0:100                 these seeds; failures on stdout, exit code 1
    run.py --seeds 17 --keep --folder F  one seed, its model, data and artifact kept in F
    run.py --seeds 0:3000 --jobs 2 --report findings.jsonl --minutes 60

The program is REPQUANT_BINARY or build/release/repquant; the fused form needs REPQUANT_LIBRARY or
the library of the same build.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
for folder in (Path(__file__).resolve().parent, ROOT / "python"):
    sys.path.insert(0, str(folder))


def seed_range(text: str) -> range:
    first, colon, last = text.partition(":")
    return range(int(first), int(last)) if colon else range(int(first), int(first) + 1)


def prepare(program: Path, folder: Path, keep: bool) -> None:
    global setup
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    library = program.parent / "src" / "runtime" / "librepquant_loader.so"
    if "REPQUANT_LIBRARY" not in os.environ and library.is_file():
        os.environ["REPQUANT_LIBRARY"] = str(library)
    load = None
    if os.environ.get("REPQUANT_LIBRARY"):
        import repquant

        load = repquant.load
    setup = (program, folder, load, keep)


def run_seed(seed: int) -> dict:
    import check

    program, folder, load, keep = setup
    try:
        result = check.check(seed, program, folder, load, keep)
    except (
        Exception
    ) as error:  # the test's own mistakes are findings, too: a seed must not get lost
        result = check.Result(
            spec=f"seed {seed}", findings=[f"{type(error).__name__}: {error}"[:400]]
        )
    return {"seed": seed, **dataclasses.asdict(result)}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=seed_range, default=range(100), metavar="FIRST:LAST")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument(
        "--minutes", type=float, default=0, help="stop drawing new seeds after this long"
    )
    parser.add_argument("--report", type=Path, help="JSON Lines, one for each seed")
    parser.add_argument(
        "--folder", type=Path, help="for models and artifacts; those of failures stay"
    )
    parser.add_argument("--keep", action="store_true", help="keep all of them")
    args = parser.parse_args()
    program = Path(os.environ.get("REPQUANT_BINARY", ROOT / "build" / "release" / "repquant"))
    if not program.is_file():
        print(f"{program} has not been built", file=sys.stderr)
        return 77
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed", file=sys.stderr)
        return 77
    folder = args.folder or Path(tempfile.mkdtemp(prefix="repquant-differential-"))
    folder.mkdir(parents=True, exist_ok=True)
    started, done, failed = time.monotonic(), 0, []
    report = args.report.open("w", encoding="utf-8") if args.report else None
    context = multiprocessing.get_context("spawn")
    # PyTorch keeps what it traced for as long as a process lives.
    with context.Pool(
        args.jobs, prepare, (program, folder, args.keep), maxtasksperchild=100
    ) as pool:
        for result in pool.imap(run_seed, args.seeds):
            done += 1
            if report:
                print(json.dumps(result), file=report, flush=True)
            if result["findings"]:
                failed.append(result["seed"])
                print(
                    result["spec"], result["command"], *result["findings"], sep="\n    ", flush=True
                )
            if args.minutes and time.monotonic() - started > 60 * args.minutes:
                pool.terminate()
                break
    if not failed:
        print(f"{done} random transformers, none with findings")
        return 0
    print(f"{done} random transformers, {len(failed)} with findings: {failed}")
    print(f"models, data and artifacts of these are in {folder}; one of them again:")
    print(f"    tests/differential/run.py --seeds {failed[0]} --folder {folder}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
