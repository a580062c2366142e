// The operators against the portable classes of the artifact: which are bit-exact, and how far the
// others may be.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>

#include "artifact/classes.h"
#include "ops/levels.h"
#include "ops/operators.h"

namespace repquant {
namespace {

using testing::difference;
using testing::pack;
using testing::padded;
using testing::random_codes;

at::Tensor run(torch::jit::Module module, std::vector<c10::IValue> inputs) {
  return module.forward(std::move(inputs)).toTensor();
}

at::Tensor one(double value) { return at::full({1}, value, at::kFloat); }

class PortableTest : public ::testing::Test {
 protected:
  void SetUp() override { at::manual_seed(21); }
  at::NoGradGuard no_grad;
  ModuleFactory factory;
};

LinearState linear_state(int bits, std::int64_t rows, std::int64_t columns) {
  LinearState s;
  const std::int64_t limit = (std::int64_t{1} << (bits - 1)) - 1;
  s.weight_codes = random_codes(-limit, limit, {rows, columns}, at::kChar);
  s.bits = bits;
  s.scale = at::rand({rows}) * 0.01 / static_cast<double>(limit) + 1e-5;
  s.bias = at::randn({rows});
  s.zero_point = 90;
  return s;
}

at::Tensor fused(const LinearState& s, const at::Tensor& codes, std::int64_t activation) {
  const auto packed = pack(s.weight_codes, s.bits);
  const std::int64_t rows = s.weight_codes.size(0);
  const bool operands = s.output == LinearOutput::kOperandCodes;
  return ops::linear_cpu(codes, packed.weight, packed.sums * s.zero_point, padded(s.scale),
                         padded(s.bias), padded(at::full({rows}, 1.0 / s.output_scale, at::kFloat)),
                         padded(at::full({rows}, static_cast<double>(s.output_zero), at::kFloat)),
                         {}, rows, s.weight_codes.size(1), s.bits, activation,
                         static_cast<std::int64_t>(s.output), operands ? s.output_low : 0,
                         operands ? s.output_high : s.output_max_code, s.output_quadratic);
}

TEST_F(PortableTest, LinearToFloatAgreesToRounding) {
  for (const int bits : {4, 8}) {
    const LinearState s = linear_state(bits, 70, 100);
    const at::Tensor codes = random_codes(0, 255, {2, 31, 100}, at::kByte);
    const at::Tensor portable = run(factory.linear(s), {codes});
    EXPECT_TRUE(at::allclose(fused(s, codes, 0), portable, 1e-6, 1e-6));
  }
}

TEST_F(PortableTest, LinearToCodesDiffersByOneAtTiesOnly) {
  std::int64_t total = 0, changed = 0;
  for (const int bits : {4, 8}) {
    for (const char* algorithm : {"none", "tanh"}) {
      LinearState s = linear_state(bits, 150, 200);
      s.activation =
          std::string(algorithm) == "tanh" ? LinearActivation::kGeluTanh : LinearActivation::kGelu;
      s.output = LinearOutput::kProductCodes;
      s.output_scale = 0.011;
      s.output_zero = 16;
      const at::Tensor codes = random_codes(0, 255, {301, 200}, at::kByte);
      const std::int64_t activation = std::string(algorithm) == "tanh" ? 3 : 2;
      const auto d = difference(fused(s, codes, activation), run(factory.linear(s), {codes}));
      EXPECT_LE(d.largest, 1);
      total += codes.size(0) * 150;
      changed += d.count;

      s.output_max_code = 15;
      s.output_quadratic = true;
      const auto quadratic =
          difference(fused(s, codes, activation), run(factory.linear(s), {codes}));
      EXPECT_LE(quadratic.largest, 29);  // 15^2 - 14^2: neighbouring codes
      total += codes.size(0) * 150;
      changed += quadratic.count;
    }
    LinearState s = linear_state(bits, 150, 200);
    s.scale = s.scale * 40.0;
    s.output = LinearOutput::kOperandCodes;
    s.output_low = -128;
    s.output_high = 127;
    const at::Tensor codes = random_codes(0, 255, {301, 200}, at::kByte);
    const auto d = difference(fused(s, codes, 0), run(factory.linear(s), {codes}));
    EXPECT_LE(d.largest, 1);
    total += codes.size(0) * 150;
    changed += d.count;
  }
  EXPECT_LE(static_cast<double>(changed), 2e-4 * static_cast<double>(total));
}

TEST_F(PortableTest, NormDiffersByOneAtTiesOnly) {
  NormQuantizeState s;
  s.weight = at::rand({192}) * 30;
  s.bias = at::rand({192}) * 100 + 70;
  s.shape = {192};
  s.epsilon = 1e-6;
  const at::Tensor x = at::randn({300, 192}) * 2 + 0.5;
  const auto d = difference(ops::norm_quantize_cpu(x, s.weight, s.bias, 1e-6, 255),
                            run(factory.norm_quantize(s), {x}));
  EXPECT_LE(d.largest, 1);
  EXPECT_LE(d.count, x.numel() / 5000);

  s.root_mean_square = true;
  const auto e = difference(ops::norm_quantize_cpu(x, s.weight, s.bias, 1e-6, 255, true),
                            run(factory.norm_quantize(s), {x}));
  EXPECT_LE(e.largest, 1);
  EXPECT_LE(e.count, x.numel() / 5000);
}

TEST_F(PortableTest, QuantizeIsBitExact) {
  const at::Tensor x = at::randn({50, 33}) * 3;
  for (const bool quadratic : {false, true}) {
    for (const bool per_channel : {false, true}) {
      QuantizeState s;
      s.multiplier = per_channel ? at::rand({33}) * 9 : one(7.3);
      s.offset = per_channel ? at::round(at::rand({33}) * 9) : one(3);
      s.max_code = quadratic ? 15 : 255;
      s.quadratic = quadratic;
      EXPECT_TRUE(
          at::equal(ops::quantize_cpu(x, s.multiplier, s.offset, s.max_code, quadratic, false, 0),
                    run(factory.quantize(s), {x})));
    }
  }
}

struct SoftmaxForm {
  const char* name;
  std::int64_t bits;
  bool uniform, table;
  double steps;
};

TEST_F(PortableTest, AttentionOnRawScoresHasTheSameCodes) {
  for (const SoftmaxForm& form :
       {SoftmaxForm{"log-sqrt2", 4, false, false, 2}, SoftmaxForm{"log2", 4, false, false, 1},
        SoftmaxForm{"table", 8, false, true, 8}, SoftmaxForm{"table6", 6, false, true, 4},
        SoftmaxForm{"table4", 4, false, true, 1.5}, SoftmaxForm{"uniform", 8, true, false, 1}}) {
    SCOPED_TRACE(form.name);
    ScoresState scores;
    scores.left_zero = at::round(at::randn({3, 1, 1}) * 20);
    scores.right_zero = at::round(at::randn({3, 1, 1}) * 20);
    scores.scale = at::rand({3, 1, 1});
    scores.raw = true;
    AttendState attend;
    attend.factor = at::rand({3, 1, 1}) * 1e-4 + 1e-4;
    attend.bits = form.bits;
    attend.uniform = form.uniform;
    attend.u8_table = form.table;
    attend.steps_per_octave = form.steps;
    // v with a grid per head, or per channel.
    attend.value_zero = at::round(at::randn({3, 1, form.steps == 2 ? 1 : 24}) * 20);
    attend.multiplier = at::rand({3, 1, 24});
    attend.offset = at::rand({3, 1, 24}) * 100 + 50;
    attend.output_max_code = 255;
    attend.fresh = true;
    const at::Tensor q = random_codes(-128, 127, {2, 3, 40, 24}, at::kChar);
    const at::Tensor k = random_codes(-128, 127, {2, 3, 50, 24}, at::kChar);
    const at::Tensor v = random_codes(-128, 127, {2, 3, 50, 24}, at::kChar);
    const at::Tensor raw = run(factory.scores(scores), {q, k.transpose(-1, -2)});
    const at::Tensor portable = run(factory.attend(attend), {raw, v, 0.7});
    const at::Tensor own = ops::attention_cpu(q, k, v, {}, scores.left_zero.to(at::kInt),
                                              attend.value_zero.to(at::kInt), at::ones({1}),
                                              attend.factor, 0.7, attend.multiplier, attend.offset,
                                              form.uniform ? 2
                                              : form.table ? 1
                                                           : 0,
                                              form.steps, (1 << form.bits) - 1, true, 255, false);
    const auto d = difference(own, portable);
    EXPECT_LE(d.largest, 1);
    EXPECT_LE(d.count, 1 + portable.numel() / 2000);
  }
}

}  // namespace
}  // namespace repquant
