#include "sweep/blocks.h"

#include <torch/csrc/jit/ir/ir.h>

#include <set>
#include <unordered_map>

namespace repquant {
namespace {

using torch::jit::Node;
using torch::jit::Value;

bool is_tensor(const Value* value) { return value->type()->kind() == c10::TypeKind::TensorType; }

/// Positions in [1, nodes] where one tensor that depends on a site is alive.
std::vector<std::size_t> cuts_of(const Schedule& schedule, const std::set<const Node*>& sites) {
  std::set<const Value*> dependent, alive;
  std::vector<std::size_t> cuts;
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
    if (alive.size() == 1 && is_tensor(*alive.begin())) cuts.push_back(i + 1);
  }
  return cuts;
}

}  // namespace

std::vector<Block> find_blocks(const Schedule& schedule, const std::vector<Site>& sites) {
  std::set<const Node*> nodes;
  for (const Site& site : sites) nodes.insert(site.node);
  auto cuts = cuts_of(schedule, nodes);
  if (cuts.empty() || cuts.back() != schedule.nodes().size()) {
    cuts.push_back(schedule.nodes().size());
  }
  std::vector<Block> blocks;
  Block current;
  bool attention = false;  // in `current`
  std::size_t next = 0, begin = 0;
  for (const std::size_t cut : cuts) {
    std::vector<std::size_t> inside;
    bool attends = false;
    for (; next < sites.size() && schedule.index_of(sites[next].node) < cut; ++next) {
      inside.push_back(next);
      attends = attends || sites[next].kind == SiteKind::kAttend;
    }
    if (attends && attention) {
      current.end = begin;
      blocks.push_back(current);
      current = Block{begin, cut, {}};
      attention = false;
    }
    attention = attention || attends;
    current.end = cut;
    current.sites.insert(current.sites.end(), inside.begin(), inside.end());
    begin = cut;
  }
  blocks.push_back(current);
  return blocks;
}

}  // namespace repquant
