#!/usr/bin/env python3
"""Joins images and texts to one .npz, to calibrate a model of two towers such as CLIP.

  pair_arrays.py IMAGES TEXTS.npz -o calib.npz --preprocess clip.pt.preprocess.json [--samples N]

IMAGES is a folder with class folders of images, of which N are taken at even distances. TEXTS.npz holds the
text inputs, one row for each text; they are taken in turn. The images are prepared as `repquant`
prepares them and stored as `pixel_values` (--name changes that).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import pil_preprocess


def join(args: argparse.Namespace) -> int:
    """Writes the file; returns the number of pairs. Raises ValueError for unusable input."""
    preset = pil_preprocess.read_preset(args.preprocess)
    files = [path for path, _ in pil_preprocess.list_images(args.images)]
    if not files:
        raise ValueError(f"{args.images}: no images in class folders")
    with np.load(args.texts) as archive:
        texts = {name: archive[name] for name in archive.files}
    if not texts or min(len(rows) for rows in texts.values()) == 0:
        raise ValueError(f"{args.texts}: no text")
    if args.name in texts or len({len(rows) for rows in texts.values()}) != 1:
        raise ValueError(f"{args.texts}: expected text inputs of one length, got "
                         f"{ {name: rows.shape for name, rows in texts.items()} }")
    count = min(args.samples or len(files), len(files))
    chosen = [files[i * len(files) // count] for i in range(count)]
    images = np.stack([pil_preprocess.load_image(path, preset) for path in chosen])
    rows = np.arange(count) % len(next(iter(texts.values())))
    np.savez(args.output, **{args.name: images}, **{name: all_[rows] for name, all_ in texts.items()})
    return count


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--output", "-o", type=Path, required=True)
    parser.add_argument("--preprocess", type=Path, required=True)
    parser.add_argument("--samples", type=int, help="number of pairs (default: all images)")
    parser.add_argument("--name", default="pixel_values", help="the model's image input")
    args = parser.parse_args(argv)
    try:
        print(f"{args.output}: {join(args)} pairs")
    except ValueError as error:
        print(f"pair_arrays.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"pair_arrays.py: {error}", file=sys.stderr)
        return 5
    return 0


if __name__ == "__main__":
    sys.exit(main())
