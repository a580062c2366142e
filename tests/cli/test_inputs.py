"""Models whose inputs are dictionaries, tuples and lists of tensors, from quantize to evaluate."""

from __future__ import annotations

import unittest
from typing import Dict, List, Tuple

import numpy as np
import torch
from torch import Tensor, nn

import program


class Takes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))


class TakesDict(Takes):
    def forward(self, batch: Dict[str, Tensor]) -> Tensor:
        return self.net(batch["x"] + batch["y"])


class TakesTuple(Takes):
    def forward(self, pair: Tuple[Tensor, Tensor]) -> Tensor:
        return self.net(pair[0] + pair[1])


class TakesList(Takes):
    def forward(self, parts: List[Tensor]) -> Tensor:
        return self.net(parts[0] + parts[1])


class TakesWholeList(Takes):
    def forward(self, parts: List[Tensor]) -> Tensor:
        return self.net(torch.stack(parts).sum(0))


class StructuredInputs(program.ProgramTest):
    def test_the_written_file_takes_them(self) -> None:
        torch.manual_seed(1)
        x, y = (torch.randn(32, 6, 16) for _ in range(2))
        cases = (
            (TakesDict, ("batch.x", "batch.y"), {"x": x, "y": y}),
            (TakesTuple, ("pair.0", "pair.1"), (x, y)),
            (TakesList, ("parts.0", "parts.1"), [x, y]),
            (TakesWholeList, ("parts.0", "parts.1"), [x, y]),
        )
        for kind, names, given in cases:
            with self.subTest(kind=kind.__name__):
                model = kind().eval()
                torch.jit.script(model).save(self.folder / "model.pt")
                np.savez(self.folder / "x.npz", **dict(zip(names, (x.numpy(), y.numpy()))))
                self.succeed("quantize", "model.pt", "--calib", "x.npz", "--bits", "w8a8",
                             "-o", "out.pt", "--force")
                forms = self.result("evaluate", "out.pt", "--data", "x.npz", "--reference",
                                    "model.pt", "--form", "portable,fused")["models"]
                self.assertEqual([form["form"] for form in forms], ["portable", "fused"])
                for form in forms:
                    self.assertGreater(form["sqnr_db"], 30.0)
                with torch.inference_mode():
                    expected = model(given)
                    got = torch.jit.load(self.folder / "out.pt")(given)
                self.assertLess(float((got - expected).norm() / expected.norm()), 0.03)


if __name__ == "__main__":
    program.support.main()
