"""What compare_runtimes.py lets run side by side: one model in several runtimes.

Inputs are a list of tensors in the order of forward(), dimension 0 the samples.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

EXPORT_DB = 60.0  # an exported float32 model differs from its source by rounding only
UNRELATED_DB = 0.0  # an error as large as the signal
OPSET = 20  # the first one with Gelu as one operator

Inputs = list[torch.Tensor]


class CompareError(Exception):
    """A problem the user can act on; printed without a traceback."""


@dataclass
class Contender:
    name: str
    run: Callable[[Inputs], torch.Tensor]
    least_db: float = UNRELATED_DB
    file_bytes: int | None = None
    quantize_seconds: float | None = None  # processor time, where this process has quantized
    sqnr_db: float = math.nan  # of samples that nothing was calibrated on
    seconds: list[float] = field(default_factory=list)


def first_tensor(outputs: Any) -> torch.Tensor:
    """The first tensor of a tensor, tuple, list or dict."""
    while not isinstance(outputs, torch.Tensor):
        outputs = next(iter(outputs.values() if isinstance(outputs, dict) else outputs))
    return outputs


def of_torch(name: str, module: Any, path: Path | None = None) -> Contender:
    return Contender(name, lambda inputs: first_tensor(module(*inputs)).float(),
                     file_bytes=path.stat().st_size if path else None)


def torch_contenders(path: Path, bf16: bool) -> list[Contender]:
    """The TorchScript file frozen, and the same in bfloat16."""
    found = [of_torch("fp32", torch.jit.freeze(torch.jit.load(str(path)).eval()), path)]
    if bf16:
        half = torch.jit.freeze(torch.jit.load(str(path)).eval().to(torch.bfloat16))
        found.append(of_torch("bf16", lambda *inputs: half(
            *[x.to(torch.bfloat16) if x.is_floating_point() else x for x in inputs])))
    return found


def artifact_contenders(path: Path) -> list[Contender]:
    """An artifact of repquant, with stock operators and fused."""
    import repquant

    return [of_torch(f"{path.name} portable", torch.jit.load(str(path)).eval(), path),
            of_torch(f"{path.name} fused", repquant.load(path), path)]


def onnx_session(onnxruntime: Any, path: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that wait actively would take time from the other contenders.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def onnx_contenders(path: Path, samples: Inputs, operators: list[str], threads: int,
                    folder: Path) -> list[Contender]:
    """The model's export, as it is and quantized by ONNX Runtime's own tools."""
    try:
        import onnxruntime
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise CompareError(f"{error}; install scripts/requirements-onnxruntime.txt, "
                           "or leave ONNX Runtime out with --no-onnx") from error
    names = [f"input{i}" if i else "input" for i in range(len(samples))]

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.next = 0

        def get_next(self) -> dict[str, np.ndarray] | None:
            i, self.next = self.next, self.next + 1
            return {name: x[i:i + 1].numpy() for name, x in zip(names, samples)
                    } if i < len(samples[0]) else None

    plain, prepared, quantized = (folder / f"{name}.onnx" for name in ("fp32", "pre", "int8"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a TorchScript module has no Python signature
        torch.onnx.export(torch.jit.load(str(path)).eval(), tuple(x[:2] for x in samples),
                          str(plain), dynamo=False, opset_version=OPSET, input_names=names,
                          output_names=["output"],
                          dynamic_axes={name: {0: "batch"} for name in [*names, "output"]})
    started = time.process_time()
    quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
    quantization.quantize_static(
        str(prepared), str(quantized), Reader(), quant_format=quantization.QuantFormat.QDQ,
        per_channel=True, activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8, op_types_to_quantize=operators or None)
    seconds = time.process_time() - started

    def contender(name: str, file: Path, least_db: float) -> Contender:
        runner = onnx_session(onnxruntime, file, threads)
        return Contender(name, lambda inputs: torch.from_numpy(runner.run(
            None, {name: x.numpy() for name, x in zip(names, inputs)})[0]), least_db,
            file_bytes=file.stat().st_size)

    int8 = contender("onnxruntime int8", quantized, UNRELATED_DB)
    int8.quantize_seconds = seconds
    return [contender("onnxruntime fp32", plain, EXPORT_DB), int8]


def openvino_contenders(path: Path, samples: Inputs, threads: int,
                        folder: Path) -> list[Contender]:
    """The model in OpenVINO, as it is and quantized by NNCF's static 8-bit method.

    NNCF needs to be told that the model is a transformer: without that ViT-Tiny loses everything.
    """
    try:
        import nncf
        import openvino
    except ImportError as error:
        raise CompareError(f"{error}; install scripts/requirements-openvino.txt, "
                           "or leave OpenVINO out with --no-openvino") from error

    def convert() -> Any:
        example = tuple(x[:1] for x in samples)
        model = openvino.convert_model(torch.jit.load(str(path)).eval(),
                                       example_input=example if len(example) > 1 else example[0])
        model.reshape({port: openvino.PartialShape([-1, *x.shape[1:]])
                       for port, x in zip(model.inputs, samples)})
        return model

    def contender(name: str, model: Any, least_db: float) -> Contender:
        file = folder / f"{name.replace(' ', '_')}.xml"
        openvino.save_model(model, file, compress_to_fp16=False)
        compiled = openvino.Core().compile_model(model, "CPU", {
            "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False})
        return Contender(name, lambda inputs: torch.from_numpy(
            compiled([x.numpy() for x in inputs])[0]), least_db,
            file_bytes=file.stat().st_size + file.with_suffix(".bin").stat().st_size)

    model = convert()
    plain = contender("openvino fp32", model, EXPORT_DB)
    rows = range(len(samples[0]))
    started = time.process_time()
    with contextlib.redirect_stdout(sys.stderr):  # it draws its progress on stdout
        quantized = nncf.quantize(
            convert(), nncf.Dataset(rows, lambda i: [x[i:i + 1].numpy() for x in samples]),
            model_type=nncf.ModelType.TRANSFORMER, preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(rows))
    seconds = time.process_time() - started
    int8 = contender("openvino int8", quantized, UNRELATED_DB)
    int8.quantize_seconds = seconds
    return [plain, int8]
