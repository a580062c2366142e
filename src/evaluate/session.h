// The part that all tasks of evaluation share: opened models and data, and one loop over batches.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/open_data.h"
#include "evaluate/loaded_model.h"
#include "repquant/evaluate.h"

namespace repquant {

/// A model and the time its forward passes took.
struct TimedModel {
  LoadedModel model;
  double seconds = 0.0;
};

/// What one evaluation works on. Run 0 is the reference if there is one.
struct Session {
  const EvaluationOptions* options = nullptr;
  const Observer* observer = nullptr;
  std::vector<TimedModel> runs;
  bool has_reference = false;
  OpenedData data;
  std::vector<ModelForm> models;           // all of them, in the order of the runs
  std::optional<Dataset> texts;            // inputs of the second tower
  std::vector<std::int64_t> indices;       // samples of `data`, in the order of the loop
  std::vector<std::int64_t> text_indices;  // samples of `texts`
  std::vector<std::int64_t> labels;        // classification: of all samples of `data`, or none
  std::vector<at::Tensor> first_inputs;    // of the loop
  bool other_shapes = false;               // whether the loop has seen others than theirs
  bool warned = false;                     // of data that is not finite

  bool is_reference(std::size_t run) const { return has_reference && run == 0; }

  /// Steps of the loop: samples, or texts if there are more of these.
  std::int64_t size() const;
};

/// Opens the data and loads the first model alone, so that what cannot be measured is refused
/// before the work; all samples are chosen. Throws Error as evaluate().
Session open_session(const EvaluationOptions& options, const Observer& observer);

/// Loads the other models, and runs each on the first sample: what the data is not for, or gives
/// other outputs than the reference, is refused before the work.
void load_models(Session& session);

/// The tensors at `positions` that a model gives for the first sample, or for a whole batch if it
/// takes no single sample.
std::vector<at::Tensor> first_outputs(const Session& session, std::size_t run,
                                      std::span<const int> positions);

/// The outputs of one run on one batch.
struct BatchOutputs {
  const Batch& batch;
  std::int64_t begin = 0;                 // step of the first sample, counted from 0
  std::span<const std::int64_t> indices;  // of the samples in the dataset
  std::size_t run = 0;
  const std::vector<at::Tensor>& outputs;              // those at the chosen positions
  const std::vector<at::Tensor>* reference = nullptr;  // of run 0, unless this is it
};

/// Runs every model on every batch, after passes on the first one that are not timed, and gives
/// `measure` the output tensors at `positions`. When samples and texts differ in number, the
/// shorter side begins again from its start. An Error of `measure` gets the model's name if it says
/// no other place.
void for_each_output(Session& session, std::span<const int> positions,
                     const std::function<void(const BatchOutputs&)>& measure);

/// The report of a finished session; `fill` adds to each model what its run has shown.
EvaluationReport make_report(const Session& session, const std::string& protocol,
                             const std::function<void(std::size_t run, ModelEvaluation&)>& fill);

/// The positions of output tensors to look at: the user's choice, else `defaults`.
/// Throws Error kUsage for another number of them or a negative one.
std::vector<int> output_positions(const EvaluationOptions& options, std::vector<int> defaults);

}  // namespace repquant
