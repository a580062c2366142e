#include "artifact/class_sources.h"

namespace repquant {
namespace {

// Scalar types appear as integers, because source compiled from C++ cannot name them:
// 0 uint8, 1 int8, 2 int16, 3 int32, 4 int64, 6 float32.
//
// float32 -> uint8 goes through int8 or int16: LibTorch converts float32 to those with vector
// instructions, to uint8 element by element (7 times slower). Values are within range by then.

// Rounds half up by truncating y + 1/2: one pass less than rounding. It differs from rounding half
// to even on exact ties only, by one code.
constexpr const char* kNormQuantize = R"(
def prepare(self) -> None:
    self.shifted = self.bias + 0.5
    self.high = float(self.max_code) + 0.5

def forward(self, x: Tensor) -> Tensor:
    if self.root_mean_square:
        y = torch.rms_norm(x, self.shape, self.weight, self.epsilon).add_(self.shifted)
    else:
        y = torch.layer_norm(x, self.shape, self.weight, self.shifted, self.epsilon, False)
    y = y.clamp_(0.5, self.high)
    if self.max_code <= 127:
        return y.to(1).to(0)
    return y.to(2).to(0)
)";

constexpr const char* kQuantize = R"(
def prepare(self) -> None:
    self.scalar = self.multiplier.numel() == 1 and self.offset.numel() == 1
    self.factor = 1.0
    self.addend = 0.0
    if self.scalar:
        self.factor = float(self.multiplier)
        self.addend = float(self.offset)
    self.high = float(self.max_code)

def forward(self, x: Tensor) -> Tensor:
    if self.scalar:
        y = torch.mul(x, self.factor).add_(self.addend).round_()
    else:
        y = torch.mul(x, self.multiplier).add_(self.offset).round_()
    if self.quadratic:
        y = y.clamp_(0.0, self.high * self.high).sqrt_().round_()
        q = y.to(1).to(0)
        return torch.mul(q, q)
    y = y.clamp_(0.0, self.high)
    if self.signed_codes:
        if self.shift != 0:
            y = y.sub_(float(self.shift))
        return y.to(1)
    if self.max_code <= 127:
        return y.to(1).to(0)
    return y.to(2).to(0)
)";

// Without VNNI, oneDNN adds pairs of u8 x s8 products in 16 bits with saturation. prepare() looks
// whether this processor does so, and whether these codes can reach the limit (2 u w > 32767). If
// both, the weight is split into two halves of at most 64, whose pairs cannot saturate.
constexpr const char* kLinear = R"(
def unpack(self) -> Tensor:
    if self.bits > 4:
        return self.codes
    low = torch.bitwise_and(self.codes, 15)
    high = torch.bitwise_right_shift(self.codes, 4)
    pairs = torch.stack([low, high], -1).flatten(1)
    return torch.sub(pairs.narrow(1, 0, self.columns).to(1), 8)

def saturates(self) -> bool:
    weight = torch.full([32, 64], 127, dtype=1)
    packed = onednn.qlinear_prepack(weight, None)
    scale = torch.ones([32], dtype=6)
    zero = torch.zeros([32], dtype=3)
    x = torch.full([32, 64], 255, dtype=0)
    y = onednn.qlinear_pointwise(x, 1.0, 0, packed, scale, zero, None, 1.0, 0, 6, "none", [], "")
    return not bool(torch.all(torch.eq(y, 2072640.0)))

def prepare(self) -> None:
    weight = self.unpack()
    self.weight_zero = torch.zeros([weight.size(0)], dtype=3)
    self.rows = weight.size(0)
    largest = 0
    if weight.numel() > 0:
        largest = int(torch.max(torch.abs(weight.to(3))))
    self.split = 2 * self.max_product_code * largest > 32767 and self.saturates()
    self.packed_rest = self.weight_zero
    if self.split:
        half = torch.div(weight.to(3), 2, rounding_mode="floor")
        self.packed_rest = onednn.qlinear_prepack(torch.sub(weight.to(3), half).to(1), None)
        weight = half.to(1)
    self.packed = onednn.qlinear_prepack(weight.contiguous(), None)
    self.low = float(self.output_low)
    self.high = float(self.output_high)
    self.output_limit = self.output_max_code
    if self.output_quadratic:
        self.output_limit = self.output_max_code * self.output_max_code

