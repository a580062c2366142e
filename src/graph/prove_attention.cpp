#include "graph/prove_attention.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/overloaded.h"
#include "graph/normalize.h"
#include "graph/resized_inputs.h"
#include "repquant/error.h"
#include "tensor/samples.h"

namespace repquant {
namespace {

using torch::jit::Node;

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
  // By product: channels of q and k, or columns of V, whichever could have grids of their own.
  std::map<const Node*, std::int64_t> channels;
  std::set<const Node*> broken;   // products whose rows are not whole
  std::set<const Node*> vectors;  // products of no two matrices
};

Seen run_once(const Model& model, const Schedule& schedule, const SiteSearch& search,
              const std::vector<at::Tensor>& inputs) {
  std::map<const Node*, const Site*> products;
  std::map<const Node*, std::int64_t> columns;  // by softmax
  for (const auto& site : search.sites) {
    std::visit(Overloaded{[](const LinearSite&) {},
                          [&](const ScoresSite&) { products[site.node] = &site; },
                          [&](const AttendSite& attend) {
                            products[site.node] = &site;
                            columns[attend.softmax] = 0;
                          },
                          [](const EmbeddingSite&) {}, [](const GroupedConvolutionSite&) {}},
               site.kind);
  }
  Seen seen;
  run_graph(*model.graph, schedule, copies_of(inputs), [&](const Node* node, Values& values) {
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
    if (left.dim() < 2 || right.dim() < 2) seen.vectors.insert(node);
    run_node(node, values);
    if (left.dim() > 0 && right.dim() > 0) {
      seen.channels[node] = attend == nullptr ? left.size(-1) : right.size(-1);
    }
    seen.heads[node] =
        attend == nullptr ? heads_of({left, right}) : heads_of({right, tensor(node->output())});
    return true;
  });
  return seen;
}

/// On a sample as it is, on two, and on samples of other sizes.
std::vector<Seen> runs_on_varied(const Model& model, const Schedule& schedule,
                                 const SiteSearch& search, const std::vector<at::Tensor>& inputs) {
  std::vector<Seen> runs;
  const auto take = [&](const std::vector<at::Tensor>& samples) {
    try {
      runs.push_back(run_once(model, schedule, search, samples));
      return true;
    } catch (const Error& e) {
      if (e.kind() == ErrorKind::kResource) throw;
      return false;  // the model takes other numbers or sizes alone
    }
  };
  const std::vector<at::Tensor> one = repeated_samples(inputs, 1);
  const bool takes_one = take(one);
  take(repeated_samples(inputs, 2));
  try_other_sizes(takes_one ? one : inputs,
                  [&](const ResizedInputs& resized) { return take(resized.inputs); });
  if (runs.empty()) runs.push_back(run_once(model, schedule, search, inputs));
  return runs;
}

}  // namespace

void prove_attention(const Model& model, const Schedule& schedule, SiteSearch& search,
                     const std::vector<at::Tensor>& inputs) {
  const auto is_product = [](const Site& site) {
    return std::holds_alternative<ScoresSite>(site.kind) ||
           std::holds_alternative<AttendSite>(site.kind);
  };
  if (std::none_of(search.sites.begin(), search.sites.end(), is_product)) return;
  const std::vector<Seen> runs = runs_on_varied(model, schedule, search, inputs);
  std::vector<Site> kept;
  for (Site& site : search.sites) {
    const auto heads_in = [&](const Seen& run) {
      const auto found = run.heads.find(site.node);
      return found == run.heads.end() ? std::vector<std::int64_t>() : found->second;
    };
    const auto channels_in = [&](const Seen& run) {
      const auto found = run.channels.find(site.node);
      return found == run.channels.end() ? -1 : found->second;
    };
    const bool fixed = std::all_of(runs.begin(), runs.end(), [&](const Seen& run) {
      return !heads_in(run).empty() && heads_in(run) == heads_in(runs.front());
    });
    // Attention between channels sums over tokens, and the columns of its V are the tokens.
    const bool channels = std::all_of(runs.begin(), runs.end(), [&](const Seen& run) {
      return channels_in(run) == channels_in(runs.front());
    });
    if (auto* scores = std::get_if<ScoresSite>(&site.kind)) {
      scores->heads = fixed;
      scores->channels = channels;
    }
    if (auto* attend = std::get_if<AttendSite>(&site.kind)) {
      attend->heads = fixed;
      attend->columns = channels;
    }
    const auto in_any = [&](std::set<const Node*> Seen::*nodes) {
      return std::any_of(runs.begin(), runs.end(),
                         [&](const Seen& run) { return (run.*nodes).count(site.node) > 0; });
    };
    if (in_any(&Seen::vectors)) {
      search.skipped.push_back({.path = site.path,
                                .op = site.node->kind().toQualString(),
                                .reason = "a product with a vector",
                                .node = site.node});
      continue;
    }
    // The softmax is not over what its product sums over: a product as any other.
    if (in_any(&Seen::broken)) site.kind = ScoresSite{.softmax = false};
    kept.push_back(std::move(site));
  }
  sort_by_place(kept);
  search.sites = std::move(kept);
}

}  // namespace repquant
