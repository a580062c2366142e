// The fit of one site after another, each on what the streams feed it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <map>
#include <optional>
#include <vector>

#include "fit/consumers.h"
#include "fit/fold_check.h"
#include "fit/linear_problem.h"
#include "fit/row_identity.h"
#include "fit/sensitivity.h"
#include "fit/site_bits.h"
#include "fit/site_measure.h"
#include "fit/streams.h"
#include "graph/site.h"
#include "plan/site_plan.h"
#include "repquant/recipe.h"

namespace repquant {

/// Values of an attention operand that its grid is fitted on (16 MB).
inline constexpr std::int64_t kOperandValues = std::int64_t{1} << 22;

struct SiteFitOptions {
  int threads = 1;
  double largest_fold_deviation = kLargestFoldDeviation;
};

/// Begins the note of a site whose input a norm carries.
inline constexpr const char* kFoldedNote = "folded into norm; ";

/// Holds references to everything but the options.
class SiteFit {
 public:
  SiteFit(const std::vector<Site>& sites, const std::vector<SiteBits>& bits, const Recipe& recipe,
          const Sensitivities& sensitivities, Streams& streams, const SiteFitOptions& options);

  /// The plan of site i, which the bits quantize. The streams are where advance_to() brings them.
  SitePlan fit(std::size_t i);
  /// Site i stays in floating point: others share no codes with it. Returns the norm that was to
  /// carry the codes of both, and cannot; or null.
  const torch::jit::Node* leave(std::size_t i);
  /// Sites that read the same input from now on share the codes of `plan`, which must stay where it
  /// is.
  void keep(std::size_t i, const SitePlan& plan);

 private:
  void fit_kind(std::size_t i, const LinearSite& site, SitePlan& plan);
  void fit_kind(std::size_t i, const ScoresSite& site, SitePlan& plan);
  void fit_kind(std::size_t i, const AttendSite& site, SitePlan& plan);
  void fit_kind(std::size_t i, const EmbeddingSite& site, SitePlan& plan);
  void fit_kind(std::size_t i, const GroupedConvolutionSite& site, SitePlan& plan);

  LinearProblem problem_of(std::size_t i, const LinearSite& site) const;
  RowSource rows_of_site(std::size_t i, bool with_target) const;
  std::vector<ReaderRows> other_readers_of(std::size_t i) const;
  double fold_deviation_of(const InputGroup& group, const InputQuantizer& quantizer) const;
  /// Throws where the grids of a product without a softmax lose too much of its rows.
  void require_rows(const ScoresPlan& plan, const torch::jit::Value* left,
                    const torch::jit::Value* right) const;

  std::vector<std::size_t> some_batches(const torch::jit::Value* value) const;
  std::vector<at::Tensor> values_in(const std::vector<std::size_t>& batches,
                                    const torch::jit::Value* value) const;
  at::Tensor weights_in(const std::vector<std::size_t>& batches, const torch::jit::Value* value,
                        std::int64_t axis) const;

  const std::vector<Site>& sites_;
  const std::vector<SiteBits>& bits_;
  const Recipe& recipe_;
  const Sensitivities& sensitivities_;
  Streams& streams_;
  SiteMeasure measure_;
  SiteFitOptions options_;
  std::map<std::size_t, QuantizedWeight> rounded_weights_;  // by site, see shared_weights.h
  std::vector<InputGroup> groups_;
  std::vector<std::optional<std::size_t>> group_of_;     // by site
  std::map<std::size_t, const InputQuantizer*> fitted_;  // by group
  std::map<std::size_t, double> refused_folds_;  // by group, how much its readers would change
  ValueSet quantized_values_;
};

}  // namespace repquant
