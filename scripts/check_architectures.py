#!/usr/bin/env python3
"""Quantizes seeded full-size models of real architectures and prints how well the files follow them.

Each model is exported from its library's definition with random weights, quantized with the built
program on a few random samples, loaded in stock PyTorch and compared with the FP32 file on other
samples. Random weights say nothing about accuracy: the table shows that the structure is found and
computed rightly. A wrong fold, mask or scale gives far less than 20 dB.

  check_architectures.py                    all models, w8a8, weights to nearest (quick)
  check_architectures.py bert gpt2 --gptq   these, with the default recipe

Needs the packages of scripts/export_transformers.py and scripts/export_timm.py.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests/fixtures")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import export_common  # noqa: E402
import export_timm  # noqa: E402
import export_transformers  # noqa: E402
from fixture import library_model, seed_weights  # noqa: E402

# Name -> kind, model type, settings; without settings the type's own size.
LIBRARY: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "bert": ("encoder", "bert", ()),
    "albert": ("encoder", "albert", ("hidden_size=768", "num_attention_heads=12",
                                     "intermediate_size=3072")),
    "gpt2": ("decoder", "gpt2", ()),
    "opt_pre_norm": ("decoder", "opt", ("hidden_size=768", "num_hidden_layers=12",
                                        "ffn_dim=3072", "num_attention_heads=12")),
    "opt_post_norm": ("decoder", "opt", ("hidden_size=768", "num_hidden_layers=12",
                                         "ffn_dim=3072", "num_attention_heads=12",
                                         "do_layer_norm_before=false")),
    "llama": ("decoder", "llama", ("hidden_size=1024", "num_hidden_layers=4",
                                   "intermediate_size=2816", "num_attention_heads=16",
                                   "num_key_value_heads=4", "vocab_size=8192")),
    "t5": ("seq2seq", "t5", ()),
    "clip": ("clip", "clip", ()),
}


class TorchEncoder(nn.Module):
    """Six layers of torch.nn, 512 wide, its fast path included."""

    def __init__(self, norm_first: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)


class DetrLike(nn.Module):
    """Convolutional backbone, encoder and decoder of torch.nn, object queries, two heads."""

    def __init__(self) -> None:
        super().__init__()
        width = 256
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 64, 7, stride=4, padding=3), nn.ReLU(),
            nn.Conv2d(64, width, 3, stride=4, padding=1), nn.ReLU())
        self.positions = nn.Parameter(torch.zeros(64, width))
        self.queries = nn.Parameter(torch.zeros(20, width))
        encoder = nn.TransformerEncoderLayer(width, 8, 1024, batch_first=True)
        decoder = nn.TransformerDecoderLayer(width, 8, 1024, batch_first=True)
        self.encoder = nn.TransformerEncoder(encoder, 3, enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(decoder, 3)
        self.classes, self.boxes = nn.Linear(width, 92), nn.Linear(width, 4)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.backbone(images).flatten(2).transpose(1, 2) + self.positions
        y = self.decoder(self.queries.expand(images.size(0), -1, -1), self.encoder(x))
        return self.classes(y), self.boxes(y).sigmoid()


def named_model(name: str, tokens: int) -> tuple[nn.Module, Any]:
    kind, config, settings = LIBRARY[name]
    wrapped, configuration = library_model(kind, config, settings)
    return wrapped, lambda batch, generator: export_transformers.example_inputs(
        configuration, kind, batch, tokens, generator)


def floats(*shape: int) -> Any:
    return lambda batch, generator: (torch.randn((batch, *shape), generator=generator),)


def make(name: str, tokens: int) -> tuple[nn.Module, Any]:
    """The model and a function (batch, generator) -> inputs."""
    if name in LIBRARY:
        return named_model(name, tokens)
    if name.startswith("torch_encoder"):
        return seed_weights(TorchEncoder(name.endswith("pre_norm")), 0), floats(tokens, 512)
    if name == "detr_like":
        return seed_weights(DetrLike(), 0), floats(3, 128, 128)
    timm = export_timm.import_timm()
    model, size = TIMM[name]
    return seed_weights(timm.create_model(model, img_size=size), 0), floats(3, size, size)


# Name -> timm's name, image size. 208 pixels make 52 x 52 patches: windows of 7 need padding.
TIMM = {
    "deit_s": ("deit_small_patch16_224", 224),
    "vit_b": ("vit_base_patch16_224", 224),
    "swin_t": ("swin_tiny_patch4_window7_224", 224),
    "swin_t_padded": ("swin_tiny_patch4_window7_224", 208),
}
NAMES = (*TIMM, *LIBRARY, "torch_encoder_pre_norm", "torch_encoder_post_norm", "detr_like")


def sqnr_db(expected: list[Tensor], got: list[Tensor]) -> float:
    """Over all outputs, each counted relative to its own energy."""
    noise = [float(((a - b).double() ** 2).sum() / (a.double() ** 2).sum())
             for a, b in zip(expected, got, strict=True)]
    return -10 * math.log10(max(noise)) if max(noise) > 0 else math.inf


def check(name: str, args: argparse.Namespace, folder: Path) -> list[str]:
    model, inputs = make(name, args.tokens)
    model = model.eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    path, data, output = (folder / f"{name}{end}" for end in (".pt", ".npz", ".q.pt"))
    torch.jit.save(export_common.convert(model, inputs(2, generator), script=False), str(path))
    samples = inputs(args.samples, generator)
    names = model.forward.__code__.co_varnames[1:1 + len(samples)]
    np.savez(data, **{key: item.numpy() for key, item in zip(names, samples, strict=True)})
    command = [str(args.program), "quantize", str(path), "--bits", args.bits, "--calib", str(data),
               "--calib-samples", str(args.samples), "--output", str(output), "--force", "--json",
               "--quiet", "--batch-size", "4"]
    if not args.gptq:
        command += ["--effort", "fast", "--set", "weights.rounding=nearest"]
    for setting in args.set:
        command += ["--set", setting]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - start
    parameters = f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.0f}"
    if done.returncode != 0:
        return [name, parameters, "-", "-", "-", "-", f"{seconds:.0f}",
                " ".join(done.stderr.split())[-300:]]
    result = json.loads(done.stdout)
    others = inputs(args.samples, torch.Generator().manual_seed(99))
    expected = export_common.tensors_of(torch.jit.load(str(path))(*others))
    got = export_common.tensors_of(torch.jit.load(str(output))(*others))
    measured = sqnr_db(expected, got)
    for file in (path, data, output):
        file.unlink()
    coverage = 100 * result["coverage"]["mac_share"]
    return [name, parameters, f"{coverage:.2f}", f"{result['output_sqnr_db']:.1f}",
            f"{measured:.1f}", f"{result['size_ratio']:.3f}", f"{seconds:.0f}",
            "ok" if measured > args.least_sqnr else f"BELOW {args.least_sqnr:g} dB"]


HEADER = ["model", "params M", "MACs %", "calib dB", "others dB", "size", "time s", "result"]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--program", type=Path, default=ROOT / "build/release/repquant")
    parser.add_argument("--bits", default="w8a8")
    parser.add_argument("--least-sqnr", type=float, default=20.0, metavar="DB",
                        help="on other samples than those of the calibration (default 20)")
    parser.add_argument("--samples", type=int, default=8, help="to calibrate, and to evaluate")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--gptq", action="store_true", help="the default recipe, slower")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args(argv)
    unknown = [name for name in args.names if name not in NAMES]
    if unknown:
        parser.error(f"unknown model {unknown[0]}")
    rows = []
    with tempfile.TemporaryDirectory() as folder, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in args.names or NAMES:
            rows.append(check(name, args, Path(folder)))
            print(" ".join(rows[-1]), file=sys.stderr, flush=True)
    widths = [max(len(row[i]) for row in [HEADER, *rows]) for i in range(len(HEADER))]
    for row in [HEADER, ["-" * width for width in widths], *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    return 0 if all(row[-1] == "ok" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
