#include "graph/read_rows.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <unordered_set>
#include <vector>

#include "graph/normalize.h"
#include "graph/operator_kinds.h"
#include "graph/rewrite.h"
#include "graph/site.h"
#include "graph/sizes.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;
using torch::jit::Use;
using torch::jit::Value;

constexpr std::int64_t kEnd = std::numeric_limits<std::int64_t>::max();

/// The first `count` places of a dimension, or the last ones. Such a slice of an operand that is
/// broadcast (one place) is the operand itself, and reads keep their indices.
struct Rows {
  std::int64_t dimension = 0;  // from the front
  std::int64_t count = 0;
  bool last = false;

  std::int64_t begin() const { return last ? -count : 0; }
  std::int64_t end() const { return last ? kEnd : count; }
  bool operator==(const Rows&) const = default;
};

/// Makes `all` those and `more` together; false if they do not start from the same end.
bool unite(std::optional<Rows>& all, const Rows& more) {
  if (!all) all = more;
  if (all->dimension != more.dimension || all->last != more.last) return false;
  all->count = std::max(all->count, more.count);
  return true;
}

/// A bound of a slice; `none` where it is not given.
std::optional<std::int64_t> bound(const Value* value, std::int64_t none) {
  return value->mustBeNone() ? std::optional(none) : constant_int(value);
}

/// What a select or a slice reads of its operand, from one of the ends on.
std::optional<Rows> rows_of(const Sizes& sizes, const Node* reader) {
  const bool one = is_kind(reader, "aten::select");
  if (!one && !(is_kind(reader, "aten::slice") && reader->inputs().size() == 5)) return {};
  const auto dimension = sizes.dimension(reader->input(1), reader->input(0));
  const auto begin = bound(reader->input(2), 0);
  if (!dimension || !begin) return {};
  if (one) {
    return *begin >= 0 ? Rows{*dimension, *begin + 1, false} : Rows{*dimension, -*begin, true};
  }
  const auto end = bound(reader->input(3), kEnd);
  if (!end || !is_one(reader->input(4))) return {};
  if (*begin < 0 && (*end < 0 || *end == kEnd)) return Rows{*dimension, -*begin, true};
  if (*begin >= 0 && *end >= 0 && *end < kEnd) return Rows{*dimension, *end, false};
  return {};
}

bool is_whole(const Node* slice) {
  return is_kind(slice, "aten::slice") && slice->inputs().size() == 5 &&
         bound(slice->input(2), 0) == std::optional<std::int64_t>(0) &&
         bound(slice->input(3), kEnd) == std::optional(kEnd) && is_one(slice->input(4));
}

void remove_whole_slices(Graph& graph) {
  for (Node* node : all_nodes(graph)) {
    if (!is_whole(node)) continue;
    node->output()->replaceAllUsesWith(node->input(0));
    node->destroy();
  }
}

/// An operand of which only some rows are needed.
struct Needed {
  std::size_t operand = 0;
  std::int64_t dimension = 0;
};
using NeededRows = std::vector<Needed>;

/// The product of the sizes from dimension `from` on, where all are numbers.
std::optional<std::int64_t> product_behind(const Sizes& sizes, const Value* value,
                                           std::int64_t from) {
  const auto rank = sizes.rank(value);
  if (!rank) return {};
  std::int64_t product = 1;
  for (std::int64_t d = from; d < *rank; ++d) {
    const auto size = sizes.of(value, d);
    if (!size || size->tensor != nullptr) return {};
    product *= size->number;
  }
  return product;
}

/// The dimension of what a reshape reads that is dimension `dimension` of its result: as many
/// elements lie behind each place, and there are as many places; or all before it is the same, and
/// one of these two.
std::optional<std::int64_t> dimension_before(const Sizes& sizes, const Node* reshape,
                                             std::int64_t dimension) {
  const Value *from = reshape->input(0), *to = reshape->output();
  const auto rank = sizes.rank(from);
  const auto behind = product_behind(sizes, to, dimension + 1);
  bool same_before = true;
  for (std::int64_t d = 0; rank && d < *rank; ++d) {
    const bool places = sizes.of(from, d) == sizes.of(to, dimension);
    const bool elements = behind && *behind > 0 && behind == product_behind(sizes, from, d + 1);
    if (places && elements) return d;
    if (d == dimension && same_before && (places || elements)) return d;
    same_before = same_before && sizes.of(from, d) == sizes.of(to, d);
  }
  return {};
}

NeededRows of_broadcast(const Sizes& sizes, const Node* node, std::int64_t rank,
                        std::int64_t dimension) {
  NeededRows operands;
  for (std::size_t i = 0; i < node->inputs().size(); ++i) {
    const Value* operand = node->input(i);
    if (!operand->type()->isSubtypeOf(*c10::TensorType::get())) continue;
    const auto of_operand = sizes.rank(operand);
    if (!of_operand) return {};
    const std::int64_t d = dimension - (rank - *of_operand);
    if (d < 0 || sizes.of(operand, d) == std::optional(Size{.number = 1})) continue;
    operands.push_back({i, d});
  }
  return operands;
}

