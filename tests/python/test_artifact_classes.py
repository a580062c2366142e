"""Each TorchScript class of an artifact alone: compiled by stock PyTorch, saved, loaded, and run on
small inputs against plain floating-point formulas."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import unittest
from pathlib import Path

import torch

from support import ROOT, main

CLASSES = ROOT / "src" / "format" / "classes"
DEFAULTS = {"Tensor": torch.zeros(1), "int": 0, "float": 0.0, "bool": False, "str": "",
            "List[int]": [0]}
TYPES = {"Tensor": torch._C.TensorType.get(), "int": torch._C.IntType.get(),
         "float": torch._C.FloatType.get(), "bool": torch._C.BoolType.get(),
         "str": torch._C.StringType.get(), "List[int]": torch._C.ListType.ofInts()}
NAMES = {"torch": torch.ops.aten, "onednn": torch.ops.onednn, "annotate": torch.jit.annotate}


def parse(name: str) -> tuple[list[tuple[str, str]], str]:
    """Attributes and methods of a file, read with Python's own parser; with methods that store what
    stands before "# Derived", as an artifact has them."""
    text = (CLASSES / f"{name}.py").read_text()
    derived = text[:text.index("# Derived")].count("\n") + 1
    constants, attributes, stored, methods = {}, [], [], []
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign):
            constants[node.targets[0].id] = ast.literal_eval(node.value)
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.AnnAssign):
                    attributes.append((item.target.id, ast.unparse(item.annotation)))
                    stored += attributes[-1:] if item.lineno < derived else []
                else:
                    lines = text.splitlines()[item.lineno - 1:item.end_lineno]
                    methods.append(textwrap.dedent("\n".join(lines)))
    state = "Tuple[" + ", ".join(kind for _, kind in stored) + ", bool]"
    names = [name for name, _ in stored] + ["training"]
    methods.append(f"def __getstate__(self) -> {state}:\n    return ("
                   + ", ".join(f"self.{name}" for name in names) + ")")
    methods.append(f"def __setstate__(self, state: {state}) -> None:\n"
                   + "".join(f"    self.{name} = state[{i}]\n" for i, name in enumerate(names))
                   + "    self.prepare()\n")
    source = "\n\n".join(methods) + "\n"
    for constant, value in constants.items():
        source = source.replace(constant, repr(value))
    return attributes, source


def make(name: str, **stored: object) -> torch.jit.ScriptModule:
    """The class with these stored attributes, prepared, after a trip through a file."""
    attributes, source = parse(name)
    module = torch._C.ScriptModule(f"__torch__.{name}", torch._C.CompilationUnit(), True)
    module._register_attribute("training", TYPES["bool"], False)
    for attribute, kind in attributes:
        module._register_attribute(attribute, TYPES[kind], stored.get(attribute, DEFAULTS[kind]))
    unknown = set(stored) - {attribute for attribute, _ in attributes}
    assert not unknown, unknown
    concrete = torch._C.ConcreteModuleType.from_jit_type(module._type())
    module._define(concrete, source, lambda word: NAMES.get(word))
    module.prepare()
    script = torch.jit._recursive.wrap_cpp_module(module)
    buffer = io.BytesIO()
    torch.jit.save(script, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


def nibbles(codes: torch.Tensor) -> torch.Tensor:
    """int8 [N, K] of -8..7 -> uint8 [N, ceil(K / 2)], the even column low."""
    shifted = torch.nn.functional.pad(codes.int() + 8, (0, codes.size(1) % 2), value=8)
    return (shifted[:, ::2] + 16 * shifted[:, 1::2]).to(torch.uint8)


class ClassesTest(unittest.TestCase):
    def setUp(self) -> None:
        torch.manual_seed(7)

    def assert_close(self, got: torch.Tensor, expected: torch.Tensor) -> None:
        torch.testing.assert_close(got.double(), expected.double(), rtol=1e-5, atol=1e-5)

    def assert_codes(self, got: torch.Tensor, kind: torch.dtype, expected: torch.Tensor) -> None:
        self.assertEqual(got.dtype, kind)
        self.assertTrue(torch.equal(got.double(), expected.double()))

    def test_every_file_is_tested(self) -> None:
        names = {path.stem for path in CLASSES.glob("*.py")}
        source = inspect.getsource(ClassesTest)
        self.assertEqual({name for name in names if f'make("{name}"' not in source}, set())
        self.assertEqual(len(names), 17)

    def test_norm_quantize(self) -> None:
        x, weight, bias = torch.randn(3, 5, 16), torch.rand(16) + 3, torch.randn(16) + 8
        for rms in (False, True):
            for top in (15, 255):
                norm = make("norm_quantize", weight=weight, bias=bias, shape=[16], epsilon=1e-5,
                            max_code=top, root_mean_square=rms)
                centred = x if rms else x - x.mean(-1, keepdim=True)
                y = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
                self.assert_codes(norm(x), torch.uint8, (y * weight + bias).round().clamp(0, top))

    def test_quantize(self) -> None:
        x = torch.randn(4, 6) * 5
        for multiplier, offset in ((torch.tensor([3.3]), torch.tensor([7.0])),
                                   (torch.rand(6) + 2, torch.randn(6).round() + 6)):
            codes = (x * multiplier + offset).round()
            unsigned = make("quantize", multiplier=multiplier, offset=offset, max_code=200)
            self.assert_codes(unsigned(x), torch.uint8, codes.clamp(0, 200))
            signed = make("quantize", multiplier=multiplier, offset=offset, max_code=255,
                          signed_codes=True, shift=128)
            self.assert_codes(signed(x), torch.int8, codes.clamp(0, 255) - 128)
            quadratic = make("quantize", multiplier=multiplier, offset=offset, max_code=15,
                             quadratic=True)
            self.assert_codes(quadratic(x), torch.uint8,
                              codes.clamp(0, 225).sqrt().round().square())

    def linear(self, bits: int, levels: torch.Tensor = torch.arange(-8, 8, dtype=torch.int8),
               **stored: object):
        limit = 1 << (bits - 1)
        codes = torch.randint(-limit + (bits == 8), limit, (10, 33), dtype=torch.int8)
        scale, bias = torch.rand(10) / 500, torch.randn(10)
        module = make("linear", codes=nibbles(codes) if bits <= 4 else codes, scale=scale,
                      bias=bias, bits=bits, columns=33, levels=levels, zero_point=9,
                      max_product_code=255, **stored)
        x = torch.randint(0, 256, (2, 7, 33), dtype=torch.uint8)
        if bits <= 4:
            codes = levels[codes.long() + 8]
        y = (x.double() - 9) @ codes.double().t() * scale + bias
        return module(x), y, module, x

    def test_linear(self) -> None:
        for bits in (3, 4, 8):
            got, y, module, x = self.linear(bits, activation="none", algorithm="")
            self.assert_close(got, y)
            self.assert_close(module(x[0, 0:1]), y[0, 0:1])  # two dimensions
            self.assert_close(module(x.unsqueeze(0)), y.unsqueeze(0))  # four
            got, y, _, _ = self.linear(bits, activation="gelu", algorithm="tanh")
            self.assert_close(got, torch.nn.functional.gelu(y, approximate="tanh"))

    def test_linear_looks_levels_up(self) -> None:
        levels = torch.tensor([-64, -50, -41, -30, -22, -15, -9, -4, 0, 3, 8, 15, 24, 36, 50, 63],
                              dtype=torch.int8)
        for bits in (3, 4):
            got, y, _, _ = self.linear(bits, levels, activation="none", algorithm="")
            self.assert_close(got, y)

    def test_linear_writes_codes(self) -> None:
        for bits in (4, 8):
            got, y, _, _ = self.linear(bits, activation="none", algorithm="", output=1,
                                       output_low=-5, output_high=6)
            self.assertEqual(got.dtype, torch.int8)
            self.assertLessEqual((got - y.round().clamp(-5, 6)).abs().max(), 1)  # ties
            self.assertLess((got != y.round().clamp(-5, 6)).double().mean(), 0.02)
            got, y, _, _ = self.linear(bits, activation="relu", algorithm="", output=2,
                                       output_scale=0.02, output_zero=3, output_max_code=100)
            expected = (y.relu() / 0.02).round().add(3).clamp(0, 100)
            self.assertEqual(got.dtype, torch.uint8)
            self.assertLessEqual((got - expected).abs().max(), 1)
            self.assertLess((got != expected).double().mean(), 0.02)

    def test_weight_only_linear(self) -> None:
        codes = torch.randint(-8, 8, (6, 13), dtype=torch.int8)
        x, bias = torch.randn(3, 13), torch.randn(6)
        scale = torch.rand(6)
        for levels in (torch.arange(-8, 8, dtype=torch.int8),
                       torch.arange(-60, 68, 8, dtype=torch.int8)):
            module = make("weight_only_linear", codes=nibbles(codes), scale=scale, bias=bias,
                          bits=4, columns=13, levels=levels)
            weight = levels[codes.long() + 8] * scale[:, None]
            self.assert_close(module(x), x.double() @ weight.double().t() + bias)
        groups = torch.rand(6, 4)  # of 4 columns
        module = make("weight_only_linear", codes=codes, scale=groups, bias=bias, bits=8,
                      columns=13, group_size=4)
        weight = codes * groups.repeat_interleave(4, 1)[:, :13]
        self.assert_close(module(x), x.double() @ weight.double().t() + bias)

    def test_side_columns(self) -> None:
        codes = torch.randint(-127, 128, (5, 2), dtype=torch.int8)
        row, scale, zero = torch.rand(5) / 50, torch.rand(2) / 10, torch.tensor([3.0, 128.0])
        module = make("side_columns", codes=codes, weight_scale=row, channels=torch.tensor([4, 1]),
                      scale=scale, zero_point=zero, bits=8)
        x, y = torch.randn(3, 6), torch.randn(3, 5)
        q = ((x[:, [4, 1]] / scale + zero).round().clamp(0, 255) - zero) * scale
        self.assert_close(module(y.clone(), x), y + q.double() @ (codes * row[:, None]).double().t())

    def test_scores(self) -> None:
        left_zero = torch.tensor([3.0, -2.0]).view(2, 1, 1)
        right_zero, scale = torch.tensor([5.0]), torch.tensor([0.01])
        # Below and above the work from which integer products are used.
        for rows, depth, bits in ((4, 8, 8), (128, 64, 8), (128, 64, 7)):
            left = torch.randint(-60, 60, (2, 2, rows, depth), dtype=torch.int8)
            right = torch.randint(-60, 60, (2, 2, depth, rows), dtype=torch.int8)
            products = (left.double() - left_zero) @ right.double()
            raw = make("scores", left_zero=left_zero, right_zero=right_zero, left_bits=bits,
                       right_bits=8, scale=scale, raw=True)
            self.assertTrue(torch.equal(raw(left, right).double(), products))
            scaled = make("scores", left_zero=left_zero, right_zero=right_zero, left_bits=bits,
                          right_bits=8, scale=scale, raw=False)
            expected = (left.double() - left_zero) @ (right.double() - right_zero) * 0.01
            self.assert_close(scaled(left, right), expected)

    def attend(self, scores: torch.Tensor, value: torch.Tensor, output: int = 0, **stored: object):
        module = make("attend", factor=torch.tensor([2.0]), bits=4, steps_per_octave=2.0,
                      row_maximum=True, fresh=False, value_zero=torch.tensor([4.0]),
                      multiplier=torch.tensor([0.05]), offset=torch.tensor([20.0]),
                      output_max_code=output, **stored)
        return module(scores.clone(), value, 1.0)

    def test_attend(self) -> None:
        scores = torch.randn(2, 3, 5, 7) * 2
        scores[0, 0, 0, :3] = float("-inf")
        value = torch.randint(-128, 128, (2, 3, 7, 6), dtype=torch.int8)
        steps = ((scores - scores.amax(-1, keepdim=True)) * 2).double()
        log = torch.where(steps.round() <= -15, 0.0, (steps.round() / 2).exp2())
        uniform = (steps.exp2() * 15).round()
        centred = value.double() - 4
        for weights, form in ((log, {"zero_code": True}), (uniform, {"uniform": True})):
            y = weights @ centred / weights.sum(-1, keepdim=True) * 0.05
            self.assert_close(self.attend(scores, value, **form), y)
            codes = self.attend(scores, value, output=90, **form)
            self.assertEqual(codes.dtype, torch.uint8)
            self.assertLessEqual((codes - (y + 20).round().clamp(0, 90)).abs().max(), 1)  # ties

    def test_attend_gives_nothing_to_rows_that_are_masked_throughout(self) -> None:
        value = torch.randint(-128, 128, (7, 6), dtype=torch.int8)
        y = self.attend(torch.full((5, 7), float("-inf")), value, zero_code=True)
        self.assertTrue(torch.equal(y, torch.zeros(5, 6)))

    def test_embedding(self) -> None:
        codes, scale = torch.randint(-8, 8, (9, 5), dtype=torch.int8), torch.rand(9, 1)
        indices = torch.tensor([[0, 8, 3], [3, 1, 1]])
        for bits, stored in ((4, nibbles(codes)), (8, codes)):
            module = make("embedding", codes=stored, scale=scale, bits=bits, columns=5)
            self.assert_close(module(indices), (codes * scale)[indices])

    def test_convolution(self) -> None:
        x, bias = torch.randn(2, 6, 9), torch.randn(6)
        shape = {"kernel": [3], "stride": [2], "padding": [1], "dilation": [2], "groups": 3}
        grid = {"multiplier": torch.rand(6, 1) * 20 + 10, "zero_point": torch.full((6, 1), 7.0)}
        codes, scale = torch.randint(-8, 8, (6, 6), dtype=torch.int8), torch.rand(6)
        weight = (codes * scale[:, None]).view(6, 2, 3)
        quantized = (x * grid["multiplier"] + 7).round().clamp(0, 15) - 7
        for bits, stored in ((4, nibbles(codes)), (8, codes)):
            for max_code, values in ((15, quantized), (0, x)):
                module = make("convolution", codes=stored, scale=scale, bias=bias, bits=bits,
                              columns=6, max_code=max_code, **grid, **shape)
                self.assert_close(module(x), torch.conv1d(values, weight, bias, 2, 1, 2, 3))

    def test_convolution_in_more_dimensions(self) -> None:
        for sizes in ((7, 8), (5, 6, 7)):
            n = len(sizes)
            x, codes = torch.randn(2, 4, *sizes), torch.randint(-9, 9, (4, 3**n), dtype=torch.int8)
            module = make("convolution", codes=codes, scale=torch.ones(4), bias=torch.zeros(4),
                          bits=8, columns=3**n, kernel=[3] * n, stride=[1] * n, padding=[1] * n,
                          dilation=[1] * n, groups=4)
            operator = (torch.conv2d, torch.conv3d)[n - 2]
            self.assert_close(module(x), operator(x, codes.float().view(4, 1, *[3] * n), padding=1,
                                                  groups=4))

    def test_token_range_quantize_and_scale(self) -> None:
        x, y, sums, bias = torch.randn(4, 6), torch.randn(4, 3), torch.randn(3), torch.randn(3)
        x[1] = 0
        low = x.amin(-1, keepdim=True)
        learned = torch.tensor([0, 3, 9, 40, 90, 170, 220, 255], dtype=torch.uint8)
        for top, levels in ((15, torch.arange(16, dtype=torch.uint8)),
                            (255, torch.arange(256).to(torch.uint8)), (255, learned)):
            step = ((x.amax(-1, keepdim=True) - low) / top).clamp_min(2.0**-126)
            rows = make("token_range", top=top)(x)
            self.assert_close(rows, torch.cat([low, step], -1))
            fine = ((x - low) * step.reciprocal()).round().clamp(0, top)
            distance = (fine.unsqueeze(-1) - levels.float()).abs()
            codes = levels[distance.argmin(-1)]
            self.assert_codes(make("token_quantize", top=top, levels=levels)(x, rows), torch.uint8, codes)
            groups = make("group_quantize", group_size=4, top=top, levels=levels)
            values = groups(x)  # of 6 columns: the last group has two
            self.assertEqual(values.shape, x.shape)
            for first in range(0, x.size(-1), 4):
                part = x[..., first : first + 4]
                low_of, step_of = make("token_range", top=top)(part).unbind(-1)
                of_part = make("token_quantize", top=top, levels=levels)(part, torch.stack([low_of, step_of], -1))
                self.assert_close(values[..., first : first + 4], of_part.float() * step_of.unsqueeze(-1) + low_of.unsqueeze(-1))
            for output in (0, 1):
                module = make("token_scale", sums=sums, bias=bias, output=output, output_low=-2, output_high=2)
                expected = y * step + low * sums + bias
                if output:
                    self.assert_codes(module(y.clone(), rows), torch.int8, expected.round().clamp(-2, 2))
                else:
                    self.assert_close(module(y.clone(), rows), expected)

    def test_cache_quantize_and_dequantize(self) -> None:
        write, read = make("cache_quantize", bits=8), make("cache_dequantize", bits=8)
        x = torch.randn(2, 3, 4, 6)
        x[0, 1, 2] = -0.75
        low = x.amin(-1, keepdim=True)
        step = ((x.amax(-1, keepdim=True) - low) / 255).clamp_min(2.0**-126)
        codes = write(x)
        self.assertEqual((codes.dtype, codes.shape), (torch.uint8, (2, 3, 4, 14)))
        self.assertTrue(torch.equal(codes[..., :6].float(),
                                    ((x - low) * step.reciprocal()).round().clamp(0, 255)))
        self.assertTrue(torch.equal(codes[..., 6:].contiguous().view(torch.float32),
                                    torch.cat([low, step], -1)))
        # Behind other tokens, and behind an empty past of another type.
        joined = torch.cat([torch.zeros(2, 3, 0, 14), codes, codes], 2)
        self.assert_close(read(joined), torch.cat([codes[..., :6] * step + low] * 2, 2))
        self.assertTrue(torch.equal(read(codes)[0, 1, 2], x[0, 1, 2]))
        self.assertEqual(write(x[:, :, :0]).shape, (2, 3, 0, 14))

    def test_row_scale_and_quantize(self) -> None:
        x = torch.randn(2, 3, 4, 6)
        x[1, 0, 2] = 0
        for bits, top in ((8, 127), (4, 15), (3, 7), (7, 127)):
            scale = make("row_scale", top=top)(x)
            expected = (x.abs().amax(-1, keepdim=True) / top).clamp_min(2.0**-126)
            self.assert_close(scale, expected)
            y = x * expected.reciprocal()
            codes = y.round() if bits == 8 else ((y - 1) * 0.5).round() * 2 + 1
            self.assert_codes(make("row_quantize", bits=bits)(x, scale), torch.int8,
                              codes.clamp(-top, top))


if __name__ == "__main__":
    main()
