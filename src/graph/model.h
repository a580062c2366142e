// A loaded TorchScript model as one flat graph.
#pragma once

#include <ATen/core/ivalue.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "graph/flatten.h"
#include "graph/normalize.h"
#include "repquant/error.h"

namespace torch::jit {
struct Graph;
struct Module;
struct Node;
}  // namespace torch::jit

namespace repquant {

/// A model after loading and normalisation. `graph` has no `self` input: parameters are constants,
/// its inputs are the user's inputs in order, and every module call is inlined.
struct Model {
  std::string path;         // source file, for messages
  std::string source_hash;  // SHA-256 of the file
  std::shared_ptr<torch::jit::Graph> graph;
  /// As loaded, to compare the graph to; shares the parameters with it. Null once that is done.
  std::shared_ptr<torch::jit::Module> module;
  std::vector<std::string> input_names;              // of the tensors: x, obs.0, batch.ids
  std::vector<std::string> argument_names;           // as in the user's forward()
  std::vector<std::optional<c10::IValue>> defaults;  // of these arguments, where they have one
  std::vector<std::string> notes;                    // what was changed to run it here: sentences
  std::optional<Error> doubt;           // why the graph may compute something else than the file
  FileTensors tensors;                  // of the file, read or not
  DecomposedConvolutions convolutions;  // linear nodes that were convolutions
};

/// What is known of an array of the data before the model is loaded.
struct GivenInput {
  std::string name;       // empty: in the order of forward()
  std::int64_t rank = 0;  // of a batch
  std::optional<at::ScalarType> type{};
};

/// Loads a TorchScript file, flattens and normalises it (see normalize.h).
/// `provided_inputs`: how many tensors the data gives; 0 keeps all inputs without a default.
/// `given`: what these are; empty if it is not known. `trusted`: as in load_archive().
/// Throws Error kFile (missing, empty, not TorchScript), kUnsupported (graph not representable).
Model load_model(const std::string& path, std::size_t provided_inputs = 0,
                 const std::vector<GivenInput>& given = {}, bool trusted = false);

}  // namespace repquant