/// Of which operands `node` needs only some rows, where only these rows of its result are read;
/// none where it does not work row by row, or is not known to.
NeededRows operands_of(const Sizes& sizes, const Node* node, std::int64_t dimension) {
  const Value* x = node->inputs().empty() ? nullptr : node->input(0);
  const auto rank = sizes.rank(node->output());
  if (x == nullptr || !rank || dimension >= *rank) return {};
  if (keeps_sizes(node)) {
    std::int64_t kept = *rank;  // dimensions from this one on are one row
    if (const Value* shape = named_input(node, "normalized_shape")) {
      const auto together = constant_ints(shape);
      if (!together) return {};
      kept -= static_cast<std::int64_t>(together->size());
    }
    if (is_softmax(node) || is_kind(node, "aten::log_softmax")) {
      const auto over = sizes.dimension(named_input(node, "dim"), x);
      if (!over || *over == dimension) return {};
    }
    return dimension < kept ? NeededRows{{0, dimension}} : NeededRows{};
  }
  if (is_broadcast(node)) return of_broadcast(sizes, node, *rank, dimension);
  if (is_kind(node, "aten::linear")) {
    return dimension < *rank - 1 ? NeededRows{{0, dimension}} : NeededRows{};
  }
  if (is_kind(node, "aten::matmul")) {
    const auto left = sizes.rank(x);
    return left && dimension == *rank - 2 ? NeededRows{{0, *left - 2}} : NeededRows{};
  }
  if (is_kind(node, "aten::transpose")) {
    const auto a = sizes.dimension(node->input(1), x), b = sizes.dimension(node->input(2), x);
    if (!a || !b) return {};
    return {{0, dimension == *a ? *b : dimension == *b ? *a : dimension}};
  }
  if (const auto order = permute_order(node)) {
    return {{0, (*order)[static_cast<std::size_t>(dimension)]}};
  }
  if (is_kind(node, "aten::flatten")) {
    const auto begin = sizes.dimension(node->input(1), x);
    return begin && dimension < *begin ? NeededRows{{0, dimension}} : NeededRows{};
  }
  if (is_kind(node, "aten::reshape") &&
      node->input(1)->node()->kind() == c10::prim::ListConstruct) {
    const auto before = dimension_before(sizes, node, dimension);
    return before ? NeededRows{{0, *before}} : NeededRows{};
  }
  return {};
}

class RowReads {
 public:
  explicit RowReads(Graph& graph) : graph_(graph), sizes_(graph) {}

  /// Readers come behind what they read, so one sweep from the end finds all.
  void run() {
    std::vector<Node*> nodes(graph_.nodes().begin(), graph_.nodes().end());
    std::reverse(nodes.begin(), nodes.end());
    for (Node* node : nodes) {
      if (is_kind(node, "prim::ListUnpack")) {
        narrow_parts(node);
      } else if (node->outputs().size() == 1) {
        narrow(node);
      }
    }
  }

 private:
  void narrow(Node* node) {
    Value* value = node->output();
    const auto rows = rows_read(value);
    if (!rows) return;
    const NeededRows operands = operands_of(sizes_, node, rows->dimension);
    if (operands.empty()) return;
    replace_sizes(value, rows->dimension);
    for (const auto& [operand, dimension] : operands) {
      Rows needed = *rows;
      needed.dimension = dimension;
      node->replaceInput(operand, slice(node, node->input(operand), needed));
    }
    if (is_kind(node, "aten::reshape")) tell_size(node, rows->dimension, operands[0].dimension);
    remove_slices(value, *rows);
  }

  /// The parts of one tensor, all of which are read in part, as gate and value of a GLU are.
  void narrow_parts(Node* unpack) {
    Node* split = unpack->input(0)->node();
    if (!gives_parts(split) || split->output()->uses().size() != 1) return;
    const auto along = sizes_.dimension(named_input(split, "dim"), split->input(0));
    std::optional<Rows> all;
    for (const Value* part : unpack->outputs()) {
      const auto rows = rows_read(part);
      if (!rows || !unite(all, *rows)) return;
    }
    if (!along || !all) return;
    Rows needed = *all;
    if (is_kind(split, "aten::unbind")) {
      needed.dimension += needed.dimension >= *along ? 1 : 0;
    } else if (needed.dimension == *along) {
      return;
    }
    for (Value* part : unpack->outputs()) replace_sizes(part, all->dimension);
    split->replaceInput(0, slice(split, split->input(0), needed));
    for (Value* part : unpack->outputs()) remove_slices(part, *all);
  }

