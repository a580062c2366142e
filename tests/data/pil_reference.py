"""Preprocesses images with PIL for photographs_test.cpp.

Usage: pil_reference.py PRESET.json LIST OUTPUT_DIR
Writes <index>.npy, uint8 [height, width, 3], for each image path of the list (one a line).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import numpy as np  # noqa: E402
import pil_preprocess  # noqa: E402
from PIL import Image  # noqa: E402


def main() -> None:
    preset = pil_preprocess.read_preset(Path(sys.argv[1]))
    images = Path(sys.argv[2]).read_text(encoding="utf-8").splitlines()
    for index, path in enumerate(images):
        with Image.open(path) as image:
            pixels = np.asarray(pil_preprocess.resize_and_crop(image, preset))
        np.save(Path(sys.argv[3]) / f"{index}.npy", pixels)


if __name__ == "__main__":
    main()
