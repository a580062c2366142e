#include "fit/sensitivity.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "base/overloaded.h"
#include "fit/blocks.h"
#include "fit/gradients.h"
#include "repquant/error.h"
#include "tensor/current_error.h"
#include "tensor/parallel.h"
#include "tensor/samples.h"

namespace repquant {
namespace {

using torch::jit::Value;

/// Where a value's rows and channels are.
struct Layout {
  std::int64_t channel_axis = -1;
  bool has_heads = false;  // axis -3 of values with four axes or more
};
using Layouts = std::unordered_map<const Value*, Layout>;

/// The values whose gradients are wanted.
Layouts wanted_values(const std::vector<Site>& sites) {
  Layouts wanted;
  for (const auto& site : sites) {
    const auto* node = site.node;
    std::visit(Overloaded{[&](const LinearSite&) {
                            wanted[node->output()] = {-1, false};
                          },
                          [&](const ScoresSite&) {
                            wanted.emplace(node->input(0), Layout{-1, true});
                            wanted.emplace(node->input(1), Layout{-2, true});
                          },
                          [&](const AttendSite&) {
                            wanted.emplace(node->input(1), Layout{-1, true});
                          },
                          [](const EmbeddingSite&) {}, [](const GroupedConvolutionSite&) {}},
               site.kind);
  }
  return wanted;
}

struct Squares {
  at::Tensor tokens;    // float64 [rows]
  at::Tensor channels;  // float64 [N], sums
  double rows = 0;
  std::int64_t length = 0;  // of the value's first axis
};
using SquaresByValue = std::unordered_map<const Value*, Squares>;

Squares squares_of(const at::Tensor& gradient, const Layout& layout) {
  // Tokens that are not finite and dropped later have gradients of 0 times NaN.
  at::Tensor square = gradient.to(at::kDouble).square().nan_to_num_(0.0, 0.0, 0.0);
  if (layout.channel_axis == -2) square = square.transpose(-2, -1);
  Squares result;
  result.length = gradient.size(0);
  result.channels = square.flatten(0, -2).sum(0);
  result.rows = static_cast<double>(square.numel()) / static_cast<double>(square.size(-1));
  at::Tensor tokens = square.mean(-1);
  if (layout.has_heads && gradient.dim() >= 4) tokens = tokens.mean(-2);
  result.tokens = tokens.flatten().contiguous();
  return result;
}

/// By the number of rows of a value: 1 for rows with a gradient at any value that has as many.
using UsedRows = std::map<std::int64_t, at::Tensor>;

UsedRows used_rows(const SquaresByValue& squares) {
  UsedRows result;
  for (const auto& entry : squares) {
    const at::Tensor& tokens = entry.second.tokens;
    at::Tensor& used = result[tokens.numel()];
    const at::Tensor here = tokens > 0;
    used = used.defined() ? used.logical_or_(here) : here;
  }
  for (auto& entry : result) entry.second = entry.second.to(at::kDouble);
  return result;
}

/// The gradients of one batch, squared; empty where the model cannot be differentiated.
SquaresByValue run_batch(const torch::jit::Graph& graph, const Schedule& schedule,
                         const std::vector<GraphBlock>& blocks,
                         const std::vector<at::Tensor>& batch, const Layouts& wanted,
                         std::uint64_t seed) {
  SquaresByValue result;
  DifferentiateOptions options;
  options.seed = seed;
  options.blocks = blocks;
  options.see_gradient = [&](const Value* value, const at::Tensor& gradient) {
    result[value] = squares_of(gradient, wanted.at(value));
  };
  for (const auto& entry : wanted) options.wanted.insert(entry.first);
  differentiate(graph, schedule, batch, options);
  return result;
}

/// run_batch() a few samples at a time.
class PartwiseRun {
 public:
  PartwiseRun(const torch::jit::Graph& graph, const Schedule& schedule,
              const std::vector<Site>& sites, const std::vector<at::Tensor>& first_batch)
      : graph_(graph),
        schedule_(schedule),
        blocks_(find_blocks(schedule, sites)),
        wanted_(wanted_values(sites)) {
    if (sample_count(first_batch) < kSamplesAtOnce) return;
    // The rows of the parts follow each other only if all values have the samples in front.
    sample_ = run(samples_of(first_batch, 0, 1), 0);
    const auto several = run(samples_of(first_batch, 0, kSamplesAtOnce), 0);
    splits_ = true;
    for (const auto& [value, squares] : sample_) {
      const auto found = several.find(value);
      splits_ = splits_ && found != several.end() &&
                found->second.length == kSamplesAtOnce * squares.length;
    }
    if (!splits_) sample_.clear();
  }