  /// Slices that were put behind `value` and give all that there is of it now.
  void remove_slices(Value* value, const Rows& rows) {
    const auto uses = value->uses();  // a copy: replacing changes it
    for (const Use& use : uses) {
      if (made_.count(use.user) == 0 || rows_of(sizes_, use.user) != rows) continue;
      use.user->output()->replaceAllUsesWith(value);
      made_.erase(use.user);
      use.user->destroy();
    }
  }

  /// True if a dimension may be that of the samples, which are looked at one by one.
  bool may_be_samples(std::int64_t dimension, const Size& size) const {
    const bool input = size.tensor != nullptr && size.tensor->node() == graph_.param_node();
    return dimension == 0 && size.tensor != nullptr && !(input && size.dimension > 0);
  }

  /// The rows that all readers of `value` read together; nothing if one reads all of them. A read
  /// of the model itself counts where a view would not just be exchanged for another.
  std::optional<Rows> rows_read(const Value* value) const {
    std::optional<Rows> all;
    bool own = !is_shape_only(value->node());
    for (const Use& use : value->uses()) {
      const bool asks = reads_shape_only(use.user) && !is_kind(use.user, "aten::numel");
      if (asks && !is_kind(use.user, "aten::size")) continue;
      if (is_kind(use.user, "aten::size") && use.user->inputs().size() == 2) continue;
      if (use.offset != 0 || use.user->owningBlock() != graph_.block()) return {};
      const auto rows = rows_of(sizes_, use.user);
      if (!rows || !unite(all, *rows)) return {};
      own = own || made_.count(use.user) > 0;
    }
    if (!own || !all) return {};
    const auto size = sizes_.of(value, all->dimension);
    if (!size || may_be_samples(all->dimension, *size)) return {};
    if (size->tensor == nullptr && size->number <= all->count) return {};  // all of them
    for (const Use& use : value->uses()) {
      if (!is_kind(use.user, "aten::size")) continue;
      const auto dimension = sizes_.dimension(use.user->input(1), value);
      if (!dimension || (*dimension == all->dimension && size->tensor == value)) return {};
    }
    return all;
  }

  /// Questions for the size of a dimension that is about to shrink go to where it comes from.
  void replace_sizes(Value* value, std::int64_t dimension) {
    const auto size = *sizes_.of(value, dimension);
    const auto uses = value->uses();  // a copy: replacing changes it
    for (const Use& use : uses) {
      if (!is_kind(use.user, "aten::size")) continue;
      if (sizes_.dimension(use.user->input(1), value) != std::optional(dimension)) continue;
      torch::jit::WithInsertPoint guard(use.user);
      Value* known =
          size.tensor == nullptr
              ? graph_.insertConstant(size.number)
              : graph_.insert(c10::aten::size, {const_cast<Value*>(size.tensor), size.dimension});
      use.user->output()->replaceAllUsesWith(known);
      use.user->destroy();
    }
  }

  Value* slice(Node* before, Value* value, const Rows& rows) {
    torch::jit::WithInsertPoint guard(before);
    Value* part = graph_.insert(c10::aten::slice,
                                {value, rows.dimension, rows.begin(), rows.end(), std::int64_t{1}});
    part->node()->copyMetadata(before);
    made_.insert(part->node());
    return part;
  }

  /// A reshape to the size that the narrowed operand has.
  void tell_size(Node* reshape, std::int64_t dimension, std::int64_t before) {
    Node* list = reshape->input(1)->node();
    const auto place = static_cast<std::size_t>(dimension);
    if (constant_int(list->input(place)) == std::optional<std::int64_t>(-1)) return;
    torch::jit::WithInsertPoint guard(reshape);
    std::vector<Value*> sizes(list->inputs().begin(), list->inputs().end());
    sizes[place] = graph_.insert(c10::aten::size, {reshape->input(0), before});
    Node* told = graph_.insertNode(graph_.createList(c10::IntType::get(), sizes));
    reshape->replaceInput(1, told->output());
  }

  Graph& graph_;
  const Sizes sizes_;  // of the graph as it was
  std::unordered_set<const Node*> made_;
};

}  // namespace

void compute_only_read_rows(Model& model, const Observed& observed) {
  Graph& graph = *model.graph;
  remove_whole_slices(graph);
  std::vector<Value*> typed;  // those that may be None are left alone
  for (Value* input : graph.inputs()) {
    const auto shape = observed.shapes.find(input);
    if (shape == observed.shapes.end()) continue;
    if (!input->type()->isSubtypeOf(*c10::TensorType::get())) continue;
    input->setType(c10::TensorType::get()->withDim(shape->second.size()));
    typed.push_back(input);
  }
  RowReads(graph).run();
  for (Value* input : typed) input->setType(c10::TensorType::get());  // a file promises no ranks
  torch::jit::EliminateDeadCode(model.graph);
}

}  // namespace repquant
