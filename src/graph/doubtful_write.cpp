#include "graph/doubtful_write.h"

#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <iterator>
#include <vector>

#include "graph/operator_kinds.h"
#include "graph/rewrite.h"
#include "graph/site_path.h"
#include "graph/sizes.h"

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

/// The tensor that all of these are views or copies of.
Value* first_of(Value* value) {
  value = root_of(value);
  while (Value* copied = copied_by(value)) value = root_of(copied);
  return value;
}

/// True if something reads `value` behind the write, apart from what is written.
bool is_read_behind(const Node* write, const Value* value, const Reads& reads) {
  const auto written = reads.find(value);
  const auto& uses = value->uses();
  return std::any_of(uses.begin(), uses.end(), [&](const auto& use) {
    const auto& given = use.user->outputs();
    const bool apart =
        written != reads.end() && given.size() == 1 && are_apart(written->second, given[0]);
    return use.user != write && use.user->isAfter(write) && !reads_shape_only(use.user) && !apart;
  });
}

/// True if, were `given` a copy, a tensor that is read later would be apart from what is written.
bool parts_a_reader(const Node* write, Value* given, const Sharing& all, Copies copies,
                    const Reads& reads) {
  const Sharing behind(given, write, {}, copies);
  const bool writes_behind = behind.has(write->input(0));
  const auto& values = all.values();
  return std::any_of(values.begin(), values.end(), [&](const Value* value) {
    return behind.has(value) != writes_behind && is_read_behind(write, value, reads);
  });
}

Error doubtful(const Node* write, const Node* giver) {
  const std::string kind = kind_name(giver);
  return Error(ErrorKind::kUnsupported,
               {.what = "the model changes a tensor in place, and " + kind +
                        " gives a view or a copy of it, by how it lies in memory; both are read",
                .where = describe_node(write) + ", with " + describe_node(giver),
                .hint = "write .clone() behind " + kind.substr(kind.find("::") + 2) +
                        " for a copy, or x = x + y instead of x += y"});
}

}  // namespace

std::optional<Error> doubt_of(const Node* write, const Reads& reads) {
  Value* target = const_cast<Node*>(write)->input(0);
  const Sharing possible(first_of(target), write, {}, Copies::kShare);
  std::vector<Value*> givers;
  std::copy_if(possible.values().begin(), possible.values().end(), std::back_inserter(givers),
               [](const Value* value) { return gives_copy_or_view(value->node()); });
  if (givers.empty()) return {};
  const Sharing taken(root_of(target), write, reads);
  std::optional<Sizes> sizes;
  std::optional<Error> doubt;
  for (Value* value : givers) {
    const Node* giver = value->node();
    if (taken.has(value) && parts_a_reader(write, value, taken, Copies::kShareNothing, reads)) {
      if (!sizes) sizes.emplace(*write->owningGraph());
      if (sizes_decide(giver, *sizes)) throw doubtful(write, giver);
    }
    if (!doubt && parts_a_reader(write, value, possible, Copies::kShare, reads)) {
      doubt = doubtful(write, giver);
    }
  }
  return doubt;
}

}  // namespace repquant
