#include "sweep/streams.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/ir.h>

#include <chrono>

#include "compute/parallel.h"

namespace repquant {

using torch::jit::Node;
using torch::jit::Value;

Streams::Streams(const Model& model, const std::vector<std::vector<at::Tensor>>& batches,
                 int threads, std::function<void()> check_interrupt)
    : model_(model),
      schedule_(*model.graph),
      threads_(threads),
      check_interrupt_(std::move(check_interrupt)) {
  for (const auto& batch : batches) {
    std::vector<c10::IValue> inputs(batch.begin(), batch.end());
    std::vector<c10::IValue> copies;  // a model may write into its input
    for (const auto& tensor : batch) copies.emplace_back(tensor.clone());
    state_.push_back({bind_inputs(*model.graph, inputs), bind_inputs(*model.graph, copies), 0.0});
  }
}

void Streams::add_plan(const Site& site, const SitePlan& plan) { hook_.add(site, plan); }

void Streams::advance(std::size_t end) {
  if (end <= position_) return;
  parallel_for(static_cast<std::int64_t>(state_.size()), threads_, [&](std::int64_t i) {
    if (check_interrupt_) check_interrupt_();
    auto& state = state_[static_cast<std::size_t>(i)];
    const auto start = std::chrono::steady_clock::now();
    run_range(schedule_, position_, end, state.floating);
    state.float_seconds +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    run_range(schedule_, position_, end, state.quantized, hook_);
  });
  position_ = end;
}

void Streams::advance_to(const Node* node) { advance(schedule_.index_of(node)); }

void Streams::finish() { advance(schedule_.nodes().size()); }

at::Tensor Streams::value_in(const BatchState& state, const Value* value, Stream stream) const {
  const Values& alive = stream == Stream::kFloat ? state.floating : state.quantized;
  if (const auto found = alive.find(value); found != alive.end()) return found->second.toTensor();
  const NodeHook hook = [&](const Node* node, Values& values) {
    return stream == Stream::kQuantized && hook_(node, values);
  };
  Values side = alive;  // shares tensors, copies nothing
  run_range(schedule_, position_, schedule_.index_of(value->node()) + 1, side, hook);
  return side.at(value).toTensor();
}

std::vector<at::Tensor> Streams::values(const Value* value, Stream stream) const {
  std::vector<at::Tensor> result(state_.size());
  parallel_for(static_cast<std::int64_t>(state_.size()), threads_, [&](std::int64_t i) {
    const auto batch = static_cast<std::size_t>(i);
    result[batch] = value_in(state_[batch], value, stream);
  });
  return result;
}

at::Tensor Streams::first_value(const Value* value, Stream stream) const {
  return value_in(state_.front(), value, stream);
}

std::vector<Values> Streams::snapshot(Stream stream) const {
  std::vector<Values> result;
  for (const auto& state : state_) {
    result.push_back(stream == Stream::kFloat ? state.floating : state.quantized);
  }
  return result;
}

std::vector<Values> Streams::look_ahead(std::size_t end, Stream stream) const {
  std::vector<Values> result = snapshot(stream);
  const NodeHook hook = [&](const Node* node, Values& values) {
    return stream == Stream::kQuantized && hook_(node, values);
  };
  parallel_for(std::ssize(result), threads_, [&](std::int64_t i) {
    run_range(schedule_, position_, end, result[static_cast<std::size_t>(i)], hook);
  });
  return result;
}

void Streams::replay(std::size_t begin, const std::vector<Values>& snapshot) {
  parallel_for(std::ssize(state_), threads_, [&](std::int64_t i) {
    auto& state = state_[static_cast<std::size_t>(i)];
    state.quantized = snapshot[static_cast<std::size_t>(i)];
    run_range(schedule_, begin, position_, state.quantized, hook_);
  });
}

double Streams::float_seconds() const {
  double seconds = 0.0;
  for (const auto& state : state_) seconds += state.float_seconds;
  return seconds;
}

std::vector<at::Tensor> Streams::outputs(std::size_t batch, Stream stream) const {
  const auto& state = state_.at(batch);
  const Values& alive = stream == Stream::kFloat ? state.floating : state.quantized;
  std::vector<c10::IValue> outputs;
  for (const Value* value : model_.graph->outputs()) outputs.push_back(alive.at(value));
  return output_tensors(outputs);
}

}  // namespace repquant
