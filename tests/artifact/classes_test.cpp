// Each TorchScript class against the floating-point simulation of the plan that it realises; those
// of attention stand in attention_classes_test.cpp.
#include "artifact/classes.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "artifact/class_module.h"
#include "artifact/linear_state.h"
#include "format/codes.h"
#include "plan/simulate.h"

namespace repquant {
namespace {

using testing::ClassesTest;
using testing::expect_close;
using testing::expect_close_codes;
using testing::input_of;
using testing::reloaded;
using testing::run;
using testing::scalar;
using torch::jit::Module;

QuantizedWeight random_weight(std::int64_t rows, std::int64_t columns, int bits) {
  const std::int64_t limit = (std::int64_t{1} << (bits - 1)) - 1;
  QuantizedWeight weight;
  weight.codes = at::randint(-limit, limit + 1, {rows, columns}, at::kInt).to(at::kChar);
  weight.scale = at::rand({rows}) * 0.02 + 0.01;
  weight.bits = bits;
  return weight;
}

LinearPlan random_linear(std::int64_t rows, std::int64_t columns, int weight_bits, int bits,
                         CodeForm form = CodeForm::kUniform) {
  LinearPlan plan;
  plan.input = input_of(bits, form);
  plan.weight = random_weight(rows, columns, weight_bits);
  plan.bias = at::randn({rows});
  return plan;
}

LinearState lowered(const LinearPlan& plan) {
  LinearState state;
  state.weight_codes = plan.weight.codes;
  state.bits = plan.weight.bits;
  state.scale = plan.weight.scale * plan.input.scale;
  state.bias = plan.bias;
  state.zero_point = plan.input.zero_point;
  const std::int64_t top = plan.input.max_code();
  state.max_product_code = plan.input.form == CodeForm::kQuadratic ? top * top : top;
  return state;
}

TEST(PackCodes, RoundTripOfAllNibblesAndOddWidths) {
  const at::Tensor all = at::arange(-8, 8, at::kInt).to(at::kChar).view({2, 8});
  EXPECT_EQ(pack_codes(all, 4).sizes(), (std::vector<std::int64_t>{2, 4}));
  // Nibbles that stand for the codes themselves.
  const at::Tensor codes = nibble_levels({});
  EXPECT_TRUE(at::equal(unpack_levels(pack_codes(all, 4), 4, 8, codes), all));
  const at::Tensor odd = all.flatten().slice(0, 0, 15).view({3, 5});
  EXPECT_EQ(pack_codes(odd, 3).sizes(), (std::vector<std::int64_t>{3, 3}));
  EXPECT_TRUE(at::equal(unpack_levels(pack_codes(odd, 3), 3, 5, codes), odd));
  const at::Tensor wide = at::arange(-127, 128, at::kInt).to(at::kChar).view({5, 51});
  EXPECT_TRUE(at::equal(pack_codes(wide, 8), wide));
}

TEST_F(ClassesTest, LinearFloatOutput) {
  for (const int weight_bits : {2, 3, 4, 6, 8}) {
    for (const int bits : {3, 4, 8}) {
      const LinearPlan plan = random_linear(48, 65, weight_bits, bits);
      const Module module = reloaded(factory.linear(lowered(plan)));
      const at::Tensor codes = encode(at::randn({2, 37, 65}) * 2, plan.input);
      expect_close(run(module, {codes.to(at::kByte)}), linear_from_codes(plan, codes, {}));
    }
  }
}

TEST_F(ClassesTest, LinearWithLevels) {
  for (const int weight_bits : {2, 3, 4}) {
    LinearPlan plan = random_linear(48, 65, weight_bits, 8);
    // No two alike, both ends at their bounds.
    const std::int64_t count = std::int64_t{1} << weight_bits;
    plan.weight.levels = at::linspace(-64, 64, count).round().to(at::kChar);
    plan.weight.codes =
        plan.weight.levels.index_select(0, at::randint(0, count, {48 * 65}, at::kLong))
            .view({48, 65});
    LinearState state = lowered(plan);
    state.weight_codes = plan.weight.numbered();
    state.levels = plan.weight.levels;
    const Module module = reloaded(factory.linear(state));
    const at::Tensor codes = encode(at::randn({2, 37, 65}) * 2, plan.input);
    expect_close(run(module, {codes.to(at::kByte)}), linear_from_codes(plan, codes, {}));
    EXPECT_TRUE(at::equal(unpack_levels(pack_codes(state.weight_codes, weight_bits), weight_bits,
                                        65, nibble_levels(plan.weight.levels)),
                          plan.weight.codes));
  }
}

TEST_F(ClassesTest, LinearTakesAnyRankAndNonContiguousCodes) {
  const LinearPlan plan = random_linear(16, 24, 4, 4);
  const Module module = factory.linear(lowered(plan));
  for (const auto& shape :
       std::vector<std::vector<std::int64_t>>{{24}, {3, 24}, {2, 3, 24}, {2, 3, 4, 24}}) {
    const at::Tensor codes = encode(at::randn(shape) * 2, plan.input);
    expect_close(run(module, {codes.to(at::kByte)}), linear_from_codes(plan, codes, {}));
  }
  const at::Tensor codes = encode(at::randn({2, 24, 5}) * 2, plan.input).transpose(1, 2);
  expect_close(run(module, {codes.to(at::kByte)}), linear_from_codes(plan, codes, {}));
}

TEST_F(ClassesTest, LinearKeepsTheSizesOfNoRows) {
  const Module module = factory.linear(lowered(random_linear(16, 24, 8, 8)));
  for (std::vector<std::int64_t> shape :
       std::vector<std::vector<std::int64_t>>{{0, 24}, {2, 0, 24}, {0, 3, 24}, {2, 0, 4, 24}}) {
    const at::Tensor y = run(module, {at::zeros(shape, at::kByte)});
    shape.back() = 16;
    EXPECT_EQ(y.sizes(), shape);
  }
}

TEST_F(ClassesTest, SaturatingExtremesAreExact) {
  // All codes at their largest: where pairs of products are added in 16 bits, this is wrong.
  LinearPlan plan = random_linear(32, 64, 8, 8);
  plan.weight.codes.fill_(127);
  plan.weight.codes.select(0, 1).fill_(-127);
  plan.input.zero_point = 0;
  const at::Tensor codes = at::full({5, 64}, 255, at::kFloat);
  expect_close(run(reloaded(factory.linear(lowered(plan))), {codes.to(at::kByte)}),
               linear_from_codes(plan, codes, {}));
}

TEST_F(ClassesTest, LinearOperandCodesPerChannel) {
  for (const int bits : {4, 8}) {
    const LinearPlan plan = random_linear(48, 64, 4, 4);
    const at::Tensor multiplier = at::rand({48}) * 3 + 1;
    const at::Tensor zero = at::randint(0, 1 << bits, {48}, at::kFloat);
    const std::int64_t shift = bits == 8 ? 128 : 0;
    LinearState state = lowered(plan);
    state.scale = state.scale * multiplier;
    state.bias = state.bias * multiplier + zero - static_cast<double>(shift);
    state.output = LinearOutput::kOperandCodes;
    state.output_low = -shift;
    state.output_high = (1 << bits) - 1 - shift;
    const at::Tensor codes = encode(at::randn({2, 50, 64}) * 2, plan.input);
    const OperandQuantizer next{bits, multiplier, multiplier.reciprocal(), zero};
    const at::Tensor expected = encode(linear_from_codes(plan, codes, {}), next);
    const at::Tensor got = run(reloaded(factory.linear(state)), {codes.to(at::kByte)});
    EXPECT_EQ(got.scalar_type(), at::kChar);
    expect_close_codes(got.to(at::kFloat) + static_cast<double>(shift), expected);
  }
}

TEST_F(ClassesTest, LinearProductCodesThroughActivation) {
  for (const auto activation :
       {LinearActivation::kNone, LinearActivation::kGeluTanh, LinearActivation::kRelu}) {
    for (const auto form : {CodeForm::kUniform, CodeForm::kQuadratic}) {
      for (const int bits : {3, 4, 8}) {
        if (form == CodeForm::kQuadratic && bits > 4) continue;
        const LinearPlan plan = random_linear(96, 64, 8, 8);
        const InputQuantizer next = random_linear(1, 1, 4, bits, form).input;
        LinearState state = lowered(plan);
        state.activation = activation;
        state.output = LinearOutput::kProductCodes;
        state.output_scale = next.scale;
        state.output_zero = next.zero_point;
        state.output_max_code = next.max_code();
        state.output_quadratic = form == CodeForm::kQuadratic;
        const at::Tensor codes = encode(at::randn({2, 50, 64}) * 2, plan.input);
        at::Tensor y = linear_from_codes(plan, codes, {});
        if (activation == LinearActivation::kGeluTanh) y = at::gelu(y, "tanh");
        if (activation == LinearActivation::kRelu) y = at::relu(y);
        at::Tensor got = run(reloaded(factory.linear(state)), {codes.to(at::kByte)});
        EXPECT_EQ(got.scalar_type(), at::kByte);
        got = got.to(at::kFloat);
        if (form == CodeForm::kQuadratic) got = got.sqrt();
        expect_close_codes(got, encode(y, next));
      }
    }
  }
}

TEST_F(ClassesTest, Embedding) {
  for (const int bits : {2, 3, 4, 6, 8}) {
    for (const std::int64_t columns : {8, 15}) {
      const EmbeddingPlan plan{random_weight(20, columns, bits)};
      const Module module =
          reloaded(factory.embedding({plan.table.codes, plan.table.bits, plan.table.scale}));
      for (const auto type : {at::kLong, at::kInt}) {
        const at::Tensor indices = at::randint(0, 20, {2, 3, 4}, type);
        EXPECT_TRUE(at::equal(run(module, {indices}), simulate_embedding(plan, indices)));
        EXPECT_TRUE(at::equal(run(module, {indices[0][0]}),
                              plan.table.dequantize().index_select(0, indices[0][0])));
      }
    }
  }
}

TEST_F(ClassesTest, WeightOnly) {
  for (const int bits : {3, 4, 8}) {
    LinearPlan plan = random_linear(40, 33, bits, 8);
    plan.quantized_input = false;
    const Module module = reloaded(factory.weight_only(weight_only_state(plan, "fc")));
    const at::Tensor x = at::randn({3, 7, 33});
    expect_close(run(module, {x}), simulate_linear(plan, x));
  }
}

TEST_F(ClassesTest, WeightOnlyWithGroups) {
  LinearPlan plan = random_linear(40, 33, 4, 8);
  plan.quantized_input = false;
  plan.weight.group_size = 16;  // two groups and one column
  plan.weight.scale = at::rand({40, 3}) + 0.01;
  const Module module = reloaded(factory.weight_only(weight_only_state(plan, "fc")));
  const at::Tensor x = at::randn({3, 7, 33});
  expect_close(run(module, {x}), simulate_linear(plan, x));
}

TEST_F(ClassesTest, WeightOnlyWithLevels) {
  for (const int bits : {3, 4, 6}) {
    LinearPlan plan = random_linear(40, 33, bits, 8);
    plan.quantized_input = false;
    const std::int64_t count = std::int64_t{1} << bits;
    plan.weight.levels = (at::arange(count, at::kInt) * 2 - count).to(at::kChar);
    plan.weight.codes = (plan.weight.codes * 2).to(at::kChar);
    const Module module = reloaded(factory.weight_only(weight_only_state(plan, "fc")));
    const at::Tensor x = at::randn({3, 7, 33});
    expect_close(run(module, {x}), simulate_linear(plan, x));
  }
}

TEST_F(ClassesTest, SideColumnsAreAdded) {
  LinearPlan plan = random_linear(40, 32, 4, 4);
  plan.side.channels = {3, 17};
  plan.side.scale = at::tensor({2.0F, 0.125F});
  plan.side.zero_point = at::tensor({100.0F, 3.0F});
  plan.side.weight = random_weight(40, 2, 8);
  plan.weight.codes.index_fill_(1, at::tensor({3, 17}, at::kLong), 0);
  const at::Tensor x = at::randn({2, 9, 32}) * 50;
  SideState state{at::tensor(plan.side.channels), plan.side.scale,       plan.side.zero_point, 8,
                  plan.side.weight.codes,         plan.side.weight.scale};
  const at::Tensor main = run(factory.linear(lowered(plan)), {encode(x, plan.input).to(at::kByte)});
  expect_close(run(reloaded(factory.side(state)), {main, x}), simulate_linear(plan, x));
}

TEST_F(ClassesTest, QuantizeAllForms) {
  const at::Tensor x = at::randn({2, 3, 11, 8}) * 3;
  for (const int bits : {3, 4, 7, 8}) {
    const InputQuantizer per_tensor = random_linear(1, 8, 4, bits).input;
    const auto quantize = [&](const InputQuantizer& q) {
      return reloaded(factory.quantize(
          {q.multiplier, q.offset, q.max_code(), q.form == CodeForm::kQuadratic, false, 0}));
    };
    expect_close_codes(run(quantize(per_tensor), {x}), encode(x, per_tensor));
    InputQuantizer per_channel = per_tensor;
    per_channel.multiplier = at::rand({8}) * 5;
    per_channel.offset = at::rand({8}) * 9;
    expect_close_codes(run(quantize(per_channel), {x}), encode(x, per_channel));

    OperandQuantizer operand{bits, at::rand({3, 1, 1}) * 5, {}, at::randint(0, 8, {3, 1, 1})};
    operand.zero_point = operand.zero_point.to(at::kFloat);
    const std::int64_t shift = bits == 8 ? 128 : 0;
    const at::Tensor got = run(reloaded(factory.quantize({operand.multiplier, operand.zero_point,
                                                          operand.max_code(), false, true, shift})),
                               {x});
    EXPECT_EQ(got.scalar_type(), at::kChar);
    expect_close_codes(got.to(at::kFloat) + static_cast<double>(shift), encode(x, operand));
  }
  const InputQuantizer quadratic = random_linear(1, 8, 4, 4, CodeForm::kQuadratic).input;
  const Module module = factory.quantize({quadratic.multiplier, quadratic.offset, 15, true});
  const at::Tensor got = run(module, {x});
  expect_close_codes(got.to(at::kFloat).sqrt(), encode(x, quadratic));
}

TEST_F(ClassesTest, NormQuantizeFoldsTheChannelVectors) {
  for (const int bits : {4, 8}) {
    InputQuantizer input = random_linear(1, 24, 4, bits).input;
    input.multiplier = at::rand({24}) * 4 + 1;
    input.offset = at::rand({24}) * 6;
    const at::Tensor gamma = at::randn({24}), beta = at::randn({24});
    const at::Tensor x = at::randn({2, 200, 24}) * 5 + 1;
    NormQuantizeState state{gamma * input.multiplier,
                            beta * input.multiplier + input.offset,
                            {24},
                            1e-6,
                            input.max_code()};
    const at::Tensor expected = encode(at::layer_norm(x, {24}, gamma, beta, 1e-6), input);
    expect_close_codes(run(reloaded(factory.norm_quantize(state)), {x}), expected);
  }
}

TEST_F(ClassesTest, NormQuantizeOfRmsNormAddsTheOffset) {
  InputQuantizer input = random_linear(1, 24, 4, 8).input;
  input.multiplier = at::rand({24}) * 4 + 1;
  input.offset = at::rand({24}) * 6 + 100;
  const at::Tensor gamma = at::randn({24});
  const at::Tensor x = at::randn({2, 200, 24}) * 5 + 1;
  const NormQuantizeState state{gamma * input.multiplier, input.offset, {24}, 1e-6, 255, true};
  const at::Tensor normalised = x * (x.square().mean(-1, true) + 1e-6).rsqrt() * gamma;
  expect_close_codes(run(reloaded(factory.norm_quantize(state)), {x}), encode(normalised, input));
}

}  // namespace
}  // namespace repquant
