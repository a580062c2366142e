// What of an artifact in its portable form runs in integer arithmetic on this machine.
#include <ATen/ATen.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/ir/ir.h>

#include <optional>
#include <utility>

#include "format/class_source.h"
#include "graph/archive.h"
#include "graph/products.h"
#include "graph/rewrite.h"
#include "pipeline/form_reports.h"
#include "repquant/artifact.h"
#include "repquant/error.h"

namespace repquant {
namespace {

using torch::jit::Module;

void describe_scores(const Module& module, RuntimeSite& site) {
  const std::int64_t heads = module.attr("left_zero").toTensor().numel();
  const bool large = heads > 0 && site.macs / heads >= integer_scores_work();
  site.integer = module.attr("integer").toBool() && large;
  if (site.integer) site.op = "aten::_int_mm s8 x s8";
}

/// What a site's own submodule runs. Scores and Linear are described further by their state.
std::string operator_of(ClassKind kind) {
  switch (kind) {
    case ClassKind::kLinear:
      return "onednn::qlinear_pointwise u8 x s8";
    case ClassKind::kScores:
    case ClassKind::kAttend:
      return "aten::matmul float32 on integer codes";
    case ClassKind::kWeightOnlyLinear:
      return "aten::linear float32, weight dequantized at load";
    case ClassKind::kConvolution:
      return "aten::convolution float32 on integer codes";
    case ClassKind::kEmbedding:
      return "aten::embedding, the rows read are dequantized";
    case ClassKind::kNormQuantize:
    case ClassKind::kQuantize:
    case ClassKind::kSideColumns:
    case ClassKind::kTokenRange:
    case ClassKind::kTokenQuantize:
    case ClassKind::kTokenScale:
    case ClassKind::kCacheQuantize:
    case ClassKind::kCacheDequantize:
    case ClassKind::kRowScale:
    case ClassKind::kRowQuantize:
    case ClassKind::kGroupQuantize:
      break;  // of an input, of no site
  }
  return class_source(kind).name;
}

RuntimeSite describe_site(const Module& root, const ArtifactSite& row, const std::string& source) {
  RuntimeSite site{.path = row.site.path, .module = row.module, .op = "", .macs = row.site.macs};
  if (!root.hasattr(row.module) || !root.attr(row.module).isModule()) {
    throw Error(ErrorKind::kFile, {.what = "the artifact lacks a submodule of its site table",
                                   .where = source,
                                   .expected = row.module,
                                   .hint = "quantize the model again"});
  }
  const Module module = root.attr(row.module).toModule();
  const std::string name = module.type()->name()->name();
  const std::optional<ClassKind> kind = find_class_kind(name);
  site.op = kind ? operator_of(*kind) : name;
  if (kind == ClassKind::kLinear) {
    site.integer = true;
    if (module.attr("split").toBool()) site.op += ", twice (no VNNI here)";
  }
  if (kind == ClassKind::kScores) describe_scores(module, site);
  return site;
}

std::vector<std::string> float_products(const Module& root) {
  std::vector<std::string> found;
  auto& function = torch::jit::toGraphFunction(root.get_method("forward").function());
  for (const auto* node : all_nodes(*function.graph())) {
    if (is_product(node)) found.emplace_back(node->kind().toQualString());
  }
  return found;
}

}  // namespace

bool products_are_exact() {
  const auto a = at::full({32, 64}, 255, at::kByte);
  const auto b = at::full({64, 32}, 127, at::kChar);
  return at::_int_mm(a, b).eq(64 * 255 * 127).all().item<bool>();
}

RuntimeReport portable_report(const Module& root, const ArtifactInfo& info,
                              const std::string& path) {
  RuntimeReport report;
  report.vnni = products_are_exact();
  std::int64_t macs = 0, integer = 0;
  for (const auto& row : info.sites) {
    if (row.module.empty()) continue;  // left in floating point
    report.sites.push_back(describe_site(root, row, path));
    macs += report.sites.back().macs;
    if (report.sites.back().integer) integer += report.sites.back().macs;
  }
  report.integer_share = macs > 0 ? static_cast<double>(integer) / static_cast<double>(macs) : 0.0;
  report.float_products = float_products(root);
  return report;
}

ArtifactReport inspect_artifact(const std::string& path, bool trust) {
  ArtifactInfo info = read_artifact(path);
  RuntimeReport runtime = portable_report(load_archive(path, trust), info, path);
  return {std::move(info), std::move(runtime)};
}

}  // namespace repquant
