// Class labels: from files or class folders, never guessed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "data/dataset.h"

namespace repquant {

/// Class index by identifier (column 2, the name of a class folder) from a tab-separated file with
/// the columns index, identifier and any others. Empty lines are skipped.
/// Throws Error kFile for a malformed line or an index or identifier that occurs twice.
std::map<std::string, std::int64_t> read_classes(const std::filesystem::path& path);

/// Labels of samples from a text file. Either each line is "sample name<TAB>label" (any order,
/// every sample must occur, other names are ignored), or one integer a line, as many as samples,
/// in the order of the samples.
/// Throws Error kFile for malformed lines, missing or repeated samples, a wrong number of lines.
std::vector<std::int64_t> read_labels(const std::filesystem::path& path,
                                      const std::vector<std::string>& samples);

/// True if labels or class folders say what the samples are.
bool has_labels(const Dataset& dataset);

/// The dataset with a class index below `num_classes` for every sample.
///  - Labels from a labels file or array stand as they are.
///  - Class folders are mapped by `classes_file`, if given (see read_classes()).
///  - Without it, they are numbered in sorted order, only if there are exactly `num_classes`.
/// Throws Error kUsage in all other cases: no labels, a number of folders that differs from the
/// number of logits, a folder the classes file lacks, a label out of range, two sources of labels.
Dataset resolve_labels(const Dataset& dataset, std::int64_t num_classes,
                       const std::optional<std::filesystem::path>& classes_file);

}  // namespace repquant
