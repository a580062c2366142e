#!/usr/bin/env python3
"""Exports a model of the transformers library as a TorchScript file that `repquant` reads.

Weights come from a local folder (--model DIR with config.json and safetensors) or are seeded random
numbers for a configuration (--config FILE.json or a model type such as bert, gpt2, opt, llama, clip,
with --set KEY=VALUE). Inputs keep their names and are int64 unless said otherwise:

  --kind encoder   input_ids, attention_mask -> last hidden state [batch, tokens, width], or with
                   --pool mean|cls one vector per text, of unit length with --normalize
  --kind decoder   input_ids -> logits [batch, tokens, vocabulary]; with --cache also a list of the
                   keys and values of the tokens before, [batch, heads, tokens before, width] for each
                   layer one after the other -> logits and the list for the next call
  --kind seq2seq   input_ids, attention_mask, decoder_input_ids -> logits
  --kind clip      pixel_values float32, input_ids, attention_mask -> image and text embeddings, of
                   unit length, as a tuple
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import export_common
from export_common import ExportError

INSTALL_HELP = """\
Needed packages, in a virtual environment that has torch==2.13.0:
  pip install --no-deps transformers==5.24.0 tokenizers==0.23.3 regex==2026.11.19
  pip install -r scripts/requirements-export.txt

Examples:
  export_transformers.py --kind encoder --model all-MiniLM-L6-v2 --pool mean --normalize -o m.pt
  export_transformers.py --kind decoder --config gpt2 --set n_layer=4 --seed 0 -o gpt2.pt
  export_transformers.py --kind clip --config clip --seed 0 --output clip.pt
