#include "graph/resized_inputs.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>

namespace repquant {
namespace {

using Axis = std::pair<std::size_t, std::int64_t>;  // which input, and which axis of it
using Axes = std::set<Axis>;

bool has_sides(const at::Tensor& input) { return input.dim() >= 4 && input.is_floating_point(); }

/// The last axis of values for each token is their width, whatever its size.
bool may_be_width(const at::Tensor& input, std::int64_t axis) {
  return input.dim() == 3 && axis == 2 && input.is_floating_point();
}

/// Sizes to try, the likeliest first: images want whole patches and windows, and twice the size is
/// a multiple of whatever the size is.
std::vector<std::int64_t> other_sizes(std::int64_t size, bool sides) {
  constexpr std::int64_t kImageStep = 32, kPatch = 8;
  const std::int64_t half = size / 2, two_thirds = size - size / 3;
  std::vector<std::int64_t> sizes;
  const auto add = [&](std::int64_t other) {
    if (other >= 2 && other != size && std::count(sizes.begin(), sizes.end(), other) == 0) {
      sizes.push_back(other);
    }
  };
  if (sides) {
    add(half / kImageStep * kImageStep);
    add(two_thirds / kPatch * kPatch);
  }
  for (const std::int64_t other : {two_thirds, half, 2 * size}) add(other);
  return sizes;
}

at::Tensor resized(const at::Tensor& input, std::int64_t axis, std::int64_t size) {
  const std::int64_t old = input.size(axis);
  if (size <= old) return input.narrow(axis, 0, size);
  return input.index_select(axis, at::arange(size).remainder(old));
}

std::string words_for(const at::Tensor& input, std::int64_t size) {
  if (!has_sides(input)) return "length " + std::to_string(size);
  std::string text;
  for (std::int64_t axis = 2; axis < input.dim(); ++axis) {
    text += (axis == 2 ? "" : " x ") + std::to_string(input.size(axis));
  }
  return text;
}

ResizedInputs resize(const std::vector<at::Tensor>& batch, const Axes& axes, std::int64_t size) {
  ResizedInputs result{.shape = "", .inputs = batch};
  for (const auto& [input, axis] : axes) {
    result.inputs[input] = resized(result.inputs[input], axis, size);
  }
  for (at::Tensor& input : result.inputs) input = input.contiguous();
  result.shape = words_for(result.inputs[axes.begin()->first], size);
  return result;
}

/// Sets of axes of one size, in the order in which they are tried.
std::vector<std::pair<std::int64_t, Axes>> sets_of_axes(const std::vector<at::Tensor>& batch) {
  std::map<std::int64_t, Axes> all, lengths;  // by size
  std::vector<std::int64_t> sizes;            // in order
  for (std::size_t i = 0; i < batch.size(); ++i) {
    for (std::int64_t axis = 1; axis < batch[i].dim() && batch[i].numel() > 0; ++axis) {
      const std::int64_t size = batch[i].size(axis);
      if (size < 2) continue;
      if (all[size].empty()) sizes.push_back(size);
      all[size].insert({i, axis});
      if (!may_be_width(batch[i], axis)) lengths[size].insert({i, axis});
    }
  }
  std::vector<std::pair<std::int64_t, Axes>> sets;
  const auto add = [&](std::int64_t size, Axes axes) {
    const auto known = [&](const auto& set) { return set.second == axes; };
    if (axes.empty() || std::any_of(sets.begin(), sets.end(), known)) return;
    sets.emplace_back(size, std::move(axes));
  };
  for (const std::int64_t size : sizes) {
    add(size, lengths[size]);
    add(size, all[size]);
    for (const Axis& axis : lengths[size]) add(size, {axis});
  }
  return sets;
}

}  // namespace

void try_other_sizes(const std::vector<at::Tensor>& batch,
                     const std::function<bool(const ResizedInputs&)>& take) {
  Axes taken;
  for (const auto& [size, axes] : sets_of_axes(batch)) {
    if (std::includes(taken.begin(), taken.end(), axes.begin(), axes.end())) continue;
    const bool sides = has_sides(batch[axes.begin()->first]);
    for (const std::int64_t other : other_sizes(size, sides)) {
      if (!take(resize(batch, axes, other))) continue;
      taken.insert(axes.begin(), axes.end());
      break;
    }
  }
}

}  // namespace repquant