def product_split(self, x: Tensor) -> Tensor:
    y = onednn.qlinear_pointwise(x, 1.0, self.zero_point, self.packed, self.scale, self.weight_zero,
                                 self.bias, 1.0, 0, 6, "none", [], "")
    z = onednn.qlinear_pointwise(x, 1.0, self.zero_point, self.packed_rest, self.scale,
                                 self.weight_zero, None, 1.0, 0, 6, "none", [], "")
    y = y.add_(z)
    if self.activation == "gelu":
        y = torch.gelu(y, approximate=self.algorithm)
    if self.activation == "relu":
        y = torch.relu(y)
    if self.output == 1:
        y = y.round_().clamp_(self.low, self.high).to(1)
    if self.output == 2:
        y = y.div_(self.output_scale).round_().add_(float(self.output_zero))
        y = y.clamp_(0.0, float(self.output_limit)).to(2).to(0)
    return y

def product(self, x: Tensor) -> Tensor:
    if self.split:
        return self.product_split(x)
    if self.output == 1:
        return onednn.qlinear_pointwise(x, 1.0, self.zero_point, self.packed, self.scale,
                                        self.weight_zero, self.bias, 1.0, 0, 1, "hardtanh",
                                        annotate(List[Optional[number]], [self.low, self.high]), "")
    if self.output == 2:
        y = onednn.qlinear_pointwise(x, 1.0, self.zero_point, self.packed, self.scale,
                                     self.weight_zero, self.bias, self.output_scale,
                                     self.output_zero, 0, self.activation, [], self.algorithm)
        if self.output_limit < 255:
            y = y.clamp_max_(self.output_limit)
        return y
    return onednn.qlinear_pointwise(x, 1.0, self.zero_point, self.packed, self.scale,
                                    self.weight_zero, self.bias, 1.0, 0, 6, self.activation, [],
                                    self.algorithm)

def forward(self, x: Tensor) -> Tensor:
    x = x.contiguous()
    if x.dim() == 2 or x.dim() == 3:
        y = self.product(x)
    else:
        y = self.product(x.reshape([-1, self.columns])).reshape(x.size()[:-1] + [self.rows])
    if self.output == 2 and self.output_quadratic:
        q = y.to(6).sqrt_().round_().to(1).to(0)
        y = torch.mul(q, q)
    return y
)";

constexpr const char* kWeightOnly = R"(
def prepare(self) -> None:
    codes = self.codes
    if self.bits <= 4:
        low = torch.bitwise_and(self.codes, 15)
        high = torch.bitwise_right_shift(self.codes, 4)
        pairs = torch.stack([low, high], -1).flatten(1)
        codes = torch.sub(pairs.narrow(1, 0, self.columns).to(1), 8)
    scale = self.scale
    if self.group_size > 0:
        scale = torch.repeat_interleave(scale, self.group_size, 1).narrow(1, 0, self.columns)
    else:
        scale = scale.unsqueeze(1)
    self.weight = torch.mul(codes.to(6), scale)

def forward(self, x: Tensor) -> Tensor:
    return torch.linear(x, self.weight, self.bias)
)";

constexpr const char* kSide = R"(
def prepare(self) -> None:
    self.inverse = torch.reciprocal(self.scale)
    self.high = float((1 << self.bits) - 1)
    rows = torch.mul(self.codes.to(6), self.weight_scale.unsqueeze(1))
    self.weight = torch.mul(rows, self.scale).t().contiguous()

