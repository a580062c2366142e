#!/usr/bin/env python3
"""Prints which share of the processor's measured peaks the fused operators reach.

    cmake --preset release -DREPQUANT_BENCHMARKS=ON && cmake --build --preset release --target bench_ops
    scripts/peak_share.py [build/release/bench_ops]

Byte products are compared with a loop of vpdpbusd on registers, few-row products with a plain read
of as many bytes. The benchmarks run interleaved, and medians are taken.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys


def medians(program: str) -> dict[str, dict]:
    command = [program, "--benchmark_format=json", "--benchmark_repetitions=7",
               "--benchmark_min_time=0.05", "--benchmark_enable_random_interleaving=true",
               "--benchmark_report_aggregates_only=true"]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    runs = json.loads(text)["benchmarks"]
    failed = [run["name"] for run in runs if run.get("error_occurred")]
    if failed:
        sys.exit("failed: " + ", ".join(failed))
    return {run["run_name"]: run for run in runs if run.get("aggregate_name") == "median"}


def main() -> None:
    runs = medians(sys.argv[1] if len(sys.argv) > 1 else "build/release/bench_ops")
    peak = runs["peak_vpdpbusd"]["macs"]
    reads = {4: runs["peak_read/22544384"]["weight_bytes"],
             8: runs["peak_read/45088768"]["weight_bytes"]}
    print(f"vpdpbusd {2e-9 * peak:.0f} GOP/s, read {reads[4] * 1e-9:.1f} GB/s (22.5 MB), "
          f"{reads[8] * 1e-9:.1f} GB/s (45 MB)")
    for name, run in runs.items():
        if name.startswith("peak"):
            continue
        line = f"{name:74s} {run['real_time'] * 1e-3:9.1f} us"
        if "macs" in run:
            line += f"  {100 * run['macs'] / peak:5.1f} % of vpdpbusd"
        few = re.search(r"rows:(\d+)/channels:4096/columns:11008/bits:(\d)", name)
        if few:
            line += f"  {100 * run['weight_bytes'] / reads[int(few[2])]:5.1f} % of reading"
        if name.startswith("fused_linear/"):
            stock = runs[name.replace("fused", "stock")]["real_time"]
            line += f"  {stock / run['real_time']:5.2f}x stock"
        print(line)


if __name__ == "__main__":
    main()
