"""Inputs of many kinds, from quantize to evaluate: structures, masks, samples of several shapes."""

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


class TakesScores(Takes):
    def forward(self, x: Tensor, scores: Tensor) -> Tensor:
        return self.net(x + scores)


class StructuredInputs(program.ProgramTest):
    def test_the_written_file_takes_them(self) -> None:
        torch.manual_seed(1)
        x, y = (torch.randn(32, 6, 16) for _ in range(2))
        cases = (
            (TakesDict, ("batch.x", "batch.y"), {"x": x, "y": y}),
            (TakesScores, ("x", "scores"), None),
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
                    arguments = (x, y) if given is None else (given,)
                    expected = model(*arguments)
                    got = torch.jit.load(self.folder / "out.pt")(*arguments)
                self.assertLess(float((got - expected).norm() / expected.norm()), 0.03)


class Attends(nn.Module):
    """Self-attention with a mask that is added to the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 4)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = q @ k.transpose(-2, -1) * 0.25 + mask
        return self.out(torch.softmax(scores, -1) @ v)


class AttendsInHeads(Attends):
    """The mask has no dimension of samples: a stack of them fits no other than the heads."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        heads = self.qkv(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        scores = heads[0] @ heads[1].transpose(-2, -1) * 0.25 + mask
        return self.out((torch.softmax(scores, -1) @ heads[2]).transpose(1, 2).flatten(2))


class TakesTensor(Takes):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class FillsIn(Takes):
    def forward(self, x: Tensor) -> Tensor:
        return self.net(torch.nan_to_num(x, 0.0))


class Recommends(Takes):
    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(20, 16)

    def forward(self, item: Tensor) -> Tensor:
        return self.net(self.items(item))


class Samples(program.ProgramTest):
    def save(self, model: nn.Module) -> None:
        torch.manual_seed(1)
        torch.jit.script(model.eval()).save(self.folder / "model.pt")

    def samples(self, lengths: list[int], low: float) -> None:
        """A file for each sample, with a causal mask of its own."""
        (self.folder / "x").mkdir(exist_ok=True)
        for i, length in enumerate(lengths):
            mask = torch.triu(torch.full((length, length), low), 1)
            np.savez(self.folder / f"x/{i:02}.npz", x=torch.randn(length, 16), mask=mask)

    def quantizes(self, data: str, *arguments: object) -> dict:
        """Both forms of the artifact are near to FP32."""
        report = self.result("quantize", "model.pt", "--calib", data, "--bits", "w8a8",
                             "-o", "out.pt", "--force", *arguments)
        evaluation = self.result("evaluate", "out.pt", "--data", data, "--reference", "model.pt",
                                 "--form", "portable,fused", *arguments)
        for form in evaluation["models"]:
            self.assertGreater(form["sqnr_db"], 25.0)
        for protocol in (report["protocol"], evaluation["protocol"]):
            self.assertEqual("and other shapes" in protocol, "[5, 16]" in protocol)
        return report

    def test_samples_of_several_lengths(self) -> None:
        self.save(Attends())
        self.samples([5, 5, 9, 5, 7, 7, 7, 5, 12, 5, 9, 9], -1e4)
        for size in (1, 4):
            self.quantizes("x", "--batch-size", size)

    def test_masks_of_minus_infinity(self) -> None:
        self.save(Attends())
        self.samples([6] * 12, float("-inf"))
        self.quantizes("x")
        mask = torch.full((6, 6), float("-inf"))
        np.savez(self.folder / "x/07.npz", x=torch.randn(6, 16), mask=mask)
        self.fails(5, "07.npz", "quantize", "model.pt", "--calib", "x")

    def test_nan_stands_for_what_is_missing(self) -> None:
        x = torch.randn(24, 6, 16)
        x[3, 2, 1] = float("nan")
        np.save(self.folder / "x.npy", x)
        self.save(FillsIn())
        self.quantizes("x.npy")
        self.assertIn("x.npy[3]", self.succeed("quantize", "model.pt", "--calib", "x.npy", "-o",
                                               "out.pt", "--force").stderr)
        self.save(TakesTensor())
        self.fails(5, "x.npy[3]", "quantize", "model.pt", "--calib", "x.npy")
        self.fails(7, "x.npy[3]", "evaluate", "model.pt", "--data", "x.npy",
                   "--reference", "model.pt")
        x[:8] = float("nan")  # the first batch
        np.save(self.folder / "x.npy", x)
        self.fails(7, "x.npy[0]", "quantize", "model.pt", "--calib", "x.npy")

    def test_one_integer_a_sample(self) -> None:
        self.save(Recommends())
        np.savez(self.folder / "x.npz", item=np.arange(40) % 20)
        self.quantizes("x.npz")
        np.savez(self.folder / "x.npz", ids=np.arange(40) % 20)
        self.fails(2, "--window", "quantize", "model.pt", "--calib", "x.npz")

    def test_an_array_that_all_samples_share(self) -> None:
        self.save(Attends())
        np.savez(self.folder / "x.npz", x=torch.randn(12, 6, 16), mask=torch.zeros(6, 6))
        self.fails(5, "--batch-size", "quantize", "model.pt", "--calib", "x.npz")
        self.save(AttendsInHeads())
        self.samples([6] * 12, float("-inf"))
        self.fails(2, "--batch-size 1", "quantize", "model.pt", "--calib", "x")
        self.quantizes("x", "--batch-size", 1)


if __name__ == "__main__":
    program.support.main()
