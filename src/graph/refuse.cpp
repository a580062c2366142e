#include "graph/refuse.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>

#include <set>

#include "graph/rewrite.h"
#include "graph/site_path.h"
#include "repquant/error.h"

namespace repquant {
namespace {

using torch::jit::Graph;
using torch::jit::Node;

bool is_of_quantized_model(const Node* node) {
  const std::string kind = node->kind().toQualString();
  if (kind.starts_with("quantized::") || kind.starts_with("onednn::q") ||
      kind.starts_with("_quantized::")) {
    return true;
  }
  static const std::set<std::string> kKinds{"aten::quantize_per_tensor",
                                            "aten::quantize_per_channel",
                                            "aten::quantize_per_tensor_dynamic",
                                            "aten::fake_quantize_per_tensor_affine",
                                            "aten::dequantize",
                                            "aten::fake_quantize_per_channel_affine",
                                            "aten::_weight_int8pack_mm",
                                            "aten::_weight_int4pack_mm_for_cpu",
                                            "aten::_int_mm"};
  return kKinds.count(kind) > 0;
}

const std::set<std::string> kRandom{
    "aten::rand",          "aten::rand_like",    "aten::randn",       "aten::randn_like",
    "aten::randint",       "aten::randint_like", "aten::randperm",    "aten::bernoulli",
    "aten::bernoulli_",    "aten::multinomial",  "aten::normal",      "aten::normal_",
    "aten::uniform",       "aten::uniform_",     "aten::exponential", "aten::exponential_",
    "aten::poisson",       "aten::cauchy_",      "aten::log_normal_", "aten::geometric_",
    "aten::random_",       "aten::rrelu",        "aten::binomial",    "aten::_standard_gamma",
    "aten::native_dropout"};
const std::set<std::string> kRandomInTraining{"aten::dropout", "aten::dropout_",
                                              "aten::feature_dropout", "aten::alpha_dropout",
                                              "aten::feature_alpha_dropout"};

bool is_random(const Node* node) {
  const std::string kind = node->kind().toQualString();
  if (kRandomInTraining.count(kind) > 0) {
    return torch::jit::constant_as<bool>(node->input(2)).value_or(true);
  }
  return kRandom.count(kind) > 0;
}

}  // namespace

void refuse_quantized(Graph& graph, const std::string& path) {
  for (const Node* node : all_nodes(graph)) {
    if (!is_of_quantized_model(node)) continue;
    throw Error(ErrorKind::kUnsupported,
                {.what = "the model is quantized already: it holds " + describe_node(node),
                 .where = path,
                 .expected = "a floating-point model",
                 .hint = "quantize the model that it was made from"});
  }
}

void refuse_random(Graph& graph, const std::string& path) {
  for (const Node* node : all_nodes(graph)) {
    if (!is_random(node)) continue;
    throw Error(ErrorKind::kUnsupported,
                {.what = "the model is random: its outputs depend on " + describe_node(node),
                 .where = path,
                 .expected = "a model whose outputs depend on its inputs alone",
                 .hint = "export it after model.eval(), or with the random numbers as an input"});
  }
}

}  // namespace repquant