  const Layouts& wanted() const { return wanted_; }
  /// Those of one sample; empty where a batch is more than its samples one after the other.
  const SquaresByValue& of_one_sample() const { return sample_; }

  SquaresByValue run_whole(const std::vector<at::Tensor>& batch, std::uint64_t seed) const {
    if (!splits_ || sample_count(batch) <= kSamplesAtOnce) return run(batch, seed);
    SquaresByValue result;
    bool even = true;
    for_each_part(batch, seed, [&](const auto& part, std::uint64_t part_seed) {
      if (!even) return;
      for (const auto& [value, squares] : run(part, part_seed)) {
        even = even && append(result[value], squares);
      }
    });
    // A model may cut its samples to the longest of those it is given.
    return even ? result : run(batch, seed);
  }

 private:
  SquaresByValue run(const std::vector<at::Tensor>& batch, std::uint64_t seed) const {
    return run_batch(graph_, schedule_, blocks_, batch, wanted_, seed);
  }

  /// False if the samples of this part have another number of rows.
  static bool append(Squares& sum, const Squares& part) {
    if (sum.tokens.defined() &&
        sum.tokens.numel() * part.length != part.tokens.numel() * sum.length) {
      return false;
    }
    sum.length += part.length;
    sum.tokens = sum.tokens.defined() ? at::cat({sum.tokens, part.tokens}) : part.tokens;
    sum.channels = sum.channels.defined() ? sum.channels + part.channels : part.channels;
    sum.rows += part.rows;
    return true;
  }

