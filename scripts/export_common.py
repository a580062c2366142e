"""What the export scripts share: errors, torchvision's shim, seeded weights, saving, comparison,
and decoders that take and give back keys and values."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NMS_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
CACHE_FILE = "cache.json"
TOLERANCE = 1e-4  # relative to the largest output; an export and its source differ by rounding only


class ExportError(Exception):
    """A problem the user can act on; printed without a traceback."""


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns what a library raises on a model that it cannot build or trace into one sentence."""
    try:
        yield
    except (ExportError, OSError):
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ExportError(f"{what}: {reason[:300]}") from error


def import_torchvision() -> None:
    """Imports torchvision, with its two missing operators declared where they are missing."""
    import torch

    declared = None
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        # torchvision's compiled library does not fit the CPU build of torch, and importing
        # the rest fails while it registers fake kernels for operators without a schema.
        declared = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            declared.define(f"{name}{NMS_SCHEMA}")
        import torchvision
    if declared is not None:
        torchvision.repquant_schemas = declared  # the schemas live as long as this object


def seeded_weights(model: Any, seed: int) -> None:
    """Replaces constant-initialised tensors by seeded random values.

    Libraries start biases at 0, norms at 1 and layer scales at 1e-5; such a model hides errors in
    exactly the parts that a structural test should see.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in model.named_parameters():
            if parameter.numel() > 1 and torch.all(parameter == parameter.flatten()[0]):
                center = 1.0 if float(parameter.flatten()[0]) != 0.0 else 0.0
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(center + 0.1 * noise)


def check_output_path(output: Path, force: bool) -> None:
    """Raises ExportError if `output` cannot be written."""
    if output.exists() and not force:
        raise ExportError(f"output exists: {output} (use --force to replace it)")
    if not output.parent.is_dir():
        raise ExportError(f"folder of the output does not exist: {output.parent}")


def tensors_of(output: Any) -> list[Any]:
    """The tensors of a model's output (tensor, tuple, list or dictionary), in order."""
    if isinstance(output, dict):
        return [tensor for item in output.values() for tensor in tensors_of(item)]
    if isinstance(output, (tuple, list)):
        return [tensor for item in output for tensor in tensors_of(item)]
    return [output]


def deviation(model: Any, exported: Any, inputs: tuple[Any, ...], what: str) -> float:
    """Largest difference of the outputs, relative to the largest output.

    Raises ExportError if `exported` fails, differs in shape or by more than TOLERANCE; `what`
    names the inputs in the message.
    """
    expected = tensors_of(model(*inputs))
    try:
        got = tensors_of(exported(*inputs))
    except RuntimeError as error:
        last = str(error).strip().splitlines()[-1]
        raise ExportError(f"the export does not run at {what}: {last}") from error
    worst = 0.0
    for left, right in zip(expected, got, strict=True):
        if left.shape != right.shape:
            raise ExportError(f"output shape at {what}: expected {tuple(left.shape)}, "
                              f"got {tuple(right.shape)}")
        scale = max(float(left.abs().max()), 1e-12)
        worst = max(worst, float((left - right).abs().max()) / scale)
    if not worst <= TOLERANCE:  # also true for NaN
        raise ExportError(
            f"the export differs from the eager model by {worst:.2e} of the largest output at "
            f"{what} (allowed {TOLERANCE:.0e}); try the other of trace and --script"
        )
    return worst


def cache_file(shapes: list[list[int]]) -> dict[str, bytes]:
    """The extra file by which `repquant` knows the keys and values of a decoder.

    `shapes`: of each tensor for one sample, 0 where the tokens count: [heads, 0, width]. They are the
    last inputs of forward(), empty before the first token, and its last outputs.
    """
    return {CACHE_FILE: json.dumps({"schema_version": 1, "past": shapes}).encode()}


def random_past(shapes: list[list[int]], batch: int, tokens: int, generator: Any) -> list[Any]:
    """Keys and values of `tokens` tokens."""
    import torch

    return [torch.randn([batch, *(size or tokens for size in shape)], generator=generator)
            for shape in shapes]


def check_continued(exported: Any, logits: Any, ids: Any, shapes: list[list[int]]) -> float:
    """Largest difference from `logits` of the whole text when it is read in three calls, relative to
    the largest logit. Raises ExportError above TOLERANCE."""
    import torch

    past = random_past(shapes, ids.shape[0], 0, None)
    parts = []
    for part in ids[:, :-4], ids[:, -4:-1], ids[:, -1:]:
        found, past = exported(part, past)
        parts.append(found)
    difference = (torch.cat(parts, 1) - logits).abs().max() / logits.abs().max()
    if not float(difference) <= TOLERANCE:
        raise ExportError(
            f"with keys and values kept the logits differ by {float(difference):.2e} of the largest "
            f"from those of the whole text (allowed {TOLERANCE:.0e}): the model reads more of the past "
            "than its keys and values")
    return float(difference)


def convert(model: Any, example: tuple[Any, ...], script: bool) -> Any:
    """The model as TorchScript, traced on `example` or scripted."""
    import torch

    with warnings.catch_warnings(), torch.no_grad():
        # torch.jit announces its deprecation on every call, tracing warns on shape asserts; the
        # comparison with the eager model is what decides whether the export is right.
        warnings.simplefilter("ignore")
        if script:
            return torch.jit.script(model)
        return torch.jit.trace(model, example, check_trace=False, strict=False)


def save_checked(module: Any, output: Path, extra_files: dict[str, bytes],
                 check: Callable[[Any], float]) -> float:
    """Saves `module`, reloads it, and gives the file its name only if `check` of it passes.

    Returns what `check` returns. The file is written beside the output, so that the last step is a
    rename, and under the output's own name, because the archive's inner folder is called after it.
    """
    import torch

    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export_") as folder:
        temporary = Path(folder) / output.name
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.jit.save(module, str(temporary), _extra_files=extra_files)
            result = check(torch.jit.load(str(temporary)))
        os.replace(temporary, output)
    return result
