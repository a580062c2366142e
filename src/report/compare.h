// Two results side by side: descriptions of artifacts, or reports of commands.
#pragma once

#include <string>
#include <vector>

#include "base/json_text.h"

namespace repquant {

/// A figure or text that both results have under one name, or only one of them.
struct ComparedValue {
  std::string name;  // "models/vit.w8a8.pt (fused)/top1/value"
  Json left, right;  // null where a side has none
  bool differs() const { return left != right; }
};

/// A site that either side has.
struct ComparedSite {
  std::string path;
  Json left, right;  // rows of the table; null where a side does not have it
};

struct Comparison {
  std::vector<ComparedValue> values;  // all but those of sites
  std::vector<ComparedSite> sites;
};

/// Pairs every value of two JSON objects by what its elements call themselves (path, model and
/// form, row, name, gate ..), not by their position; files that only one side has, with one of the
/// other side that is called the same but for its file ("a.w8a8.pt | a.w4a4.pt"). Lists of plain
/// values are one value.
/// Throws Error kUsage if one is a report of another command than the other.
Comparison compare_results(const Json& left, const Json& right);

/// Right minus left, where both are finite numbers; else NaN.
double difference_of(const Json& left, const Json& right);

}  // namespace repquant