def forward(self, y: Tensor, x: Tensor) -> Tensor:
    q = torch.index_select(x, -1, self.channels)
    q = torch.mul(q, self.inverse).add_(self.zero_point).round_().clamp_(0.0, self.high)
    return y.add_(torch.matmul(q.sub_(self.zero_point), self.weight))
)";

// q k^T in integers, one head at a time. Below about a million multiply-accumulates per head the
// calls cost more than they save: then float32, which is as exact (every sum is below 2^24).
constexpr const char* kScores = R"(
def prepare(self) -> None:
    a = torch.full([32, 64], 127, dtype=1)
    b = torch.full([64, 32], 127, dtype=1)
    self.integer = bool(torch.all(torch.eq(torch._int_mm(a, b), 1032256)))
    self.narrow_left = self.left_bits <= 7
    self.left_shift = self.left_zero.to(3)
    self.left_centred = not bool(torch.any(torch.ne(self.left_zero, 0.0)))
    self.right_centred = not bool(torch.any(torch.ne(self.right_zero, 0.0)))
    if self.narrow_left:
        self.left_shift = self.left_zero.to(1)

def integer_products(self, left: Tensor, right: Tensor) -> Tensor:
    rows = left.size(-2)
    columns = right.size(-1)
    shape = left.size()[:-1] + [columns]
    if self.narrow_left and not self.left_centred:
        left = torch.sub(left, self.left_shift)
    a = left.reshape([-1, rows, left.size(-1)])
    keys = right.transpose(-1, -2)
    b = keys.reshape([-1, columns, left.size(-1)])
    sums = torch.empty([a.size(0), rows, columns], dtype=3)
    for i in range(a.size(0)):
        torch._int_mm(a.select(0, i), b.select(0, i).t(), out=sums.select(0, i))
    products = sums.to(6).reshape(shape)
    if not self.narrow_left and not self.left_centred:
        correction = torch.mul(keys.to(6).sum(-1), self.left_zero.squeeze(-1))
        products = products.sub_(correction.unsqueeze(-2))
    return products

def forward(self, left: Tensor, right: Tensor) -> Tensor:
    work = left.size(-2) * left.size(-1) * right.size(-1)
    if self.integer and work >= 1000000 and left.size()[:-2] == right.size()[:-2]:
        products = self.integer_products(left, right)
    else:
        products = torch.matmul(left.to(6).sub_(self.left_zero), right.to(6))
    if self.raw:
        return products
    if not self.right_centred:
        rows = left.to(6).sub_(self.left_zero).sum(-1, True)
        products = products.sub_(torch.mul(rows, self.right_zero))
    return products.mul_(self.scale)
)";

// Codes c = round((rowmax - score) * steps * log2 e), weight 2^(-c / steps), the last code is zero.
// Masked entries are -inf; rows that are masked throughout give 0. `factor` is what the model
// multiplies its scores by, where it computes that number itself.
constexpr const char* kAttend = R"(
def prepare(self) -> None:
    self.scalar = self.factor.numel() == 1
    self.factor_value = 1.0
    if self.scalar:
        self.factor_value = float(self.factor)
    self.max_code = float((1 << self.bits) - 1)
    self.step = 1.0 / self.steps_per_octave
    self.cut = 2.0 ** ((0.5 - self.max_code) * self.step)
    self.high = float(self.output_max_code) + 0.5
    self.shifted = self.offset + 0.5

def octaves(self, scores: Tensor, factor: float) -> Tensor:
    if self.row_maximum:
        maximum = torch.amax(scores, [-1], True)
        if self.fresh:
            x = scores.sub_(maximum)
        else:
            x = torch.sub(scores, maximum.clamp_min_(-3.4028234663852886e+38))
    else:
        x = torch.log_softmax(scores, -1).sub_(self.log_scale)
        x = torch.nan_to_num(x, float("-inf"), float("inf"), float("-inf"))
    if self.scalar:
        return x.mul_(self.factor_value * factor)
    return x.mul_(torch.mul(self.factor, factor))