"""
KINDS = ("encoder", "decoder", "seq2seq", "clip")


def import_transformers() -> Any:
    """Imports transformers without its calls home and its notes about missing libraries."""
    import os

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        try:
            export_common.import_torchvision()
        except ImportError:
            pass  # only some models need it
        import transformers
        from transformers import AutoModel  # noqa: F401  (the package loads its parts on demand)
    except ImportError as error:
        raise ExportError(
            f"transformers cannot be imported ({error}).\n{INSTALL_HELP}") from error
    transformers.logging.set_verbosity_error()
    return transformers


def make_wrappers() -> dict[str, type]:
    """One module per kind: positional tensors in, tensors out."""
    import torch.nn.functional as F
    from torch import Tensor, nn

    class Encoder(nn.Module):
        def __init__(self, model: Any, pool: str, normalize: bool) -> None:
            super().__init__()
            self.model, self.pool, self.normalize = model, pool, normalize

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            y = self.model(input_ids=input_ids, attention_mask=attention_mask)[0]
            if self.pool == "mean":
                mask = attention_mask.unsqueeze(-1).to(y.dtype)
                y = (y * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            elif self.pool == "cls":
                y = y[:, 0]
            return F.normalize(y, dim=-1) if self.normalize else y

    class Decoder(nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Tensor) -> Tensor:
            return self.model(input_ids=input_ids, use_cache=False).logits

    class CachedDecoder(nn.Module):
        def __init__(self, model: Any, layers: int) -> None:
            super().__init__()
            self.model, self.layers = model, layers

        def forward(self, input_ids: Tensor,
                    past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
            from transformers.cache_utils import DynamicCache, DynamicLayer

            cache = DynamicCache()
            for i in range(self.layers):
                layer = DynamicLayer()
                layer.lazy_initialization(past[2 * i], past[2 * i + 1])
                layer.keys, layer.values = past[2 * i], past[2 * i + 1]
                cache.layers.append(layer)
            output = self.model(input_ids=input_ids, past_key_values=cache, use_cache=True)
            kept = output.past_key_values.layers
            return output.logits, [tensor for layer in kept for tensor in (layer.keys, layer.values)]

    class Seq2Seq(nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Tensor, attention_mask: Tensor,
                    decoder_input_ids: Tensor) -> Tensor:
            return self.model(input_ids=input_ids, attention_mask=attention_mask,
                              decoder_input_ids=decoder_input_ids, use_cache=False).logits

    class Clip(nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: Tensor, input_ids: Tensor,
                    attention_mask: Tensor) -> tuple[Tensor, Tensor]:
            output = self.model(pixel_values=pixel_values, input_ids=input_ids,
                                attention_mask=attention_mask)
            return output.image_embeds, output.text_embeds

    return {"encoder": Encoder, "decoder": Decoder, "cached": CachedDecoder, "seq2seq": Seq2Seq,
            "clip": Clip}


def past_shapes(model: Any) -> list[list[int]]:
    """Shapes of the keys and values of a decoder for one sample, 0 where the tokens count.

    Raises ExportError for a model that keeps anything else.
    """
    import torch

    kept = model(input_ids=torch.ones(1, 3, dtype=torch.long), use_cache=True).past_key_values
    tensors = [tensor for layer in getattr(kept, "layers", [])
               for tensor in (getattr(layer, "keys", None), getattr(layer, "values", None))]
    plain = [getattr(tensor, "ndim", 0) == 4 and tensor.shape[2] == 3 for tensor in tensors]
    if not tensors or not all(plain):
        raise ExportError("the model keeps other things than keys and values of all tokens; export "
                          "it without --cache")
    return [[tensor.shape[1], 0, tensor.shape[3]] for tensor in tensors]


def put(config: dict[str, Any], assignment: str) -> None:
    """Applies KEY=VALUE; a key with dots reaches into nested configurations."""
    path, separator, text = assignment.partition("=")
    if not separator:
        raise ExportError(f"--set expects KEY=VALUE, got {assignment!r}")
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    *parents, leaf = path.split(".")
    for parent in parents:
        config = config.setdefault(parent, {})
    config[leaf] = value


def read_config(transformers: Any, args: argparse.Namespace) -> Any:
    if args.config.endswith(".json"):
        if not Path(args.config).is_file():
            raise ExportError(f"configuration not found: {args.config}")
        with export_common.explained(f"{args.config} is no configuration"):
            settings = dict(json.loads(Path(args.config).read_text(encoding="utf-8")))
    else:
        settings = {"model_type": args.config}
    for assignment in args.set:
        put(settings, assignment)
    kind = settings.pop("model_type", None)
    with export_common.explained(f"configuration {args.config!r}"):
        return transformers.AutoConfig.for_model(kind, **settings)


def build_model(transformers: Any, args: argparse.Namespace) -> Any:
    """The library's model in eval mode with fused attention."""
    import torch

    auto = {"encoder": transformers.AutoModel, "decoder": transformers.AutoModelForCausalLM,
            "seq2seq": transformers.AutoModelForSeq2SeqLM, "clip": transformers.AutoModel}
    torch.manual_seed(args.seed)
    settings = {"attn_implementation": args.attention} if args.attention else {}
    if args.model is not None:
        if not (args.model / "config.json").is_file():
            raise ExportError(f"no config.json in {args.model}")
        try:
            model = auto[args.kind].from_pretrained(
                str(args.model), local_files_only=True, dtype=torch.float32, **settings)
        except (OSError, ValueError, RuntimeError) as error:
            raise ExportError(f"cannot load {args.model}: {error}") from error
    else:
        model = auto[args.kind].from_config(read_config(transformers, args), **settings)
        export_common.seeded_weights(model, args.seed)
    return model.float().eval().requires_grad_(False)


