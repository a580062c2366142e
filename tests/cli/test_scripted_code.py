"""What scripted models say beside tensors: contexts, objects of their own, forks."""

from __future__ import annotations

import unittest

import numpy as np
import torch
from torch import Tensor, nn

import program


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class WithoutGradients(Part):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            y = self.net(x)
        if x.size(1) > 100:
            with torch.no_grad():
                y = y + 1
        return y


class Autocast(Part):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.net(x)
        return y.float()


@torch.jit.script
class Mean:
    def __init__(self) -> None:
        self.total = 0.0
        self.count = 0

    def add(self, value: float) -> None:
        self.total += value
        self.count += 1

    def value(self) -> float:
        return self.total / self.count


class OwnObject(Part):
    def forward(self, x: Tensor) -> Tensor:
        mean = Mean()
        mean.add(1.0)
        y = self.net(x)
        mean.add(2.0)
        return y * mean.value()


class ObjectOfALoop(Part):
    def forward(self, x: Tensor) -> Tensor:
        mean = Mean()
        for row in range(x.size(1)):
            mean.add(float(row))
        return self.net(x) * mean.value()


class Fork(Part):
    def __init__(self) -> None:
        super().__init__()
        self.other = Part()

    def forward(self, x: Tensor) -> Tensor:
        future = torch.jit.fork(self.other, x)
        return self.net(x) + torch.jit.wait(future)


class ScriptedCode(program.ProgramTest):
    def setUp(self) -> None:
        super().setUp()
        torch.manual_seed(1)
        np.save(self.folder / "x.npy", torch.randn(32, 6, 16).numpy())

    def save(self, model: nn.Module) -> None:
        torch.jit.script(model.eval()).save(self.folder / "model.pt")

    def test_is_quantized(self) -> None:
        for kind in (WithoutGradients, Autocast, OwnObject, Fork):
            with self.subTest(kind=kind.__name__):
                self.save(kind())
                self.succeed("quantize", "model.pt", "--calib", "x.npy", "--bits", "w8a8",
                             "--strict", "-o", "out.pt", "--force")
                forms = self.result("evaluate", "out.pt", "--data", "x.npy", "--reference",
                                    "model.pt", "--form", "portable,fused")["models"]
                for form in forms:
                    self.assertGreater(form["sqnr_db"], 30.0)

    def test_an_object_that_a_loop_changes_is_refused(self) -> None:
        self.save(ObjectOfALoop())
        self.fails(4, "makes an object and changes it in a branch or a loop",
                   "quantize", "model.pt", "--calib", "x.npy", "--bits", "w8a8", "-o", "out.pt")


if __name__ == "__main__":
    program.support.main()