def weights(self, scores: Tensor, factor: float) -> Tensor:
    w = self.octaves(scores, factor)
    if self.uniform:
        return w.exp2_().mul_(self.max_code).round_().clamp_max_(self.max_code)
    w = w.round_()
    if not self.row_maximum:
        w = w.clamp_max_(0.0)
    if not self.zero_code:
        w = w.clamp_min_(-self.max_code)
    if self.steps_per_octave != 1.0:
        w = w.mul_(self.step)
    w = w.exp2_()
    if self.zero_code:
        w = torch.threshold_(w, self.cut, 0.0)
    elif not self.fresh:
        w = w.mul_(torch.gt(torch.amax(scores, [-1], True), float("-inf")))
    if self.u8_table:
        w = w.mul_(255.0).round_()
    return w

def forward(self, scores: Tensor, value: Tensor, factor: float) -> Tensor:
    w = self.weights(scores, factor)
    y = torch.matmul(w, value.to(6).sub_(self.value_zero))
    if self.row_maximum:
        y = y.div_(w.sum(-1, True).clamp_min_(1.0))
    y = y.mul_(self.multiplier)
    if self.output_max_code == 0:
        return y
    y = y.add_(self.shifted).clamp_(0.5, self.high)
    if self.output_max_code <= 127:
        return y.to(1).to(0)
    return y.to(2).to(0)
)";

// The table stays packed in memory: only the rows that are read are unpacked.
constexpr const char* kEmbedding = R"(
def prepare(self) -> None:
    self.packed = self.bits <= 4

def forward(self, indices: Tensor) -> Tensor:
    rows = torch.embedding(self.codes, indices)
    if self.packed:
        low = torch.bitwise_and(rows, 15)
        high = torch.bitwise_right_shift(rows, 4)
        pairs = torch.stack([low, high], -1).flatten(-2)
        rows = torch.sub(pairs.narrow(-1, 0, self.columns).to(1), 8)
    return rows.to(6).mul_(torch.embedding(self.scale, indices))
)";

// A scale for each row, from the row itself: plan/simulate.cpp computes the same values. The bound
// is the smallest normal float32, the scale of a row of zeros.
constexpr const char* kTokenQuantize = R"(
def prepare(self) -> None:
    self.top = float((1 << (self.bits - 1)) - 1)
    self.zero = float(1 << (self.bits - 1))
    self.high = float((1 << self.bits) - 1)

def forward(self, x: Tensor) -> Tensor:
    scales = torch.amax(torch.abs(x), [-1], True).div_(self.top).clamp_min_(1.1754943508222875e-38)
    y = torch.div(x, scales).round_().add_(self.zero).clamp_(0.0, self.high)
    if self.bits <= 7:
        return y.to(1).to(0)
    return y.to(2).to(0)
)";

constexpr const char* kTokenScale = R"(
def prepare(self) -> None:
    self.top = float((1 << (self.bits - 1)) - 1)

def forward(self, y: Tensor, x: Tensor) -> Tensor:
    scales = torch.amax(torch.abs(x), [-1], True).div_(self.top).clamp_min_(1.1754943508222875e-38)
    return y.mul_(scales).add_(self.bias)
)";

