"""What an artifact is called with and gives, beside what its model is called with and gives."""

from __future__ import annotations

import unittest
from typing import Optional

import numpy as np
import torch
from torch import Tensor, nn

import program


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.context = 12
        self.ids = nn.Embedding(40, 32)
        self.q, self.k, self.v = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)
        self.head = nn.Linear(32, 10)

    @torch.jit.export
    def encode(self, ids: Tensor) -> Tensor:
        return self.ids(ids)

    def forward(self, ids: Tensor, mask: Optional[Tensor] = None, scale: float = 0.125,
                flag: bool = False) -> Tensor:
        x = self.encode(ids)
        scores = self.q(x) @ self.k(x).mT * scale
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], -1e9)
        y = scores.softmax(-1) @ self.v(x)
        if flag:
            y = y * 2
        return self.head(y)


class Suppressed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(16, 32), nn.Linear(32, 20)
        self.register_buffer("bad", torch.tensor([0, 3]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.first(x))).index_fill(-1, self.bad, float("-inf"))


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(16, 32), nn.Linear(32, 20)

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(torch.relu(self.first(x)))
        return torch.complex(y[..., :10], y[..., 10:])


class Chosen(Complex):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.head(torch.relu(self.first(x)))
        return y.argmax(-1), y


def sqnr_db(expected: Tensor, got: Tensor) -> float:
    return float(20 * torch.log10(expected.norm() / (expected - got).norm()))


class InterfaceTest(program.ProgramTest):
    def setUp(self) -> None:
        super().setUp()
        torch.manual_seed(1)
        self.ids = torch.randint(0, 40, (32, 12))
        self.mask = torch.arange(12)[None] < torch.randint(5, 12, (32, 1))
        np.savez(self.folder / "ids.npz", ids=self.ids.numpy())
        np.savez(self.folder / "both.npz", ids=self.ids.numpy(), mask=self.mask.numpy())
        np.save(self.folder / "x.npy", torch.randn(32, 6, 16).numpy())

    def quantize(self, model: nn.Module, data: str) -> str:
        torch.jit.script(model.eval()).save(self.folder / "model.pt")
        return self.succeed("quantize", "model.pt", "--calib", data, "--bits", "w8a8", "--effort",
                            "fast", "-o", "out.pt", "--force").stdout

    def evaluate(self, data: str, *options: str) -> list[float]:
        models = self.result("evaluate", "out.pt", "--reference", "model.pt", "--data", data,
                             "--form", "portable,fused", *options)["models"]
        return [model["sqnr_db"] for model in models]

    def test_a_default_stays_where_the_data_gives_the_argument(self) -> None:
        model = Attention()
        page = self.quantize(model, "both.npz")
        self.assertIn("scale=0.125, flag=False", page)
        artifact = torch.jit.load(self.folder / "out.pt")
        with torch.no_grad():
            for arguments in ((self.ids,), (self.ids, None), (self.ids, self.mask)):
                self.assertGreater(sqnr_db(model(*arguments), artifact(*arguments)), 25)
        for data in ("ids.npz", "both.npz"):
            self.assertGreater(min(self.evaluate(data)), 25)
        self.succeed("verify", "out.pt", "--reference", "model.pt", "--data", "both.npz")

    def test_what_is_left_out_is_named(self) -> None:
        page = self.quantize(Attention(), "ids.npz")
        for text in ("mask=None, scale=0.125, flag=False", "encode()", "context"):
            self.assertIn(text, page)

    def test_the_type_of_outputs_is_named(self) -> None:
        self.assertIn("outputs of that type", self.quantize(Suppressed().half(), "x.npy"))

    def test_suppressed_tokens_are_compared_without_them(self) -> None:
        self.quantize(Suppressed(), "x.npy")
        self.assertGreater(min(self.evaluate("x.npy")), 25)

    def test_complex_outputs_are_compared(self) -> None:
        self.assertNotIn("lost", self.quantize(Complex(), "x.npy"))
        self.assertGreater(min(self.evaluate("x.npy")), 25)
        self.succeed("verify", "out.pt", "--reference", "model.pt", "--data", "x.npy")

    def test_an_integer_output_points_to_scores(self) -> None:
        self.quantize(Chosen(), "x.npy")
        self.fails(4, "--outputs 1", "evaluate", "out.pt", "--reference", "model.pt", "--data",
                   "x.npy")
        self.assertGreater(min(self.evaluate("x.npy", "--outputs", "1")), 25)


if __name__ == "__main__":
    program.support.main()
