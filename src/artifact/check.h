// The self-check: does the lowered module compute what was simulated, and the file the same?
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <utility>
#include <vector>

#include "artifact/lower.h"
#include "graph/model.h"
#include "graph/walker.h"
#include "repquant/error.h"

namespace torch::jit {
struct Module;
}  // namespace torch::jit

namespace repquant {

/// The largest deviation of lowered calls from the simulation on identical inputs.
struct CallDeviation {
  std::string path;            // site
  double changed_share = 0.0;  // share of codes that differ, 0..1
  std::int64_t largest = 0;    // largest difference of codes
  double relative = 0.0;       // floating-point outputs: largest difference / largest value
};

/// Sites that compute something else than their simulation, each with what differs. As an Error,
/// the first of them.
class SitesDiffer : public Error {
 public:
  struct Site {
    std::string path, reason;
  };
  SitesDiffer(std::vector<Site> sites, ErrorParts first)
      : Error(ErrorKind::kNumerical, std::move(first)), sites_(std::move(sites)) {}
  const std::vector<Site>& sites() const noexcept { return sites_; }

 private:
  std::vector<Site> sites_;
};

struct LoweringCheck {
  CallDeviation codes;              // the call with the largest share of different codes
  CallDeviation floating;           // the call with the largest relative difference
  std::size_t calls = 0;            // compared
  double simulated_db = 0.0;        // simulation against FP32, the model's outputs
  double lowered_db = 0.0;          // lowered module against the simulation, ties decided alike
  double free_running_db = 0.0;     // the same where each decides its own ties
  std::vector<at::Tensor> outputs;  // of the lowered module by itself
};

/// The lowered module's error against the simulation lies this far below the simulation's own, when
/// ties are decided alike. Left to themselves the two drift apart: a code that falls the other way
/// is a whole step, which moves more codes in the next layer, and after a dozen layers the
/// difference is as large as quantization noise itself, however exact both are.
inline constexpr double kMarginDb = 10.0;
/// But no more is asked than float32 gives (kRelativeLimit): a simulation may have no error at all,
/// where weights are zero.
inline constexpr double kExactDb = 80.0;

/// Runs the lowered module call by call beside the simulation: every call gets the simulation's
/// values as input, so that deviations do not add up. Then end to end: only codes that differ
/// (which the same limits hold for) are taken from the simulation, floating-point values are the
/// module's. `simulate`: evaluates the planned sites of its model (fit/plan_hook.h). `inputs`: one
/// batch; `reference`: the FP32 model's outputs on it (run_model). Simulation and module run side
/// by side, so only the values between a pair of calls are in memory. Throws SitesDiffer when calls
/// exceed a limit, Error kNumerical when the outputs do.
LoweringCheck check_lowered(const Lowered& lowered, const NodeHook& simulate,
                            const std::vector<at::Tensor>& inputs,
                            const std::vector<at::Tensor>& reference);

/// The output tensors of forward(), whose structured arguments are made of `inputs`. Runs on
/// copies, since a model may write into its input.
std::vector<at::Tensor> run_module(const torch::jit::Module& module,
                                   const std::vector<at::Tensor>& inputs);

/// Those of the FP32 model.
std::vector<at::Tensor> run_model(const Model& model, const std::vector<at::Tensor>& inputs);

/// Loads the file and runs it on the same inputs. Throws Error kNumerical unless every output is
/// bit-equal to `expected`, those of the module in memory. `trusted`: as in load_archive().
void check_reloaded(const std::string& path, const std::vector<at::Tensor>& expected,
                    const std::vector<at::Tensor>& inputs, bool trusted = false);

}  // namespace repquant
