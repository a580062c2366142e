// The two value streams of the sweep: the floating-point model and the model quantized so far.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "graph/site.h"
#include "graph/walker.h"
#include "plan/site_plan.h"
#include "sweep/plan_hook.h"

namespace repquant {

enum class Stream { kFloat, kQuantized };

/// Holds, for every calibration batch, the values that are alive at one position of the graph, in
/// both streams. Nothing older and nothing inside a segment stays in memory.
class Streams {
 public:
  Streams(const Model& model, const std::vector<std::vector<at::Tensor>>& batches, int threads,
          std::function<void()> check_interrupt);

  /// From now on the quantized stream evaluates this site by its plan.
  void add_plan(const Site& site, const SitePlan& plan);

  /// Runs both streams up to (not including) `node`, all batches.
  void advance_to(const torch::jit::Node* node);
  /// Runs both streams up to (not including) the schedule's position `end`.
  void advance_to(std::size_t end) { advance(end); }
  /// Runs both streams to the end.
  void finish();

  /// The value in every batch, in batch order. If it is not computed yet at the present position,
  /// it is computed on the side from what is alive, without keeping anything else.
  std::vector<at::Tensor> values(const torch::jit::Value* value, Stream stream) const;
  /// The same in the first batch alone: for what is too large to hold for all of them.
  at::Tensor first_value(const torch::jit::Value* value, Stream stream) const;

  /// What is alive in every batch at the present position. Shares tensors.
  std::vector<Values> snapshot(Stream stream) const;
  /// What will be alive at `end`, computed on the side.
  std::vector<Values> look_ahead(std::size_t end, Stream stream) const;
  /// Evaluates the quantized stream anew from a snapshot that was taken at `begin`: for plans that
  /// have changed since.
  void replay(std::size_t begin, const std::vector<Values>& snapshot);

  const Schedule& schedule() const { return schedule_; }
  /// Seconds that the floating-point stream alone took, summed over batches.
  double float_seconds() const;
  /// The model's output tensors of one batch, after finish().
  std::vector<at::Tensor> outputs(std::size_t batch, Stream stream) const;
  std::size_t batches() const { return state_.size(); }

 private:
  struct BatchState {
    Values floating, quantized;
    double float_seconds = 0.0;
  };

  void advance(std::size_t end);
  at::Tensor value_in(const BatchState& state, const torch::jit::Value* value, Stream stream) const;

  const Model& model_;
  Schedule schedule_;
  int threads_;
  std::function<void()> check_interrupt_;
  std::size_t position_ = 0;
  std::vector<BatchState> state_;
  PlanHook hook_;
};

}  // namespace repquant