def example_inputs(config: Any, kind: str, batch: int, tokens: int, generator: Any) -> tuple:
    """Random inputs of a kind: ids, and masks in which texts have different lengths."""
    import torch

    text = getattr(config, "text_config", config)

    def ids(count: int) -> Any:
        values = torch.randint(3, text.vocab_size, (batch, count), generator=generator)
        if kind == "clip":  # the text tower reads its vector at the end token
            values[:, -1] = text.eos_token_id if text.eos_token_id is not None else 2
        return values

    lengths = torch.randint((tokens + 1) // 2, tokens + 1, (batch, 1), generator=generator)
    mask = (torch.arange(tokens)[None, :] < lengths).long()
    if kind == "encoder":
        return ids(tokens), mask
    if kind == "decoder":
        return (ids(tokens),)
    if kind == "seq2seq":
        return ids(tokens), mask, ids(max(tokens - 3, 1))
    vision = config.vision_config
    size = (batch, vision.num_channels, vision.image_size, vision.image_size)
    return torch.randn(size, generator=generator), ids(tokens), torch.ones_like(mask)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=INSTALL_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", required=True, choices=KINDS)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", type=Path, help="local folder with config.json and weights")
    source.add_argument("--config", help="configuration file, or a model type, for seeded weights")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="change of the configuration, value in JSON; may be repeated")
    parser.add_argument("--seed", type=int, default=0, help="seed of random weights (default 0)")
    parser.add_argument("--output", "-o", required=True, type=Path, help="file to write")
    parser.add_argument("--cache", action="store_true",
                        help="decoder: take and give back the keys and values of earlier tokens")
    parser.add_argument("--pool", choices=("none", "mean", "cls"), default="none",
                        help="encoder: one vector per text (default: none, all tokens)")
    parser.add_argument("--normalize", action="store_true", help="encoder: vectors of length 1")
    parser.add_argument("--attention", choices=("sdpa", "eager"),
                        help="how transformers spells attention (default: its own choice)")
    parser.add_argument("--tokens", type=int, default=16, metavar="N",
                        help="length of the tracing example (default 16)")
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    return parser.parse_args(argv)


def unsupported(args: argparse.Namespace) -> str:
    """The beginning of a sentence about a model that is none of its kind, or not of any."""
    inputs = {"encoder": "text encoders", "decoder": "decoders of text",
              "seq2seq": "text-to-text models", "clip": "pairs of an image and a text tower"}
    return (f"{args.model or args.config} cannot be exported with --kind {args.kind}, which is for "
            f"{inputs[args.kind]}")


def export(args: argparse.Namespace) -> dict[str, Any]:
    """Writes the file; returns the summary that main prints."""
    export_common.check_output_path(args.output, args.force)
    if args.tokens < 4:
        raise ExportError("--tokens must be at least 4")
    if args.cache and args.kind != "decoder":
        raise ExportError("--cache is for --kind decoder")
    transformers = import_transformers()
    import torch

    with export_common.explained(unsupported(args)):
        library_model = build_model(transformers, args)
    wrapper = make_wrappers()["cached" if args.cache else args.kind]
    shapes: list[list[int]] = []
    if args.cache:
        with export_common.explained(unsupported(args)):
            shapes = past_shapes(library_model)
    options = {"encoder": (args.pool, args.normalize),
               "decoder": (len(shapes) // 2,) if args.cache else ()}.get(args.kind, ())
    model = wrapper(library_model, *options).eval()
    generator = torch.Generator().manual_seed(0)

    def inputs(batch: int, tokens: int) -> tuple:
        example = example_inputs(library_model.config, args.kind, batch, tokens, generator)
        if not args.cache:
            return example
        return *example, export_common.random_past(shapes, batch, tokens // 4, generator)

    checked = [(1, args.tokens), (3, args.tokens), (2, args.tokens - 2)]

    def check(reloaded: Any) -> float:
        worst = max(export_common.deviation(model, reloaded, inputs(*size),
                                            f"batch size {size[0]}, {size[1]} tokens")
                    for size in checked)
        if args.cache:
            ids = inputs(2, args.tokens + 2)[0]
            whole = library_model(input_ids=ids, use_cache=False).logits
            worst = max(worst, export_common.check_continued(reloaded, whole, ids, shapes))
        return worst

    with export_common.explained(unsupported(args)):
        module = export_common.convert(model, inputs(2, args.tokens), script=False)
    extra_files = export_common.cache_file(shapes) if args.cache else {}
    worst = export_common.save_checked(module, args.output, extra_files, check)
    return {
        "output": str(args.output), "bytes": args.output.stat().st_size,
        "kind": args.kind, "model_type": library_model.config.model_type,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "inputs": [name for name in model.forward.__code__.co_varnames[
            1:model.forward.__code__.co_argcount]],
        "checked": checked, "deviation": worst,
    }


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        print(json.dumps(export(args), indent=2))
    except ExportError as error:
        print(f"export_transformers.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"export_transformers.py: {error}", file=sys.stderr)
        return 5
    return 0


if __name__ == "__main__":
    sys.exit(main())
