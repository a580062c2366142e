#include "fit/site_errors.h"

#include <ATen/ATen.h>

#include "fit/rows.h"
#include "plan/simulate.h"
#include "quantizer/metrics.h"
#include "quantizer/sample_rows.h"

namespace repquant {
namespace {

/// What nothing depends on, such as tokens that pad a sentence, has no error.
at::Tensor used_of(const at::Tensor& x, const at::Tensor& used) {
  return used.defined() && x.defined() ? at::where(used, x, 0.0) : x;
}

/// sqnr_db() of what is finite in the reference.
double sqnr_where_finite(const at::Tensor& reference, const at::Tensor& value) {
  if (is_finite(reference)) return sqnr_db(reference, value);
  const at::Tensor finite = reference.isfinite();
  return sqnr_db(reference.masked_select(finite), value.masked_select(finite));
}

/// Of an output `got`, exact on the quantized and on the floating-point stream (whose rows do not
/// count where others were routed to the site).
SiteErrors errors_against(const at::Tensor& own, const at::Tensor& floating,
                          const at::Tensor& got) {
  SiteErrors errors;
  errors.own_output_sqnr_db = sqnr_where_finite(own, got);
  errors.output_sqnr_db = floating.defined() && floating.sizes() == got.sizes()
                              ? sqnr_where_finite(floating, got)
                              : errors.own_output_sqnr_db;
  return errors;
}

}  // namespace

SiteErrors linear_errors(const LinearSite& site, const LinearPlan& plan, const StreamedValue& x,
                         const at::Tensor& used) {
  constexpr std::int64_t kRows = 256;  // a ratio of sums over all outputs needs no more
  const auto some = [&](const at::Tensor& rows) {
    const at::Tensor all = rows.reshape({-1, rows.size(-1)});
    const bool known = used.defined() && used.numel() == all.size(0);
    return sample_rows(all, kRows, known ? used : at::Tensor());
  };
  const at::Tensor quantized = some(x.quantized);
  const bool same_rows = x.floating.sizes() == x.quantized.sizes();
  SiteErrors errors = errors_against(
      at::linear(quantized, site.weight, site.bias),
      same_rows ? at::linear(some(x.floating), site.weight, site.bias) : at::Tensor(),
      simulate_linear(plan, quantized));
  return errors;
}

SiteErrors scores_errors(const ScoresPlan& plan, const StreamedValue& left,
                         const StreamedValue& right, const at::Tensor& used) {
  const auto seen = [&](const at::Tensor& scores) {
    return used_of(comparable_scores(plan, scores), used);
  };
  return errors_against(seen(at::matmul(left.quantized, right.quantized)),
                        seen(at::matmul(left.floating, right.floating)),
                        seen(simulate_scores(plan, left.quantized, right.quantized)));
}

SiteErrors attend_errors(const AttendPlan& plan, const at::Tensor& scores, const at::Tensor& value,
                         const at::Tensor& floating, const at::Tensor& used) {
  return errors_against(used_of(at::matmul(at::softmax(scores, -1), value), used),
                        used_of(floating, used),
                        used_of(simulate_attend(plan, scores, value), used));
}

SiteErrors embedding_errors(const EmbeddingSite& site, const EmbeddingPlan& plan,
                            const at::Tensor& indices) {
  const at::Tensor exact = at::embedding(site.table, indices);
  return errors_against(exact, exact, simulate_embedding(plan, indices));
}

SiteErrors convolution_errors(const GroupedConvolutionSite& site,
                              const GroupedConvolutionPlan& plan, const StreamedValue& x) {
  SiteErrors errors = errors_against(convolve(x.quantized, site.weight, site.bias, site.shape),
                                     convolve(x.floating, site.weight, site.bias, site.shape),
                                     simulate_convolution(plan, x.quantized));
  return errors;
}

}  // namespace repquant
