#include "graph/prove_attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/overloaded.h"
#include "graph/normalize.h"
#include "repquant/error.h"

namespace repquant {
namespace {

using torch::jit::Node;

/// `count` samples, the first ones over and over.
std::vector<c10::IValue> repeated_samples(const std::vector<at::Tensor>& inputs,
                                          std::int64_t count) {
  std::vector<c10::IValue> result;
  for (const auto& input : inputs) {
    if (input.dim() == 0) {
      result.emplace_back(input);
    } else {
      const std::int64_t size = std::max<std::int64_t>(1, input.size(0));
      result.emplace_back(input.index_select(0, at::arange(count).remainder(size)));
    }
  }
  return result;
}

/// Numbers that tell the columns of a row, and neighbouring rows, apart; exact in float32.
at::Tensor row_marker(const at::Tensor& like) {
  constexpr std::int64_t kRows = 128, kColumns = 65536;
  const std::int64_t columns = like.size(-1);
  const std::int64_t rows = columns > 0 ? like.numel() / columns : 0;
  const at::Tensor numbers =
      at::arange(rows).remainder(kRows).mul(kColumns).unsqueeze(-1) + at::arange(columns);
  return numbers.view(like.sizes()).to(like.scalar_type());
}

/// `dim` of a softmax may count from the front.
bool is_over_last(const Node* softmax, std::int64_t dimensions) {
  const auto dim = torch::jit::constant_as<std::int64_t>(named_input(softmax, "dim"));
  return dim && (*dim == -1 || *dim == dimensions - 1);
}

bool rows_are_whole(const at::Tensor& marked, std::int64_t columns) {
  if (marked.dim() == 0 || marked.size(-1) != columns) return false;
  if (marked.numel() == 0) return true;
  const at::Tensor numbers = marked.to(at::kDouble);
  const at::Tensor relative = numbers - numbers.select(-1, 0).unsqueeze(-1);
  return at::equal(relative, at::arange(columns, at::kDouble).expand_as(relative));
}

/// The size of axis -3 of the tensors, one after the other; empty if one has fewer than four axes.
std::vector<std::int64_t> heads_of(const std::vector<at::Tensor>& tensors) {
  std::vector<std::int64_t> sizes;
  for (const auto& tensor : tensors) {
    if (tensor.dim() < 4) return {};
    sizes.push_back(tensor.size(-3));
  }
  return sizes;
}

struct Seen {
  std::map<const Node*, std::vector<std::int64_t>> heads;  // by product
  std::set<const Node*> broken;                            // products whose rows are not whole
};

Seen run_once(const Model& model, const Schedule& schedule, const SiteSearch& search,
              const std::vector<c10::IValue>& inputs) {
  std::map<const Node*, const Site*> products;
  std::map<const Node*, std::int64_t> columns;  // by softmax
  for (const auto& site : search.sites) {
    std::visit(Overloaded{[](const LinearSite&) {},
                          [&](const ScoresSite&) { products[site.node] = &site; },
                          [&](const AttendSite& attend) {
                            products[site.node] = &site;
                            columns[attend.softmax] = 0;
                          },
                          [](const EmbeddingSite&) {}, [](const ConvolutionSite&) {}},
               site.kind);
  }
  Seen seen;
  run_graph(*model.graph, schedule, inputs, [&](const Node* node, Values& values) {
    const auto found = products.find(node);
    if (columns.count(node) == 0 && found == products.end()) return false;
    const auto tensor = [&](const torch::jit::Value* value) { return values.at(value).toTensor(); };
    if (found == products.end()) {
      run_node(node, values);
      const at::Tensor out = tensor(node->output());
      if (out.dim() == 0) return true;
      columns[node] = is_over_last(node, out.dim()) ? out.size(-1) : -1;
      values[node->output()] = row_marker(out);
      return true;
    }
    const auto* attend = std::get_if<AttendSite>(&found->second->kind);  // else scores
    const at::Tensor left = tensor(node->input(0)), right = tensor(node->input(1));
    if (attend != nullptr && !rows_are_whole(left, columns.at(attend->softmax))) {
      seen.broken.insert(node);
    }
    run_node(node, values);
    seen.heads[node] =
        attend == nullptr ? heads_of({left, right}) : heads_of({right, tensor(node->output())});
    return true;
  });
  return seen;
}

}  // namespace

void prove_attention(const Model& model, const Schedule& schedule, SiteSearch& search,
                     const std::vector<at::Tensor>& inputs) {
  const auto is_attend = [](const Site& site) {
    return std::holds_alternative<AttendSite>(site.kind);
  };
  if (std::none_of(search.sites.begin(), search.sites.end(), is_attend)) return;
  const Seen one = run_once(model, schedule, search, repeated_samples(inputs, 1));
  Seen two = one;
  try {
    two = run_once(model, schedule, search, repeated_samples(inputs, 2));
  } catch (const Error& e) {
    if (e.kind() == ErrorKind::kResource) throw;
    // The model takes this batch size alone: every axis has its size for good.
  }
  std::vector<Site> kept;
  for (Site& site : search.sites) {
    const auto heads = one.heads.find(site.node);
    const bool fixed = heads != one.heads.end() && !heads->second.empty() &&
                       heads->second == two.heads.at(site.node);
    if (auto* scores = std::get_if<ScoresSite>(&site.kind)) scores->heads = fixed;
    if (auto* attend = std::get_if<AttendSite>(&site.kind)) attend->heads = fixed;
    if (one.broken.count(site.node) == 0 && two.broken.count(site.node) == 0) {
      kept.push_back(std::move(site));
    } else {
      search.skipped.push_back({.path = site.path,
                                .op = site.node->kind().toQualString(),
                                .reason = "the softmax is not over what this product sums over",
                                .node = site.node});
    }
  }
  search.sites = std::move(kept);
}

}  // namespace repquant