std::vector<ClassSource> make_sources() {
  return {
      {"NormQuantize",
       {{"weight", "Tensor"},
        {"bias", "Tensor"},
        {"shape", "List[int]"},
        {"epsilon", "float"},
        {"max_code", "int"},
        {"root_mean_square", "bool"}},
       {{"shifted", "Tensor"}, {"high", "float"}},
       kNormQuantize},
      {"Quantize",
       {{"multiplier", "Tensor"},
        {"offset", "Tensor"},
        {"max_code", "int"},
        {"quadratic", "bool"},
        {"signed_codes", "bool"},
        {"shift", "int"}},
       {{"scalar", "bool"}, {"factor", "float"}, {"addend", "float"}, {"high", "float"}},
       kQuantize},
      {"Linear",
       {{"codes", "Tensor"},
        {"scale", "Tensor"},
        {"bias", "Tensor"},
        {"bits", "int"},
        {"columns", "int"},
        {"zero_point", "int"},
        {"max_product_code", "int"},
        {"activation", "str"},
        {"algorithm", "str"},
        {"output", "int"},
        {"output_low", "int"},
        {"output_high", "int"},
        {"output_scale", "float"},
        {"output_zero", "int"},
        {"output_max_code", "int"},
        {"output_quadratic", "bool"}},
       {{"packed", "Tensor"},
        {"packed_rest", "Tensor"},
        {"weight_zero", "Tensor"},
        {"rows", "int"},
        {"split", "bool"},
        {"low", "float"},
        {"high", "float"},
        {"output_limit", "int"}},
       kLinear},
      {"WeightOnlyLinear",
       {{"codes", "Tensor"},
        {"scale", "Tensor"},
        {"bias", "Tensor"},
        {"bits", "int"},
        {"columns", "int"},
        {"group_size", "int"}},
       {{"weight", "Tensor"}},
       kWeightOnly},
      {"SideColumns",
       {{"codes", "Tensor"},
        {"weight_scale", "Tensor"},
        {"channels", "Tensor"},
        {"scale", "Tensor"},
        {"zero_point", "Tensor"},
        {"bits", "int"}},
       {{"weight", "Tensor"}, {"inverse", "Tensor"}, {"high", "float"}},
       kSide},
      {"Scores",
       {{"left_zero", "Tensor"},
        {"right_zero", "Tensor"},
        {"left_bits", "int"},
        {"right_bits", "int"},
        {"scale", "Tensor"},
        {"raw", "bool"}},
       {{"integer", "bool"},
        {"narrow_left", "bool"},
        {"left_centred", "bool"},
        {"right_centred", "bool"},
        {"left_shift", "Tensor"}},
       kScores},
      {"Attend",
       {{"factor", "Tensor"},
        {"bits", "int"},
        {"uniform", "bool"},
        {"u8_table", "bool"},
        {"zero_code", "bool"},
        {"steps_per_octave", "float"},
        {"row_maximum", "bool"},
        {"log_scale", "float"},
        {"fresh", "bool"},
        {"value_zero", "Tensor"},
        {"multiplier", "Tensor"},
        {"offset", "Tensor"},
        {"output_max_code", "int"}},
       {{"scalar", "bool"},
        {"factor_value", "float"},
        {"max_code", "float"},
        {"step", "float"},
        {"cut", "float"},
        {"high", "float"},
        {"shifted", "Tensor"}},
       kAttend},
      {"Embedding",
       {{"codes", "Tensor"}, {"scale", "Tensor"}, {"bits", "int"}, {"columns", "int"}},
       {{"packed", "bool"}},
       kEmbedding},
      {"TokenQuantize",
       {{"bits", "int"}},
       {{"top", "float"}, {"zero", "float"}, {"high", "float"}},
       kTokenQuantize},
      {"TokenScale", {{"bias", "Tensor"}, {"bits", "int"}}, {{"top", "float"}}, kTokenScale},
  };
}

}  // namespace

const std::vector<ClassSource>& class_sources() {
  static const std::vector<ClassSource> sources = make_sources();
  return sources;
}

std::string full_source(const ClassSource& source) {
  std::string types, values, assignments;
  std::size_t index = 0;
  auto stored = source.stored;
  stored.emplace_back("training", "bool");
  for (const auto& [name, type] : stored) {
    const std::string separator = index == 0 ? "" : ", ";
    types.append(separator).append(type);
    values.append(separator).append("self.").append(name);
    assignments += "    self." + name + " = state[" + std::to_string(index) + "]\n";
    ++index;
  }
  const std::string tuple = "Tuple[" + types + "]";
  return source.methods + "\ndef __getstate__(self) -> " + tuple + ":\n    return (" + values +
         ")\n\ndef __setstate__(self, state: " + tuple + ") -> None:\n" + assignments +
         "    self.prepare()\n";
}

}  // namespace repquant
