"""Makes the image, array and tensor fixtures of this folder with PIL, numpy and PyTorch.

Run it with `python tests/data/make_fixtures.py`; the result is committed, so that the tests need no
Python. The images are synthetic (gradients and seeded noise).
  images/<name>.{jpg,png}   the input
  golden/<name>.npy         uint8 [height, width, 3], PIL's Image.open(f).convert("RGB")
  resized/<case>.npy         uint8, PIL resize and torchvision crop of resized/<case>.png
  arrays/                   files of numpy.save, numpy.savez, torch.save, torch.jit.save
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

HERE = Path(__file__).parent / "fixtures"
RNG = np.random.default_rng(20260101)
HEIGHT, WIDTH = 21, 27


def photo(height: int, width: int) -> np.ndarray:
    """A smooth colour gradient with noise and hard edges, uint8 [height, width, 3]."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([x * 255 / width, y * 255 / height, (x + y) * 255 / (height + width)], -1)
    image += RNG.normal(0, 12, image.shape)
    image[height // 4 : height // 2, width // 3 : width // 2] = [250, 3, 128]
    image[:, width // 5] = 255
    return np.clip(image, 0, 255).astype(np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(
        ">I", zlib.crc32(kind + data)
    )


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
         (0, 1, 1, 2)]


def pack_row(row: np.ndarray, depth: int) -> bytes:
    """Samples of one row [width * channels] -> PNG bytes (filter type 0 in front)."""
    if depth == 16:
        return b"\0" + row.astype(">u2").tobytes()
    if depth == 8:
        return b"\0" + row.astype(np.uint8).tobytes()
    bits = ((row[:, None] >> np.arange(depth - 1, -1, -1)) & 1).astype(np.uint8)
    return b"\0" + np.packbits(bits.reshape(-1)).tobytes()


def write_png(name: str, samples: np.ndarray, depth: int, color: int, extra: bytes = b"",
              interlaced: bool = False) -> None:
    """PIL cannot write every PNG that it reads, so the file is made by hand. [h, w, channels]."""
    height, width, _ = samples.shape
    raw = b""
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    for x0, y0, dx, dy in passes:
        part = samples[y0::dy, x0::dx]
        if part.size:
            raw += b"".join(pack_row(row.reshape(-1), depth) for row in part)
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, int(interlaced))
    (HERE / "images" / f"{name}.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra
        + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")
    )


def make_png() -> None:
    def noise(high: int, channels: int) -> np.ndarray:
        return RNG.integers(0, high, (HEIGHT, WIDTH, channels))

    for interlaced in (False, True):
        suffix = "_interlaced" if interlaced else ""
        write_png(f"rgb8{suffix}", photo(HEIGHT, WIDTH), 8, 2, interlaced=interlaced)
        for depth in (1, 2, 4, 8, 16):
            write_png(f"gray{depth}{suffix}", noise(2**depth, 1), depth, 0, interlaced=interlaced)
        palette = chunk(b"PLTE", RNG.integers(0, 256, 48, dtype=np.uint8).tobytes())
        write_png(f"palette4{suffix}", noise(16, 1), 4, 3, palette, interlaced)
    palette = chunk(b"PLTE", RNG.integers(0, 256, 600, dtype=np.uint8).tobytes())
    alpha = chunk(b"tRNS", RNG.integers(0, 256, 200, dtype=np.uint8).tobytes())
    for depth in (1, 2):
        write_png(f"palette{depth}", noise(2**depth, 1), depth, 3, chunk(
            b"PLTE", RNG.integers(0, 256, 3 * 2**depth, dtype=np.uint8).tobytes()))
    write_png("palette8_trns", noise(200, 1), 8, 3, palette + alpha)
    write_png("palette8_out_of_range", noise(256, 1), 8, 3, palette)
    write_png("gray8_trns", noise(256, 1), 8, 0, chunk(b"tRNS", struct.pack(">H", 17)))
    write_png("gray16_small", noise(400, 1), 16, 0)
    write_png("gray16_trns", noise(65536, 1), 16, 0, chunk(b"tRNS", struct.pack(">H", 17)))
    write_png("rgb8_trns", noise(256, 3), 8, 2, chunk(b"tRNS", struct.pack(">HHH", 1, 2, 3)))
    write_png("rgb16", noise(65536, 3), 16, 2)
    write_png("gray_alpha8", noise(256, 2), 8, 4)
    write_png("gray_alpha16", noise(65536, 2), 16, 4)
    write_png("rgba8", noise(256, 4), 8, 6)
    write_png("rgba8_interlaced", noise(256, 4), 8, 6, interlaced=True)
    write_png("rgba16", noise(65536, 4), 16, 6)
    gamma = chunk(b"gAMA", struct.pack(">I", 100000))
    write_png("rgb8_gamma", photo(HEIGHT, WIDTH), 8, 2, gamma)
    write_png("one_pixel", noise(256, 3)[:1, :1], 8, 2)


def make_jpeg() -> None:
    pixels = photo(HEIGHT, WIDTH)
    rgb = Image.fromarray(pixels)
    folder = HERE / "images"
    for subsampling, name in ((0, "444"), (1, "422"), (2, "420")):
        rgb.save(folder / f"jpeg_{name}.jpg", quality=88, subsampling=subsampling)
    rgb.save(folder / "jpeg_progressive.jpg", quality=80, progressive=True)
    rgb.save(folder / "jpeg_restart.jpg", quality=80, restart_marker_blocks=2)
    rgb.convert("L").save(folder / "jpeg_gray.jpg", quality=85)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated: to be ignored
    rgb.save(folder / "jpeg_exif_rotated.jpg", quality=85, exif=exif)
    rgb.save(folder / "jpeg_rgb_adobe.jpg", quality=85, keep_rgb=True)
    cmyk = Image.fromarray(RNG.integers(0, 256, (HEIGHT, WIDTH, 4), dtype=np.uint8), "CMYK")
    smooth = cmyk.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    smooth.save(folder / "jpeg_cmyk.jpg", quality=90)
    make_ycck(folder / "jpeg_ycck.jpg")


def make_ycck(path: Path) -> None:
    """PIL writes no YCCK. The Adobe marker of a CMYK file decides how decoders read it, so setting
    its transform byte to 2 turns the four components into Y, Cb, Cr, K."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    parts = np.stack([60 + 4 * x, 128 + 3 * (y - 10), 128 + 3 * (x - 13), 20 + 9 * y], -1)
    image = Image.fromarray(np.clip(parts, 0, 255).astype(np.uint8), "CMYK")
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=92)
    data = bytearray(buffer.getvalue())
    marker = data.index(b"Adobe")
    data[marker + 11] = 2
    path.write_bytes(bytes(data))


def make_golden() -> None:
    for path in sorted((HERE / "images").iterdir()):
        with Image.open(path) as image:
            np.save(HERE / "golden" / f"{path.stem}.npy", np.asarray(image.convert("RGB")))


# name, source size (height, width), resize, mode, filter, crop (height, width)
CASES = [
    ("down_bicubic", (61, 83), 32, "shorter", "bicubic", (28, 28)),
    ("down_bilinear", (61, 83), 32, "shorter", "bilinear", (28, 28)),
    ("down_tall_bicubic", (97, 41), 23, "shorter", "bicubic", (20, 19)),
    ("up_bicubic", (13, 17), 40, "shorter", "bicubic", (36, 36)),
    ("up_bilinear", (13, 17), 40, "shorter", "bilinear", (35, 35)),
    ("exact_bicubic", (41, 53), 24, "exact", "bicubic", (0, 0)),
    ("exact_bilinear", (31, 43), 50, "exact", "bilinear", (0, 0)),
    ("one_axis", (32, 83), 32, "exact", "bicubic", (0, 0)),
    ("strong_reduction", (70, 90), 4, "shorter", "bicubic", (4, 5)),
    ("padded", (20, 40), 20, "shorter", "bicubic", (25, 31)),
    ("crop_only", (30, 45), 0, "shorter", "bicubic", (23, 24)),
    ("half_to_even", (24, 33), 24, "shorter", "bicubic", (19, 20)),
]


def center_crop(image: Image.Image, height: int, width: int) -> Image.Image:
    """torchvision.transforms.functional.center_crop on a PIL image."""
    if width > image.width or height > image.height:
        left = (width - image.width) // 2 if width > image.width else 0
        top = (height - image.height) // 2 if height > image.height else 0
        padded = Image.new("RGB", (max(image.width, width), max(image.height, height)))
        padded.paste(image, (left, top))
        image = padded
    top = int(round((image.height - height) / 2.0))
    left = int(round((image.width - width) / 2.0))
    return image.crop((left, top, left + width, top + height))


def make_resized() -> None:
    for name, (height, width), resize, mode, interpolation, crop in CASES:
        image = Image.fromarray(photo(height, width))
        image.save(HERE / "resized" / f"{name}.png", optimize=True)
        if resize:
            short, long = min(width, height), max(width, height)
            other = int(resize * long / short)
            size = (resize, other) if width <= height else (other, resize)
            if mode == "exact":
                size = (resize, resize)
            image = image.resize(size, getattr(Image.Resampling, interpolation.upper()))
        if crop[0]:
            image = center_crop(image, *crop)
        np.save(HERE / "resized" / f"{name}.npy", np.asarray(image))
        if name == "down_bicubic":
            np.save(HERE / "resized" / f"{name}_gray.npy", np.asarray(image.convert("L")))


class Holder(torch.nn.Module):
    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def forward(self) -> int:
        return 0


def make_arrays() -> None:
    folder = HERE / "arrays"
    base = np.arange(24).reshape(2, 3, 4)
    for dtype in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"):
        np.save(folder / f"c_{dtype.replace('?', 'bool')}.npy", (base % 2 if dtype == "?" else base)
                .astype(dtype))
    np.save(folder / "fortran.npy", np.asfortranarray(base.astype("f4")))
    np.save(folder / "scalar.npy", np.float32(2.5))
    np.save(folder / "big_endian.npy", base.astype(">f4"))
    np.save(folder / "complex.npy", base.astype("c8"))
    np.save(folder / "object.npy", np.array([{}, None]), allow_pickle=True)
    np.save(folder / "structured.npy", np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]))
    np.save(folder / "unsigned_limits.npy", np.array([0, 2**31, 2**32 - 1], dtype="u4"))
    np.save(folder / "too_large_unsigned.npy", np.array([2**63], dtype="u8"))
    for version in ((2, 0), (3, 0)):
        with open(folder / f"version{version[0]}.npy", "wb") as file:
            np.lib.format.write_array(file, base.astype("f4"), version=version)
    np.savez(folder / "stored.npz", pixels=base.astype("f4"), ids=base.astype("i8"))
    np.savez_compressed(folder / "deflated.npz", pixels=base.astype("f4"), y=np.array([4, 2]))
    np.savez(folder / "positional.npz", base.astype("f4"), base.astype("i8"))

    tensor = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    torch.save(tensor, folder / "tensor.pt")
    torch.save(tensor.transpose(0, 2)[1:], folder / "view.pt")
    torch.save([tensor, tensor.long()], folder / "list.pt")
    torch.save((tensor, tensor.bool()), folder / "tuple.pt")
    torch.save({"pixels": tensor, "labels": torch.tensor([5, 6])}, folder / "dict.pt")
    torch.save(torch.nn.Parameter(tensor), folder / "parameter.pt")
    torch.save({"pixels": tensor, "note": "text"}, folder / "dict_with_text.pt")
    torch.save(tensor, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({"a": {"b": tensor}}, folder / "nested.pt")
    holder = Holder({"pixels": tensor, "ids": tensor.long()})
    torch.jit.script(holder).save(str(folder / "module.pt"))
    holder.inner = Holder({"weight": tensor})
    torch.jit.script(holder).save(str(folder / "model.pt"))
    preset = {
        "schema_version": 1, "resize": 9, "resize_mode": "shorter", "interpolation": "bilinear",
        "crop": [8, 8], "mean": [0.5] * 3, "std": [0.25] * 3, "color": "rgb",
    }
    torch.jit.save(torch.jit.script(Holder({"pixels": tensor})), folder / "module_with_preset.pt",
                   _extra_files={"preprocess.json": json.dumps(preset)})

    # Files that lie. The pickle of tensor.pt names 24 elements in shape (2, 3, 4).
    with zipfile.ZipFile(folder / "tensor.pt") as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    write_zip(folder / "forged_storage.pt", {**entries, "tensor/data/0": bytes(24)})
    pickle = entries["tensor/data.pkl"]
    larger = pickle.replace(b"K\x02K\x03K\x04\x87", b"K\xffK\xffK\xff\x87")
    assert larger != pickle
    write_zip(folder / "forged_shape.pt", {**entries, "tensor/data.pkl": larger})
    write_zip(folder / "code.pt", {**entries, "tensor/data.pkl": b"cos\nsystem\n(S'true'\ntR."})


def write_zip(path: Path, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name), data)


def main() -> None:
    for folder in ("images", "golden", "resized", "arrays"):
        (HERE / folder).mkdir(parents=True, exist_ok=True)
        for old in (HERE / folder).iterdir():
            old.unlink()
    make_png()
    make_jpeg()
    make_golden()
    make_resized()
    make_arrays()
    total = sum(path.stat().st_size for path in HERE.rglob("*") if path.is_file())
    print(f"{total} bytes of fixtures in {HERE}")


if __name__ == "__main__":
    main()
