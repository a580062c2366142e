"""Quantizes TorchScript models to integers, and runs them with fused operators.

    import repquant
    repquant.quantize("model.pt", "model.w4a8.pt", bits="w4a8", calib="calib.npz")
    print(repquant.evaluate("model.w4a8.pt", "test.npz", reference="model.pt"))
    model = repquant.load("model.w4a8.pt")
    logits = model(images)

Stock PyTorch loads the same file with torch.jit.load. Whatever fails raises repquant.Error.
"""

from repquant._calls import evaluate, quantize
from repquant._library import Error, library_path
from repquant._load import (LoadedSite, LoadReport, cpu_level, load, load_with_report,
                            set_cpu_level)

__all__ = ["Error", "LoadReport", "LoadedSite", "cpu_level", "evaluate", "library_path", "load",
           "load_with_report", "quantize", "set_cpu_level"]
