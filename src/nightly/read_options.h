// Parts of the options of a run that are read from JSON: in plans, and for Python.
#pragma once

#include <filesystem>
#include <string>

#include "base/json_object.h"
#include "repquant/evaluate.h"
#include "repquant/tokens.h"

namespace repquant {

/// `path` relative to `base`; empty stays empty.
std::string path_below(const std::filesystem::path& base, const std::string& path);

/// The keys window, stride, bos, document and dtype. Throws Error kUsage as JsonObject does.
TokenOptions read_tokens(JsonObject& object);

/// What is evaluated on what: task, data, tokens, labels, classes, texts, words, outputs, samples,
/// seed and batch_size. Paths are relative to `base`. Throws Error kUsage as JsonObject does.
EvaluationOptions read_evaluation(JsonObject& object, const std::filesystem::path& base);

}  // namespace repquant
