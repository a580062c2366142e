// Reshapes and permutations in one step are those one after the other.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <random>

#include "ops/operators.h"
#include "ops/rearrange.h"

namespace repquant {
namespace {

using List = std::vector<std::int64_t>;
using Random = std::mt19937;

std::int64_t below(Random& random, std::int64_t n) {
  return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n));
}

/// Sizes of `numel` elements.
List random_sizes(Random& random, std::int64_t numel) {
  List sizes;
  while (numel > 1 && sizes.size() < 5) {
    List divisors;
    for (std::int64_t d = 1; d <= numel; ++d) {
      if (numel % d == 0) divisors.push_back(d);
    }
    sizes.push_back(divisors[static_cast<std::size_t>(
        below(random, static_cast<std::int64_t>(divisors.size())))]);
    numel /= sizes.back();
  }
  sizes.push_back(numel);
  return sizes;
}

List random_order(Random& random, std::int64_t rank) {
  List order(static_cast<std::size_t>(rank));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  return order;
}

/// Tensors as models have them: in order, permuted, parts of others, repeated.
at::Tensor random_tensor(Random& random, at::ScalarType type) {
  const List shapes[] = {{2, 12, 8, 6}, {4, 3, 10}, {72}, {1, 1}, {2, 96, 5}, {3, 2, 2, 2, 3}, {}};
  const List& sizes = shapes[below(random, 7)];
  at::Tensor x = at::randint(0, 100, sizes, at::kFloat).to(type);
  if (below(random, 2) == 0) x = x.permute(random_order(random, x.dim()));
  if (x.dim() > 0 && below(random, 3) == 0) x = x.slice(0, x.size(0) / 2);
  if (x.dim() > 1 && below(random, 3) == 0) x = x.select(1, 0).unsqueeze(1).expand_as(x);
  return x;
}

TEST(Rearrange, IsWhatTheStepsAreOneAfterTheOther) {
  Random random(3);
  at::manual_seed(3);
  for (int round = 0; round < 3000; ++round) {
    const auto type = std::array{at::kFloat, at::kByte, at::kLong, at::kHalf,
                                 at::kComplexDouble}[static_cast<std::size_t>(below(random, 5))];
    const at::Tensor x = random_tensor(random, type);
    at::Tensor expected = x;
    List sizes, steps;
    for (std::int64_t i = below(random, 7); i >= 0; --i) {
      if (below(random, 2) == 0) {
        List to = random_sizes(random, x.numel());
        expected = expected.reshape(to);
        if (below(random, 3) == 0) {
          to[static_cast<std::size_t>(below(random, static_cast<std::int64_t>(to.size())))] = -1;
        }
        sizes.insert(sizes.end(), to.begin(), to.end());
        steps.insert(steps.end(), {ops::kReshapeStep, static_cast<std::int64_t>(to.size())});
      } else if (expected.dim() > 0 && below(random, 2) == 0) {
        const std::int64_t a = below(random, expected.dim()),
                           b = -1 - below(random, expected.dim());
        expected = expected.transpose(a, b);
        steps.insert(steps.end(), {ops::kTransposeStep, 2, a, b});
      } else {
        const List order = random_order(random, expected.dim());
        expected = expected.permute(order);
        steps.insert(steps.end(), {ops::kPermuteStep, expected.dim()});
        steps.insert(steps.end(), order.begin(), order.end());
      }
    }
    const at::Tensor got = ops::rearrange_cpu(x, sizes, steps);
    ASSERT_EQ(got.sizes(), expected.sizes()) << x.sizes() << x.strides() << sizes << steps;
    ASSERT_EQ(got.scalar_type(), expected.scalar_type());
    ASSERT_TRUE(at::equal(got, expected)) << x.sizes() << x.strides() << sizes << steps;
    const at::Tensor shape_only = ops::rearrange_meta(x.to(at::kMeta), sizes, steps);
    ASSERT_EQ(shape_only.sizes(), expected.sizes());
  }
}

