#include "tensor/products.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace repquant {
namespace {

using internal::add_product;
using internal::MatrixView;

template <typename T>
MatrixView<T> view_of(const at::Tensor& t) {
  return {t.const_data_ptr<T>(), t.size(0), t.size(1), t.stride(0), t.stride(1)};
}

template <typename T>
void expect_product(at::ScalarType type, bool left_columns, bool right_columns) {
  at::manual_seed(1);
  const auto random = [&](std::int64_t rows, std::int64_t columns, bool turned) {
    return turned ? at::randn({columns, rows}, type).t() : at::randn({rows, columns}, type);
  };
  const at::Tensor a = random(37, 300, left_columns), b = random(300, 21, right_columns);
  const at::Tensor out = at::randn({37, 40}, type);
  const at::Tensor expected = out.to(at::kDouble);
  expected.slice(1, 0, 21).add_(at::mm(a.to(at::kDouble), b.to(at::kDouble)), -2);
  add_product(view_of<T>(a), view_of<T>(b), T{-2}, out.mutable_data_ptr<T>(), out.stride(0));
  EXPECT_TRUE(at::allclose(out.to(at::kDouble), expected, 1e-4, 1e-4));
}

TEST(Products, RowsAndColumnsInMemory) {
  if (!internal::has_fast_products()) GTEST_SKIP() << "this processor has no AVX-512";
  for (const bool left : {false, true}) {
    for (const bool right : {false, true}) {
      expect_product<float>(at::kFloat, left, right);
      expect_product<double>(at::kDouble, left, right);
    }
  }
}

at::Tensor add_in_place(const at::Tensor& a, const at::Tensor& b, double beta) {
  const at::Tensor wide = at::ones({a.size(0), b.size(1) + 3}, a.options());
  const at::Tensor out = wide.slice(1, 1, b.size(1) + 1);
  out.addmm_(a, b, beta, 0.5);
  EXPECT_EQ(wide.select(1, 0).sum().item<double>(), a.size(0)) << "a column beside it";
  return out;
}

/// Whatever LibTorch multiplies: in place, with a bias, batches, gradients, views, other types.
std::vector<at::Tensor> products_of(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor bias = at::arange(b.size(1), a.options()), rows = a.view({2, -1, a.size(1)});
  return {
      at::mm(a, b),
      at::mm(b.t(), a.t()),
      at::mm(a.slice(0, 0, a.size(0), 2), b),
      at::mm(a.slice(1, 0, a.size(1), 2), b.slice(0, 0, b.size(0), 2)),
      at::mm(a.select(0, 0).expand_as(a), b),
      at::addmm(bias, a, b),
      at::addmm(bias, a, b, 0.5, 2),
      at::addmm(at::ones({1, 1}, a.options()), a, b, 1, -1),
      at::addmm(at::full({1}, NAN, a.options()), a, b, 0, 1),
      at::linear(rows, b.t(), bias),
      at::linear(rows, b.t()),
      at::matmul(rows, b),
      at::matmul(rows, rows.transpose(-2, -1)),
      at::bmm(rows, b.expand({2, b.size(0), b.size(1)})),
      add_in_place(a, b, 1),
      add_in_place(a, b, 0),
  };
}

TEST(Products, AreThoseOfLibTorch) {
  at::manual_seed(2);
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    for (const std::int64_t size : {2, 64, 200}) {
      const at::Tensor a = at::randn({2 * size, size}, type), b = at::randn({size, size / 2}, type);
      const std::vector<at::Tensor> expected = products_of(a, b);
      const FastProducts fast;
      const std::vector<at::Tensor> got = products_of(a, b);
      for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(got[i].sizes(), expected[i].sizes()) << i;
        ASSERT_EQ(got[i].scalar_type(), type) << i;
        EXPECT_TRUE(at::allclose(got[i], expected[i], 1e-4, 1e-3)) << i << " of " << size;
      }
    }
  }
}

TEST(Products, HaveGradients) {
  at::manual_seed(3);
  const auto gradients = [](const at::Tensor& x, const at::Tensor& w) {
    const at::Tensor a = x.clone().requires_grad_(true), b = w.clone().requires_grad_(true);
    at::linear(a, b, at::ones({w.size(0)})).square().sum().backward();
    return std::vector<at::Tensor>{a.grad(), b.grad()};
  };
  const at::Tensor x = at::randn({3, 50, 70}), w = at::randn({40, 70});
  const std::vector<at::Tensor> expected = gradients(x, w);
  const FastProducts fast;
  const std::vector<at::Tensor> got = gradients(x, w);
  for (std::size_t i = 0; i < 2; ++i) EXPECT_TRUE(at::allclose(got[i], expected[i], 1e-4, 1e-2));
}

TEST(Products, ThatDoNotFitFailAsBefore) {
  const FastProducts fast;
  const at::Tensor a = at::ones({64, 64}), b = at::ones({65, 64});
  EXPECT_THROW(at::mm(a, b), c10::Error);
  EXPECT_THROW(at::addmm(at::ones({7}), a, a), c10::Error);
  EXPECT_THROW(at::bmm(a.unsqueeze(0), b.unsqueeze(0)), c10::Error);
  EXPECT_THROW(at::mm(a, a.to(at::kDouble)), c10::Error);
  at::Tensor narrow = at::ones({64, 1});
  EXPECT_THROW(narrow.addmm_(a, a), c10::Error);
}

// Sums do not depend on what else is computed at the same time.
TEST(Products, AreRepeated) {
  const at::Tensor a = at::randn({197, 768}), b = at::randn({768, 192});
  at::Tensor first;
  {
    const FastProducts fast;
    first = at::mm(a, b);
    const FastProducts again;
    EXPECT_TRUE(at::equal(first, at::mm(a, b)));
  }
  EXPECT_TRUE(at::allclose(first, at::mm(a, b), 1e-4, 1e-3));
}

}  // namespace
}  // namespace repquant
