"""Image preprocessing with PIL, written against the preset that repquant stores.

An independent second implementation: used to check `repquant evaluate`, never by it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

INTERPOLATION = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def read_preset(path: Path) -> dict[str, Any]:
    """Reads a preset from a JSON file."""
    return check_preset(json.loads(path.read_text(encoding="utf-8")), str(path))


def check_preset(preset: Any, where: str) -> dict[str, Any]:
    """Returns the preset if it has the known schema, else raises ValueError."""
    expected = {
        "schema_version", "resize", "resize_mode", "interpolation", "crop", "mean", "std", "color",
    }
    if not isinstance(preset, dict) or set(preset) != expected:
        raise ValueError(f"{where}: a preset has exactly the keys {sorted(expected)}")
    if preset["schema_version"] != 1:
        raise ValueError(f"{where}: schema_version {preset['schema_version']!r}, expected 1")
    if preset["resize_mode"] != "shorter" or preset["color"] != "rgb":
        raise ValueError(f"{where}: only resize_mode 'shorter' and color 'rgb' are known")
    if preset["interpolation"] not in INTERPOLATION:
        raise ValueError(f"{where}: interpolation must be one of {sorted(INTERPOLATION)}")
    return preset


def resize_and_crop(image: Image.Image, preset: dict[str, Any]) -> Image.Image:
    """RGB image -> resized and centre-cropped RGB image (8 bits, [height, width] = crop).

    The arithmetic is torchvision's: the longer side truncates, the crop offset rounds half to
    even.
    """
    image = image.convert("RGB")
    width, height = image.size
    short = preset["resize"]
    if width <= height:
        size = (short, int(short * height / width))
    else:
        size = (int(short * width / height), short)
    if size != image.size:
        image = image.resize(size, INTERPOLATION[preset["interpolation"]])
    crop_height, crop_width = preset["crop"]
    top = int(round((image.height - crop_height) / 2.0))
    left = int(round((image.width - crop_width) / 2.0))
    if top < 0 or left < 0:
        raise ValueError(f"crop {preset['crop']} is larger than the resized image {size}")
    return image.crop((left, top, left + crop_width, top + crop_height))


def to_array(image: Image.Image, preset: dict[str, Any]) -> np.ndarray:
    """8-bit RGB image -> float32 [3, height, width], (x / 255 - mean) / std per channel."""
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255.0)
    mean = np.asarray(preset["mean"], dtype=np.float32)
    std = np.asarray(preset["std"], dtype=np.float32)
    return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1))


def load_image(path: Path, preset: dict[str, Any]) -> np.ndarray:
    """Image file -> float32 [3, height, width] as the model takes it."""
    with Image.open(path) as image:
        return to_array(resize_and_crop(image, preset), preset)


def list_images(folder: Path) -> list[tuple[Path, str]]:
    """(file, class folder name) of every image in class folders, sorted by relative path."""
    found = [
        (path, path.relative_to(folder).parts[0])
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and len(path.relative_to(folder).parts) == 2
    ]
    return sorted(found, key=lambda item: item[0].relative_to(folder).as_posix())


def class_indices(folders: list[str], classes_file: Path | None) -> dict[str, int]:
    """Class folder name -> class index: from a tab-separated file (index, id, name), or sorted."""
    if classes_file is None:
        return {name: index for index, name in enumerate(sorted(set(folders)))}
    indices: dict[str, int] = {}
    for line in classes_file.read_text(encoding="utf-8").splitlines():
        if line.strip():
            index, identifier, *_ = line.split("\t")
            indices[identifier] = int(index)
    missing = sorted(set(folders) - set(indices))
    if missing:
        raise ValueError(f"{classes_file}: no line for class folders {missing[:5]}")
    return indices
