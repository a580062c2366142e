#!/usr/bin/env python3
"""Exports a timm transformer as a TorchScript file that `repquant quantize` reads.

The file holds the model in eval mode (traced, or scripted with --script) with fused attention
kept as `scaled_dot_product_attention`, and the preprocessing preset as the extra file
"preprocess.json", so that quantize and evaluate prepare images as the model expects.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

import export_common
from export_common import ExportError

EXTRA_FILE = "preprocess.json"

INSTALL_HELP = """\
Needed packages, in a virtual environment that has torch==2.13.0:
  pip install --no-deps timm==1.0.31 torchvision==0.28.0
  pip install -r scripts/requirements-export.txt
The first command must carry --no-deps: both packages depend on torch, and pip would replace
the CPU build by one of several gigabytes. torchvision's own operators are not needed.

Examples:
  export_timm.py --model vit_tiny_patch16_224 --checkpoint vit_tiny.pth --output vit_tiny.pt
  export_timm.py --model deit_small_patch16_224 --seed 0 --output deit_small.pt --script
"""


def import_timm() -> Any:
    """Imports timm, and torchvision before it."""
    try:
        export_common.import_torchvision()
        import timm
        import timm.data
        import timm.layers
    except ImportError as error:
        raise ExportError(f"timm cannot be imported ({error}).\n{INSTALL_HELP}") from error
    return timm


def preprocess_preset(config: dict[str, Any]) -> dict[str, Any]:
    """Turns timm's data config into the preset that repquant stores (schema version 1).

    Follows timm.data.transforms_factory.transforms_imagenet_eval: the shorter side is scaled to
    floor(input / crop_pct), then the centre is cropped.
    """
    channels, height, width = config["input_size"]
    if channels != 3:
        raise ExportError(f"the preset describes RGB images, the model takes {channels} channels")
    if config.get("crop_mode", "center") != "center":
        raise ExportError(
            f"crop_mode {config['crop_mode']!r} of this model cannot be expressed in the preset; "
            "pass --crop-mode center to use shorter-side resize and centre crop instead"
        )
    if height != width:
        raise ExportError(f"the preset needs a square input, the model takes {height}x{width}")
    interpolation = config["interpolation"]
    if interpolation not in ("bicubic", "bilinear"):
        raise ExportError(f"interpolation {interpolation!r} is not one of bicubic, bilinear")
    return {
        "schema_version": 1,
        "resize": math.floor(height / (config["crop_pct"] or 0.875)),
        "resize_mode": "shorter",
        "interpolation": interpolation,
        "crop": [height, width],
        "mean": [float(value) for value in config["mean"]],
        "std": [float(value) for value in config["std"]],
        "color": "rgb",
    }


def load_checkpoint(model: Any, path: Path) -> None:
    """Loads a plain or wrapped state dict strictly (.pth, .pt, .bin or .safetensors)."""
    import torch

    if not path.is_file():
        raise ExportError(f"checkpoint not found: {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(str(path))
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, pickle and zip errors all arrive here
        raise ExportError(f"cannot read checkpoint {path}: {error}") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    try:
        model.load_state_dict(state, strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ExportError(f"checkpoint {path} does not fit the model: {error}") from error


def model_arguments(items: list[str]) -> dict[str, Any]:
    """What --model-arg says, by key."""
    arguments: dict[str, Any] = {}
    for item in items:
        key, separator, value = item.partition("=")
        if not separator:
            raise ExportError(f"--model-arg expects KEY=VALUE, got {item!r}")
        try:
            arguments[key] = json.loads(value)
        except json.JSONDecodeError:
            arguments[key] = value
    return arguments


def build_model(timm: Any, args: argparse.Namespace) -> Any:
    import torch

    timm.layers.set_fused_attn(True)
    torch.manual_seed(args.seed or 0)
    kwargs: dict[str, Any] = {"pretrained": args.pretrained, "scriptable": args.script}
    if args.num_classes is not None:
        kwargs["num_classes"] = args.num_classes
    kwargs.update(model_arguments(args.model_arg))
    if not timm.is_model(args.model):
        import difflib

        near = difflib.get_close_matches(args.model, timm.list_models(), n=3)
        hint = f"; nearest names: {', '.join(near)}" if near else ""
        raise ExportError(f"timm has no model {args.model!r}{hint}")
    model = timm.create_model(args.model, **kwargs)
    if args.checkpoint is not None:
        load_checkpoint(model, args.checkpoint)
    elif args.seed is not None:
        export_common.seeded_weights(model, args.seed)
    return model.eval().requires_grad_(False)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=INSTALL_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", required=True, help="timm model name")
    parser.add_argument("--output", required=True, type=Path, help="TorchScript file to write")
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument("--checkpoint", type=Path, help="state dict (.pth, .safetensors)")
    weights.add_argument("--pretrained", action="store_true", help="weights from timm's hub")
    weights.add_argument(
        "--seed", type=int, help="random weights with this seed: for structure and speed only"
    )
    parser.add_argument("--script", action="store_true", help="torch.jit.script instead of trace")
    parser.add_argument(
        "--batch-size-example", type=int, default=2, metavar="N",
        help="batch size of the tracing example (default 2; 1 can bake the size into the graph)",
    )
    parser.add_argument("--num-classes", type=int, help="override the number of classes")
    parser.add_argument(
        "--model-arg", action="append", default=[], metavar="KEY=VALUE",
        help="further argument of timm.create_model, value in JSON; may be repeated",
    )
    parser.add_argument("--crop-mode", choices=["center"], help="override timm's crop mode")
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    return parser.parse_args(argv)


def export(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the file; returns the summary that main prints."""
    export_common.check_output_path(args.output, args.force)
    if args.batch_size_example < 1:
        raise ExportError("--batch-size-example must be at least 1")
    timm = import_timm()
    import torch

    with export_common.explained(f"timm cannot build {args.model}"):
        model = build_model(timm, args)
    # The configuration of the weights does not know that the model was built for another size.
    size = model_arguments(args.model_arg).get("img_size")
    sizes = {"img_size": size} if isinstance(size, int) else {}
    config = timm.data.resolve_data_config(sizes, model=model)
    if args.crop_mode:
        config["crop_mode"] = args.crop_mode
    preset = preprocess_preset(config)
    shape = tuple(config["input_size"])
    generator = torch.Generator().manual_seed(0)
    example = torch.randn((args.batch_size_example, *shape), generator=generator)
    way = "scripted (without --script it is traced)" if args.script else "traced (try --script)"
    with export_common.explained(f"{args.model} cannot be {way}"):
        module = export_common.convert(model, (example,), args.script)
    batches = [1, args.batch_size_example + 1]

    def check(reloaded: Any) -> float:
        seeded = torch.Generator().manual_seed(1)
        return max(export_common.deviation(
            model, reloaded, (torch.randn((batch, *shape), generator=seeded),),
            f"batch size {batch}") for batch in batches)

    deviation = export_common.save_checked(
        module, args.output, {EXTRA_FILE: json.dumps(preset).encode()}, check)
    return {
        "output": str(args.output),
        "bytes": args.output.stat().st_size,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "form": "script" if args.script else "trace",
        "checked_batches": batches,
        "deviation": deviation,
        "preprocess": preset,
    }


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        print(json.dumps(export(args), indent=2))
    except ExportError as error:
        print(f"export_timm.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"export_timm.py: {error}", file=sys.stderr)
        return 5
    return 0


if __name__ == "__main__":
    sys.exit(main())