// Windows of tokens as MobileViT makes them: three copies by LibTorch.
TEST(Rearrange, CopiesOnceOrNotAtAll) {
  const at::Tensor image = at::randn({2, 16, 16, 12}), x = image.permute({0, 3, 1, 2});
  const List sizes{2 * 12 * 8, 2, 8, 2, 2, 12, 64, 4, 8, 64, 12};
  const List steps{ops::kReshapeStep, 4, ops::kTransposeStep, 2, 1, 2,
                   ops::kReshapeStep, 4, ops::kTransposeStep, 2, 1, 3,
                   ops::kReshapeStep, 3};
  const at::Tensor windows = ops::rearrange_cpu(x, sizes, steps);
  EXPECT_TRUE(windows.is_contiguous());
  EXPECT_EQ(windows.sizes(), (List{8, 64, 12}));
  const List back{2, 4, 64, 12, 2 * 12 * 8, 8, 2, 2, 2, 12, 16, 16};
  const List steps_back{ops::kReshapeStep,
                        4,
                        ops::kTransposeStep,
                        2,
                        1,
                        3,
                        ops::kReshapeStep,
                        4,
                        ops::kTransposeStep,
                        2,
                        1,
                        2,
                        ops::kReshapeStep,
                        4,
                        ops::kPermuteStep,
                        4,
                        0,
                        2,
                        3,
                        1};
  EXPECT_TRUE(at::equal(ops::rearrange_cpu(windows, back, steps_back), image));
  List all = sizes, all_steps = steps;
  all.insert(all.end(), back.begin(), back.end());
  all_steps.insert(all_steps.end(), steps_back.begin(), steps_back.end());
  const at::Tensor same = ops::rearrange_cpu(x, all, all_steps);
  EXPECT_EQ(same.const_data_ptr(), image.const_data_ptr());
  EXPECT_EQ(same.strides(), image.strides());
}

TEST(Rearrange, RefusesStepsThatDoNotFit) {
  const at::Tensor x = at::randn({4, 6});
  const auto call = [&](const List& sizes, const List& steps) {
    return ops::rearrange_cpu(x, sizes, steps);
  };
  EXPECT_THROW(call({5, 5}, {ops::kReshapeStep, 2}), c10::Error);
  EXPECT_THROW(call({-1, 5}, {ops::kReshapeStep, 2}), c10::Error);
  EXPECT_THROW(call({-1, -1}, {ops::kReshapeStep, 2}), c10::Error);
  EXPECT_THROW(call({24}, {ops::kReshapeStep, 2}), c10::Error);
  EXPECT_THROW(call({}, {ops::kReshapeStep}), c10::Error);
  EXPECT_THROW(call({24}, {ops::kReshapeStep, -1}), c10::Error);
  EXPECT_THROW(call({}, {ops::kTransposeStep, 2, 0, 2}), c10::Error);
  EXPECT_THROW(call({}, {ops::kPermuteStep, 2, 1, 1}), c10::Error);
  EXPECT_THROW(call({}, {ops::kTransposeStep, 1, 1}), c10::Error);
  EXPECT_THROW(call({}, {9, 2, 0, 1}), c10::Error);
  constexpr std::int64_t kHuge = std::int64_t{1} << 32;
  EXPECT_THROW(call({kHuge, kHuge, 24}, {ops::kReshapeStep, 3}), c10::Error);
  EXPECT_THROW(call({kHuge, kHuge, -1}, {ops::kReshapeStep, 3}), c10::Error);
  EXPECT_THROW(call({-4, -6}, {ops::kReshapeStep, 2}), c10::Error);
  EXPECT_THROW(call({}, {ops::kPermuteStep, 3, 0, 1, 2}), c10::Error);
}

TEST(Rearrange, ATensorInOrder) {
  at::manual_seed(4);
  for (const auto type : {at::kFloat, at::kByte, at::kShort, at::kDouble, at::kComplexDouble}) {
    for (const List& sizes : {List{2, 3, 17, 19}, List{3, 40, 9, 9}, List{1, 64, 32, 32}}) {
      const at::Tensor x = at::randint(0, 200, sizes, at::kFloat).to(type);
      for (const List& order : {List{0, 2, 3, 1}, List{0, 3, 1, 2}, List{3, 2, 1, 0}}) {
        const at::Tensor y = ops::in_order(x.permute(order));
        EXPECT_TRUE(y.is_contiguous());
        EXPECT_TRUE(at::equal(y, x.permute(order)));
      }
      EXPECT_EQ(ops::in_order(x).const_data_ptr(), x.const_data_ptr());
    }
    EXPECT_EQ(ops::in_order(at::zeros({0, 3, 5}, type).transpose(0, 1)).numel(), 0);
  }
}

}  // namespace
}  // namespace repquant
