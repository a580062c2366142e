// Linears of groups of channels in one call are those of the groups, one after the other.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <tuple>
#include <vector>

#include "ops/levels.h"
#include "ops/operators.h"

namespace repquant {
namespace {

/// `count` Linears from `columns` to `channels`.
struct GroupsCase {
  std::int64_t count, columns, channels;
  int bits;
  bool scaled, shifted, learned;
  std::int64_t activation = 0;
};

struct GroupTensors {
  at::Tensor x, weight, compensation, scale, bias, sums, multiplier, offset;
  std::vector<at::Tensor> levels;

  explicit GroupTensors(const GroupsCase& c) {
    at::manual_seed(7);
    x = at::randn({3, 41, c.count * c.columns}) * at::rand({3, 41, 1});
    std::vector<at::Tensor> weights, compensations, scales, biases, all_sums;
    const int top = (1 << (c.bits - 1)) - 1;
    for (std::int64_t g = 0; g < c.count; ++g) {
      const auto packed = testing::pack(
          testing::random_codes(-top, top, {c.channels, c.columns}, at::kChar), c.bits);
      weights.push_back(packed.weight);
      compensations.push_back(at::zeros_like(packed.sums));
      scales.push_back(testing::padded(at::rand({c.channels}) * 0.1));
      biases.push_back(testing::padded(at::randn({c.channels})));
      all_sums.push_back(testing::padded(at::randn({c.channels})));
      if (c.learned) {
        levels.push_back(std::get<0>(at::randperm(256).slice(0, 0, 16).sort()).to(at::kByte));
      }
    }
    weight = at::stack(weights);
    compensation = at::stack(compensations);
    scale = at::stack(scales);
    bias = at::stack(biases);
    sums = at::stack(all_sums);
    if (c.scaled) multiplier = at::rand({c.count * c.columns}) + 0.5;
    if (c.shifted) offset = at::randn({c.count * c.columns});
  }

  at::Tensor grouped(const GroupsCase& c) const {
    return ops::grouped_linear_cpu(x, weight, compensation, scale, bias, sums, c.channels,
                                   c.columns, c.bits, c.activation, 255, levels, given(multiplier),
                                   given(offset));
  }

  at::Tensor one_by_one(const GroupsCase& c) const {
    std::vector<at::Tensor> parts;
    for (std::int64_t g = 0; g < c.count; ++g) {
      const auto part = [&](const at::Tensor& of_columns) {
        return of_columns.defined() ? given(of_columns.narrow(0, g * c.columns, c.columns))
                                    : std::nullopt;
      };
      const auto [codes, rows] = ops::token_quantize_cpu(
          x.narrow(-1, g * c.columns, c.columns), 255,
          levels.empty() ? std::nullopt : given(levels[static_cast<std::size_t>(g)]),
          part(multiplier), part(offset));
      parts.push_back(ops::linear_cpu(codes, weight[g], compensation[g], scale[g], bias[g], {}, {},
                                      {}, c.channels, c.columns, c.bits, c.activation, 0, 0, 255,
                                      false, rows, sums[g]));
    }
    return at::cat(parts, -1);
  }

  static ops::OptionalTensor given(const at::Tensor& tensor) {
    return tensor.defined() ? ops::OptionalTensor(tensor) : std::nullopt;
  }
};

TEST(GroupedLinear, IsTheGroupsOneByOneForAnyThreads) {
  const std::vector<GroupsCase> cases{{12, 16, 16, 8, false, false, false},
                                      {3, 20, 70, 8, true, true, false, 4},
                                      {5, 8, 4, 4, true, false, true},
                                      {2, 192, 192, 6, false, false, true, 2},
                                      {1, 4, 1, 8, true, true, true}};
  for (const auto& level : ops::cpu_levels()) {
    const testing::LevelScope scope(level);
    for (const GroupsCase& c : cases) {
      const GroupTensors tensors(c);
      const at::Tensor expected = tensors.one_by_one(c);
      for (const int threads : {1, 2}) {
        const int before = at::get_num_threads();
        at::set_num_threads(threads);
        const at::Tensor got = tensors.grouped(c);
        at::set_num_threads(before);
        EXPECT_TRUE(at::equal(got, expected)) << level << " " << c.columns << " " << threads;
      }
    }
  }
}

TEST(GroupedLinear, RefusesWhatDoesNotFit) {
  const GroupsCase c{3, 16, 16, 8, true, true, true};
  const GroupTensors tensors(c);
  EXPECT_NO_THROW(tensors.grouped(c));
  const auto refused = [&](auto change) {
    GroupTensors changed = tensors;
    GroupsCase with = c;
    change(changed, with);
    EXPECT_THROW(changed.grouped(with), c10::Error);
  };
  refused([](auto& t, auto&) { t.x = t.x.narrow(-1, 0, 47); });
  refused([](auto& t, auto&) { t.x = t.x.to(at::kDouble); });
  refused([](auto& t, auto&) { t.weight = t.weight.narrow(0, 0, 2); });
  refused([](auto& t, auto&) { t.scale = t.scale.narrow(0, 0, 2); });
  refused([](auto& t, auto&) { t.sums = t.sums.slice(1, 1); });
  refused([](auto& t, auto&) { t.offset = t.offset.slice(0, 1); });
  refused([](auto& t, auto&) { t.levels.pop_back(); });
  refused([](auto&, auto& with) { with.columns = 12; });
  refused([](auto&, auto& with) { with.channels = 65; });
  refused([](auto&, auto& with) { with.activation = 9; });
}

}  // namespace
}  // namespace repquant
