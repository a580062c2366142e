#include "fit/streams.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>

#include "base/clock.h"
#include "graph/keep_codes.h"
#include "graph/results.h"
#include "graph/rewrite.h"
#include "tensor/parallel.h"

namespace repquant {

using torch::jit::Node;
using torch::jit::Value;

namespace {

/// In-place operators that functionalize() left may write into what the graph is given.
bool writes_in_place(torch::jit::Graph& graph) {
  const std::vector<Node*> nodes = all_nodes(graph);
  return std::any_of(nodes.begin(), nodes.end(), [](const Node* node) {
    const auto* schema = node->maybeSchema();
    return schema != nullptr && schema->is_mutable();
  });
}

}  // namespace

Streams::Streams(const Model& model, const Batches& batches, int threads,
                 std::function<void()> check_interrupt)
    : model_(model),
      schedule_(*model.graph),
      threads_(threads),
      check_interrupt_(std::move(check_interrupt)) {
  const bool writes = writes_in_place(*model.graph);
  for (const auto& batch : batches) {
    const std::vector<c10::IValue> inputs(batch.begin(), batch.end());
    state_.emplace_back();
    state_.back().floating.in_memory() = bind_inputs(*model.graph, inputs);
    state_.back().quantized.in_memory() =
        bind_inputs(*model.graph, writes ? copies_of(batch) : inputs);
    for (const auto& tensor : batch) keep_.insert(tensor.storage().data());
  }
  for (const Node* node : schedule_.nodes()) {
    const at::Tensor constant =
        node->kind() == c10::prim::Constant ? constant_tensor(node->output()) : at::Tensor();
    if (constant.defined() && constant.has_storage()) keep_.insert(constant.storage().data());
  }
}

void Streams::add_plan(const Site& site, const SitePlan& plan) { hook_.add(site, plan); }

void Streams::run_batch(std::size_t batch, std::size_t end) {
  check_interrupt_();
  auto& state = state_[batch];
  if (spill_) state.floating.restore(*spill_, region_of(batch, Stream::kFloat));
  const auto start = Clock::now();
  run_range(schedule_, position_, end, state.floating.in_memory(), &pass_cache);
  state.float_seconds += seconds_since(start);
  if (spill_) state.quantized.restore(*spill_, region_of(batch, Stream::kQuantized));
  run_range(schedule_, position_, end, state.quantized.in_memory(), hook_);
}

void Streams::spill_batch(std::size_t batch) {
  auto& state = state_[batch];
  state.floating.spill(*spill_, region_of(batch, Stream::kFloat), keep_);
  state.quantized.spill(*spill_, region_of(batch, Stream::kQuantized), keep_);
}

void Streams::advance(std::size_t end) {
  if (end <= position_) return;
  const auto each = [&](std::size_t from, const std::function<void(std::size_t)>& body) {
    parallel_for(std::ssize(state_) - static_cast<std::int64_t>(from), threads_,
                 [&](std::int64_t i) { body(from + static_cast<std::size_t>(i)); });
  };
  std::size_t first = 0;
  if (!place_.folder.empty() && !spill_ && !state_.empty()) {
    // The first batch tells how much the others will take.
    run_batch(0, end);
    const std::int64_t bytes = state_[0].floating.bytes(keep_) + state_[0].quantized.bytes(keep_);
    if (bytes * std::ssize(state_) > place_.least_bytes) {
      spill_ = std::make_unique<SpillFile>(place_.folder);
      each(0, [&](std::size_t i) { spill_batch(i); });
    }
    first = 1;
  }
  each(first, [&](std::size_t i) {
    run_batch(i, end);
    if (spill_) spill_batch(i);
  });
  position_ = end;
}

void Streams::advance_to(const Node* node) { advance(schedule_.index_of(node)); }

void Streams::finish(const SeeOutputs& see) {
  const std::size_t end = schedule_.nodes().size();
  parallel_for(std::ssize(state_), threads_, [&](std::int64_t i) {
    const auto batch = static_cast<std::size_t>(i);
    run_batch(batch, end);
    auto& state = state_[batch];
    see(batch, result_tensors(*model_.graph, state.floating.in_memory()),
        result_tensors(*model_.graph, state.quantized.in_memory()));
    state.floating = {};
    state.quantized = {};
  });
  position_ = end;
}

Values Streams::alive(std::size_t batch, Stream stream) const {
  const auto& state = state_[batch];
  const auto& values = stream == Stream::kFloat ? state.floating : state.quantized;
  return values.load(spill_.get(), region_of(batch, stream));
}

at::Tensor Streams::value(std::size_t batch, const Value* value, Stream stream) const {
  const auto& state = state_[batch];
  const auto& held = stream == Stream::kFloat ? state.floating : state.quantized;
  if (const auto here = held.load(spill_.get(), region_of(batch, stream), value)) {
    return here->toTensor();
  }
  const NodeHook hook = [&](const Node* node, Values& values) {
    return stream == Stream::kQuantized && hook_(node, values);
  };
  Values side = alive(batch, stream);  // shares tensors in memory
  run_range(schedule_, position_, schedule_.index_of(value->node()) + 1, side, hook);
  return side.at(value).toTensor();
}

std::vector<at::Tensor> Streams::values(const Value* value, Stream stream) const {
  std::vector<at::Tensor> result(state_.size());
  parallel_for(static_cast<std::int64_t>(state_.size()), threads_, [&](std::int64_t i) {
    const auto batch = static_cast<std::size_t>(i);
    result[batch] = this->value(batch, value, stream);
  });
  return result;
}

at::Tensor Streams::first_value(const Value* value, Stream stream) const {
  return this->value(0, value, stream);
}

at::Tensor Streams::first_scores(const Site& site, Stream stream) const {
  const Node* softmax = std::get<AttendSite>(site.kind).softmax;
  const NodeHook hook = [&](const Node* node, Values& values) {
    if (node != softmax) return stream == Stream::kQuantized && hook_(node, values);
    values[node->output()] = values.at(node->input(0));
    return true;
  };
  Values side = alive(0, stream);
  const Value* scores = site.node->input(0);
  run_range(schedule_, position_, schedule_.index_of(scores->node()) + 1, side, hook);
  return side.at(scores).toTensor();
}

double Streams::float_seconds() const {
  double seconds = 0.0;
  for (const auto& state : state_) seconds += state.float_seconds;
  return seconds;
}

}  // namespace repquant