  const torch::jit::Graph& graph_;
  const Schedule& schedule_;
  std::vector<GraphBlock> blocks_;
  Layouts wanted_;
  SquaresByValue sample_;
  bool splits_ = false;
};

/// Room for the squares of each batch, taken before the passes over them: what is kept of one pass
/// would lie between what it gives back, and memory would grow by far more than what is kept.
std::vector<SquaresByValue> room_for(const SquaresByValue& sample, const Batches& batches) {
  std::int64_t samples = 0;
  for (const auto& batch : batches) samples += sample_count(batch);
  std::vector<SquaresByValue> parts(batches.size());
  for (const auto& [value, squares] : sample) {
    const std::int64_t rows = squares.tokens.numel();
    const at::Tensor tokens = at::empty({samples * rows}, at::kDouble);
    const auto count = static_cast<std::int64_t>(batches.size());
    const at::Tensor channels = at::empty({count, squares.channels.numel()}, at::kDouble);
    std::int64_t from = 0;
    for (std::size_t i = 0; i < batches.size(); ++i) {
      const std::int64_t to = from + rows * sample_count(batches[i]);
      parts[i][value] = {.tokens = tokens.slice(0, from, to),
                         .channels = channels[static_cast<std::int64_t>(i)]};
      from = to;
    }
  }
  return parts;
}

/// Puts squares into their room; those of other sizes take its place.
void keep(SquaresByValue& room, const SquaresByValue& squares) {
  std::erase_if(room, [&](const auto& entry) { return squares.count(entry.first) == 0; });
  for (const auto& [value, found] : squares) {
    Squares& place = room[value];
    if (place.tokens.defined() && place.tokens.sizes().equals(found.tokens.sizes()) &&
        place.channels.sizes().equals(found.channels.sizes())) {
      place.tokens.copy_(found.tokens);
      place.channels.copy_(found.channels);
      place.rows = found.rows;
      place.length = found.length;
    } else {
      place = found;
    }
  }
}

}  // namespace

Sensitivities measure_sensitivity(const torch::jit::Graph& graph, const Schedule& schedule,
                                  const std::vector<Site>& sites, const Batches& batches,
                                  int threads, const std::function<void()>& check_interrupt) {
  std::vector<SquaresByValue> parts;
  Layouts wanted;
  try {
    const PartwiseRun partwise(graph, schedule, sites, batches[0]);
    wanted = partwise.wanted();
    parts = room_for(partwise.of_one_sample(), batches);
    parallel_for(static_cast<std::int64_t>(batches.size()), threads, [&](std::int64_t i) {
      check_interrupt();
      const auto at = static_cast<std::size_t>(i);
      keep(parts[at], partwise.run_whole(batches[at], static_cast<std::uint64_t>(i)));
    });
  } catch (const Error& e) {
    if (e.kind() == ErrorKind::kInterrupted || e.kind() == ErrorKind::kResource) throw;
    return {};
  } catch (const std::exception&) {
    rethrow_if_out_of_memory("");
    return {};  // an operator without derivative
  }
  std::vector<UsedRows> used;
  for (const auto& part : parts) used.push_back(used_rows(part));
  Sensitivities result;
  for (const auto& [value, layout] : wanted) {
    Sensitivity sensitivity;
    sensitivity.channel_axis = layout.channel_axis;
    double rows = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const auto found = parts[i].find(value);
      if (found == parts[i].end()) break;
      const Squares& squares = found->second;
      sensitivity.tokens.push_back(squares.tokens);
      sensitivity.channels = sensitivity.channels.defined()
                                 ? sensitivity.channels + squares.channels
                                 : squares.channels;
      rows += squares.rows;
      sensitivity.used.push_back(used[i].at(squares.tokens.numel()));
    }
    if (sensitivity.tokens.size() != batches.size() || rows == 0) continue;
    sensitivity.channels = sensitivity.channels / rows;
    result.emplace(value, std::move(sensitivity));
  }
  return result;
}

const Sensitivity* find_sensitivity(const Sensitivities& all, const torch::jit::Value* value) {
  const auto found = all.find(value);
  return found == all.end() ? nullptr : &found->second;
}

at::Tensor row_weights(const Sensitivity* sensitivity, double share) {
  if (sensitivity == nullptr || share == 0) return {};
  return weights_of_squares(at::cat(sensitivity->tokens), share, at::cat(sensitivity->used));
}

at::Tensor operand_weights(const Sensitivity* sensitivity, const at::Tensor& first,
                           std::int64_t axis, const std::vector<std::size_t>& batches,
                           double share) {
  if (sensitivity == nullptr || sensitivity->channel_axis != axis) return {};
  const std::int64_t heads = first.dim() >= 4 ? first.size(-3) : 1;
  const std::int64_t rows = sensitivity->tokens.front().numel();
  if (rows * first.size(axis) * heads != first.numel()) return {};
  Sensitivity chosen;
  for (const std::size_t i : batches) {
    chosen.tokens.push_back(sensitivity->tokens[i]);
    chosen.used.push_back(sensitivity->used[i]);
  }
  return row_weights(&chosen, share);
}

at::Tensor weights_of_squares(const at::Tensor& squares, double share, const at::Tensor& used) {
  // Squares of one random projection are noisy and few tokens have most of their sum, so that few
  // rows would decide (docs/decisions-accuracy.md, section 1).
  constexpr double kExponent = 0.75;
  const at::Tensor relevance = squares.pow(kExponent);
  const double mean = relevance.mean(at::kDouble).item<double>();
  if (!(mean > 0) || !std::isfinite(mean)) return {};
  const at::Tensor weights = relevance * (share / mean);
  if (!used.defined()) return weights + (1 - share);
  return weights + used * ((1 - share) / used.mean().item<double>());
}

}  // namespace repquant
