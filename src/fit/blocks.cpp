#include "fit/blocks.h"

#include <torch/csrc/jit/ir/ir.h>

#include <set>
#include <unordered_map>

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

bool is_tensor(const Value* value) { return value->type()->kind() == c10::TypeKind::TensorType; }

struct Cut {
  std::size_t position = 0;
  const Value* carried = nullptr;
};

/// Positions in [1, nodes] where one tensor that depends on a site is alive, and that tensor.
std::vector<Cut> cuts_of(const Schedule& schedule, const std::set<const Node*>& sites) {
  std::set<const Value*> dependent, alive;
  std::vector<Cut> cuts;
  for (std::size_t i = 0; i < schedule.nodes().size(); ++i) {
    const Node* node = schedule.nodes()[i];
    bool depends = sites.count(node) > 0 || !node->blocks().empty();
    for (const Value* input : node->inputs()) depends = depends || dependent.count(input) > 0;
    if (depends) {
      for (const Value* output : node->outputs()) {
        dependent.insert(output);
        if (is_tensor(output) || output->type()->kind() != c10::TypeKind::IntType) {
          alive.insert(output);
        }
      }
    }
    std::erase_if(alive, [&](const Value* value) { return !schedule.live_at(value, i + 1); });
    if (alive.size() == 1 && is_tensor(*alive.begin())) cuts.push_back({i + 1, *alive.begin()});
  }
  return cuts;
}

}  // namespace

std::vector<GraphBlock> find_blocks(const Schedule& schedule, const std::vector<Site>& sites) {
  std::set<const Node*> nodes;
  for (const Site& site : sites) {
    if (!is_lookup(site)) nodes.insert(site.node);
  }
  auto cuts = cuts_of(schedule, nodes);
  const std::size_t nodes_end = schedule.nodes().size();
  if (cuts.empty() || cuts.back().position != nodes_end) cuts.push_back({nodes_end, nullptr});
  cuts.back().carried = nullptr;
  std::vector<GraphBlock> blocks;
  GraphBlock current;
  bool attention = false;  // in `current`
  std::size_t next = 0;
  Cut begin;
  for (const auto& [cut, carried] : cuts) {
    std::vector<std::size_t> inside;
    bool attends = false;
    for (; next < sites.size() && schedule.index_of(sites[next].node) < cut; ++next) {
      inside.push_back(next);
      attends = attends || std::holds_alternative<AttendSite>(sites[next].kind);
    }
    if (attends && attention) {
      current.end = begin.position;
      current.carried = begin.carried;
      blocks.push_back(current);
      current = GraphBlock{begin.position, cut, {}, nullptr};
      attention = false;
    }
    attention = attention || attends;
    current.end = cut;
    current.sites.insert(current.sites.end(), inside.begin(), inside.end());
    begin = {cut, carried};
  }
  blocks.push_back(current);
  return blocks;
}

}  // namespace repquant
