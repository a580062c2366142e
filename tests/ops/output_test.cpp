// Blocks that outputs leave and take.
#include "ops/output.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "format/codes.h"
#include "ops/levels.h"
#include "ops/operators.h"

namespace repquant {
namespace {

const void* place_of(const at::Tensor& tensor) { return tensor.const_data_ptr(); }

TEST(Output, LargeOnesTakeWhatEarlierOnesLeft) {
  const void* left = nullptr;
  {
    const at::Tensor first = ops::new_output({1000, 1000}, at::kFloat);
    left = place_of(first);
  }
  const at::Tensor smaller = ops::new_output({960, 1000}, at::kFloat);
  EXPECT_EQ(place_of(smaller), left);
  const at::Tensor other = ops::new_output({960, 1000}, at::kFloat);
  EXPECT_NE(place_of(other), left);
}

TEST(Output, ABlockFarTooLargeIsNotTaken) {
  const void* left = nullptr;
  {
    const at::Tensor first = ops::new_output({3000, 1000}, at::kFloat);
    left = place_of(first);
  }
  EXPECT_NE(place_of(ops::new_output({1000, 1000}, at::kFloat)), left);
}

TEST(Output, GrowsAsAnyTensor) {
  at::Tensor output = ops::new_output({600, 1000}, at::kFloat);
  output.fill_(3);
  output.resize_({1200, 1000});
  EXPECT_EQ(output.slice(0, 0, 600).min().item<float>(), 3);
  EXPECT_EQ(ops::new_output({0, 5}, at::kByte).numel(), 0);
}

// Whatever their operands are, as LibTorch's own.
TEST(Output, OperatorsOfLibTorch) {
  at::manual_seed(5);
  const at::Tensor x = at::randn({4, 300, 200}), row = at::randn({1, 1, 200});
  const at::Tensor order = at::randn({4, 200, 300}).transpose(1, 2);
  const at::Tensor whole = at::arange(200), table = at::randn({9, 300});
  const at::Tensor others[] = {x, row, order, whole, x.to(at::kDouble), at::scalar_tensor(2.0)};
  for (const at::Tensor& other : others) {
    for (const at::Tensor& first : {x, order}) {
      const at::Tensor got = ops::add_cpu(first, other, 0.5), expected = at::add(first, other, 0.5);
      EXPECT_EQ(got.scalar_type(), expected.scalar_type());
      EXPECT_EQ(got.strides(), expected.strides());
      EXPECT_TRUE(at::equal(got, expected));
      const at::Tensor product = ops::mul_cpu(first, other), whole_product = at::mul(first, other);
      EXPECT_EQ(product.scalar_type(), whole_product.scalar_type());
      EXPECT_TRUE(at::equal(product, whole_product));
    }
  }
  EXPECT_TRUE(at::equal(ops::add_cpu(whole, whole, 2), whole * 3));
  const at::Tensor joined[] = {x, order, x.to(at::kLong)};
  const at::Tensor got = ops::cat_cpu(joined, -1), expected = at::cat(joined, -1);
  EXPECT_EQ(got.scalar_type(), expected.scalar_type());
  EXPECT_TRUE(at::equal(got, expected));
  const at::Tensor places = at::randint(9, {5, 70}).t();
  EXPECT_TRUE(at::equal(ops::embedding_cpu(table, places), at::embedding(table, places)));
  EXPECT_EQ(ops::embedding_cpu(table, at::zeros({0, 3}, at::kLong)).numel(), 0);
  EXPECT_THROW(ops::embedding_cpu(table, places + 9), c10::Error);
  const at::AutoGradMode with_gradients(true);  // as a caller may leave it
  EXPECT_TRUE(at::equal(ops::add_cpu(x.clone().set_requires_grad(true), row, 1), x + row));
}

TEST(Output, RowsOfAQuantizedTable) {
  at::manual_seed(7);
  for (const int bits : {2, 4, 5, 8}) {
    for (const std::int64_t columns : {1, 15, 64}) {
      const at::Tensor codes =
          testing::random_codes(bits == 8 ? -127 : -2, 1, {20, columns}, at::kChar);
      const at::Tensor scale = at::rand({20, 1}) + 0.1, stored = pack_codes(codes, bits);
      const at::Tensor table = codes.to(at::kFloat) * scale;
      for (const auto type : {at::kLong, at::kInt}) {
        const at::Tensor indices = at::randint(0, 20, {3, 50}, type).t();
        const at::Tensor rows = ops::embedding_rows_cpu(stored, scale, indices, columns);
        EXPECT_TRUE(at::equal(rows, at::embedding(table, indices)));
        EXPECT_EQ(ops::embedding_rows_cpu(stored, scale, indices.slice(0, 0, 0), columns).numel(),
                  0);
        const at::Tensor one = ops::embedding_rows_cpu(stored, scale, indices[0][0], columns);
        EXPECT_TRUE(at::equal(one, rows[0][0]));
        EXPECT_THROW(ops::embedding_rows_cpu(stored, scale, indices + 20, columns), c10::Error);
        EXPECT_THROW(ops::embedding_rows_cpu(stored, scale, indices - 20, columns), c10::Error);
      }
      EXPECT_THROW(ops::embedding_rows_cpu(stored, scale, at::rand({3}), columns), c10::Error);
      EXPECT_THROW(ops::embedding_rows_cpu(stored, scale, at::zeros({3}, at::kLong), columns + 2),
                   c10::Error);
    }
  }
}

TEST(Output, OperatorsOfLibTorchTakeWhatIsLeft) {
  const at::Tensor x = at::randn({500, 1000});
  const void* left = nullptr;
  {
    const at::Tensor first = ops::add_cpu(x, x, 1);
    left = place_of(first);
  }
  EXPECT_EQ(place_of(ops::cat_cpu(x.split(250), 0)), left);
}

}  // namespace
}  // namespace repquant
