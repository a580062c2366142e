// The two value streams of the fit: the floating-point model and the model quantized so far.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "fit/plan_hook.h"
#include "fit/spill.h"
#include "graph/site.h"
#include "graph/walker.h"
#include "plan/site_plan.h"
#include "tensor/samples.h"

namespace repquant {

enum class Stream { kFloat, kQuantized };

/// Holds, for every calibration batch, the values that are alive at one position of the graph, in
/// both streams. Nothing older and nothing inside a segment stays in memory, and with a folder to
/// spill to, of what is alive only what is being worked on.
class Streams {
 public:
  Streams(
      const Model& model, const Batches& batches, int threads,
      std::function<void()> check_interrupt = [] {});

  /// From now on values that are alive go there once they take more. Does not change a result.
  void spill_to(SpillPlace place) { place_ = std::move(place); }

  /// From now on the quantized stream evaluates this site by its plan.
  void add_plan(const Site& site, const SitePlan& plan);

  /// Runs both streams up to (not including) `node`, all batches.
  void advance_to(const torch::jit::Node* node);
  /// Runs both streams to the end, batch by batch, and drops each batch after `see`, which gets the
  /// results of both streams (result_tensors()) and may be called from several threads.
  using SeeOutputs = std::function<void(std::size_t batch, const std::vector<at::Tensor>& floating,
                                        const std::vector<at::Tensor>& quantized)>;
  void finish(const SeeOutputs& see);

  /// The value in every batch, in batch order. If it is not computed yet at the present position,
  /// it is computed on the side from what is alive, without keeping anything else.
  std::vector<at::Tensor> values(const torch::jit::Value* value, Stream stream) const;
  /// The same in one batch.
  at::Tensor value(std::size_t batch, const torch::jit::Value* value, Stream stream) const;
  /// The same in the first batch alone: for what is too large to hold for all of them.
  at::Tensor first_value(const torch::jit::Value* value, Stream stream) const;
  /// kAttend: what the product's left operand would be without the softmax, in the first batch: the
  /// scores, moved as the softmax's rows are. Not to be asked once the softmax has been passed.
  at::Tensor first_scores(const Site& site, Stream stream) const;

  const Schedule& schedule() const { return schedule_; }
  /// Seconds that the floating-point stream alone took, summed over batches.
  double float_seconds() const;
  std::size_t batches() const { return state_.size(); }

 private:
  struct BatchState {
    SpillableValues floating, quantized;
    double float_seconds = 0.0;
  };

  void advance(std::size_t end);
  /// Runs both streams of a batch to `end`; what is alive then is in memory.
  void run_batch(std::size_t batch, std::size_t end);
  void spill_batch(std::size_t batch);
  Values alive(std::size_t batch, Stream stream) const;
  static std::size_t region_of(std::size_t batch, Stream stream) {
    return 2 * batch + (stream == Stream::kFloat ? 0 : 1);
  }

  const Model& model_;
  Schedule schedule_;
  int threads_;
  std::function<void()> check_interrupt_;
  std::size_t position_ = 0;
  std::vector<BatchState> state_;
  PlanHook hook_;
  SpillPlace place_;
  std::unique_ptr<SpillFile> spill_;      // once something has been spilled
  std::unordered_set<const void*> keep_;  // memory of parameters and inputs
};

}  // namespace repquant
