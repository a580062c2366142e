// What tests of single TorchScript classes share.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/export.h>
#include <torch/csrc/jit/serialization/import.h>

#include <sstream>
#include <vector>

#include "artifact/classes.h"
#include "plan/simulate.h"

namespace repquant::testing {

inline at::Tensor scalar(double value) { return at::full({1}, value, at::kFloat); }

inline at::Tensor run(const torch::jit::Module& module, const std::vector<c10::IValue>& inputs) {
  at::NoGradGuard no_grad;
  torch::jit::Module copy = module;
  return copy.forward(inputs).toTensor();
}

/// Saves and loads the module, so that every test also covers the stored form.
inline torch::jit::Module reloaded(const torch::jit::Module& module) {
  std::stringstream stream;
  module.save(stream);
  return torch::jit::load(stream);
}

/// Codes may differ by one on at most one in a thousand (rounding ties).
inline void expect_close_codes(const at::Tensor& got, const at::Tensor& expected) {
  ASSERT_EQ(got.sizes(), expected.sizes());
  const at::Tensor difference = (got.to(at::kFloat) - expected.to(at::kFloat)).abs();
  EXPECT_LE(difference.max().item<double>(), 1.0);
  EXPECT_LE(difference.gt(0).to(at::kDouble).mean().item<double>(), 1e-3);
}

inline void expect_close(const at::Tensor& got, const at::Tensor& expected,
                         double tolerance = 2e-6) {
  ASSERT_EQ(got.sizes(), expected.sizes());
  ASSERT_EQ(got.scalar_type(), at::kFloat);
  const double scale = expected.abs().max().item<double>();
  EXPECT_LE((got - expected).abs().max().item<double>(), tolerance * scale);
}

/// A grid for values from about -2 to 4.
inline InputQuantizer input_of(int bits, CodeForm form = CodeForm::kUniform) {
  InputQuantizer input;
  input.bits = bits;
  input.form = form;
  const double levels = static_cast<double>(input.max_code());
  const double top = form == CodeForm::kQuadratic ? levels * levels : levels;
  input.scale = 6.0 / top;
  input.zero_point = static_cast<int>(top / 3);
  input.multiplier = scalar(1.0 / input.scale);
  input.offset = scalar(input.zero_point);
  return input;
}

class ClassesTest : public ::testing::Test {
 protected:
  void SetUp() override { at::manual_seed(7); }
  ModuleFactory factory;
};

}  // namespace repquant::testing
