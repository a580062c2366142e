#!/usr/bin/env python3
"""Draws the latencies of `repquant benchmark --json` or of compare_runtimes.py --json and prints
them as a Markdown table.

    repquant benchmark model.pt model.w8a8.pt --form portable,fused --json ... > model.json
    plot_latency.py model.json [OTHER.json ...] --output docs/images/latency.svg

Each file becomes one panel: speed-up over its first model by batch size, with the 95 % interval.
The table has the median times. The plot needs matplotlib (scripts/requirements-plot.txt); without
--output only the table is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

KNOWN_SCHEMAS = {"benchmark": 1, "compare_runtimes": 2}
# Colour-blind safe (Okabe and Ito), one for each form, hatched for the second artifact and on.
COLOURS = {"float": "#7f7f7f", "portable": "#56b4e9", "fused": "#0072b2", "rival": "#e69f00"}
HATCHES = ("", "///", "...", "xxx")


class PlotError(Exception):
    """A problem the user can act on; printed without a traceback."""


def read_result(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlotError(f"cannot read {path}: {error}") from error
    known = KNOWN_SCHEMAS.get(result.get("command")) if isinstance(result, dict) else None
    if known is None:
        raise PlotError(f"{path} is not the output of repquant benchmark --json "
                        "or of compare_runtimes.py --json")
    if result.get("schema_version") != known:
        raise PlotError(f"{path} has schema version {result.get('schema_version')}, "
                        f"expected {known}")
    if not result["rows"]:
        raise PlotError(f"{path} holds no measurements")
    return as_benchmark(result) if result["command"] == "compare_runtimes" else result


def as_benchmark(compared: dict[str, Any]) -> dict[str, Any]:
    """A comparison of runtimes in the form of a benchmark: a contender is a model in a form."""
    rows, files = [], {}
    for row in compared["rows"]:
        file, _, form = row["contender"].rpartition(" ")
        if row["contender"] == "fp32":
            file, form = compared["model"], "float"
        elif form not in ("portable", "fused"):
            file, form = row["contender"], "rival"
        rows.append(row | {"model": file, "form": form})
        files[file] = row["file_bytes"]
    return compared | {"rows": rows, "models": [
        {"path": path, "file_bytes": size} for path, size in files.items()]}


def label_of(row: dict[str, Any], baseline: str) -> str:
    """"w8a8 fused" of model.w8a8.pt beside the baseline model.pt."""
    stem = Path(row["model"]).stem
    base = Path(baseline).stem
    if row["model"] == baseline and row["form"] == "float":
        return "FP32"
    if row["form"] == "rival":
        return row["model"]
    short = stem[len(base) + 1:] if stem.startswith(base + ".") else stem
    return short if row["form"] == "float" else f"{short} {row['form']}"


def batch_sizes(result: dict[str, Any]) -> list[int]:
    return sorted({row["batch_size"] for row in result["rows"]})


def series_of(result: dict[str, Any]) -> dict[str, dict[int, dict[str, Any]]]:
    """Label -> batch size -> row, in the order of the file."""
    baseline = result["rows"][0]["model"]
    series: dict[str, dict[int, dict[str, Any]]] = {}
    for row in result["rows"]:
        series.setdefault(label_of(row, baseline), {})[row["batch_size"]] = row
    return series


def size_text(count: int | None) -> str:
    if count is None:
        return "-"
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def table(results: list[dict[str, Any]]) -> str:
    sizes = sorted({size for result in results for size in batch_sizes(result)})
    header = ["model", "form", "file"]
    for size in sizes:
        header += [f"batch {size}, ms", "speed-up"]
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    for result in results:
        files = {model["path"]: model["file_bytes"] for model in result["models"]}
        for label, rows in series_of(result).items():
            first = next(iter(rows.values()))
            cells = [Path(result["rows"][0]["model"]).stem if first["form"] == "float" else "",
                     label, size_text(files[first["model"]])]
            for size in sizes:
                row = rows.get(size)
                cells += ([f"{1e3 * row['seconds']['median']:.1f}",
                           f"{row['speed_up']['median']:.2f}x"] if row else ["-", "-"])
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def hatch_of(label: str, labels: list[str]) -> str:
    names = list(dict.fromkeys(item.rsplit(" ", 1)[0] for item in labels if " " in item))
    name = label.rsplit(" ", 1)[0]
    return HATCHES[names.index(name) % len(HATCHES)] if name in names else ""


def draw_panel(axes: Any, result: dict[str, Any]) -> None:
    series, sizes = series_of(result), batch_sizes(result)
    labels, width = list(series), 0.8 / len(series)
    for k, (label, rows) in enumerate(series.items()):
        present = [(i, rows[size]) for i, size in enumerate(sizes) if size in rows]
        middle = [row["speed_up"]["median"] for _, row in present]
        ends = [row["speed_up"]["interval95"] for _, row in present]
        errors = [[max(0.0, m - low) for m, (low, _) in zip(middle, ends)],
                  [max(0.0, high - m) for m, (_, high) in zip(middle, ends)]]
        places = [i + (k - (len(series) - 1) / 2) * width for i, _ in present]
        form = present[0][1]["form"]
        bars = axes.bar(places, middle, 0.92 * width, yerr=errors, label=label, capsize=2,
                        color=COLOURS[form], edgecolor="white", hatch=hatch_of(label, labels),
                        error_kw={"elinewidth": 0.8})
        axes.bar_label(bars, [f"{m:.1f}x" for m in middle], padding=2, fontsize=7)
    axes.set_xticks(range(len(sizes)), [f"batch {size}" for size in sizes])
    axes.set_title(Path(result["rows"][0]["model"]).stem, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.12)


def draw(results: list[dict[str, Any]], output: Path) -> None:
    try:
        import matplotlib
    except ImportError as error:
        raise PlotError(f"{error}; install scripts/requirements-plot.txt") from error
    matplotlib.use("svg")
    # The same input gives the same bytes: text as text, fixed identifiers, no date.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "repquant",
                                "font.family": "sans-serif", "font.size": 9})
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(results), sharey=True, squeeze=False,
                                     figsize=(4.2 * len(results), 3.2), layout="constrained")
    for axes, result in zip(panels[0], results):
        draw_panel(axes, result)
    threads = results[0]["threads"]
    panels[0][0].set_ylabel(f"speed-up over FP32, {threads} thread{'s' if threads > 1 else ''}")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5),
                  frameon=False, fontsize=8)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, metadata={"Date": None})
    pyplot.close(figure)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="files of benchmark --json")
    parser.add_argument("--output", type=Path, metavar="SVG")
    args = parser.parse_args(argv)
    try:
        results = [read_result(path) for path in args.results]
        if args.output is not None:
            draw(results, args.output)
    except PlotError as error:
        print(f"plot_latency: error: {error}", file=sys.stderr)
        return 1
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
