#include "evaluate/metrics.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <string>
#include <vector>

#include "base/text_table.h"
#include "repquant/error.h"
#include "tensor/shape_text.h"

namespace repquant {
namespace {

constexpr std::int64_t kTop5 = 5;

/// Rows of a tensor [.., C] in double.
class Rows {
 public:
  explicit Rows(const at::Tensor& tensor)
      : data_(tensor.detach().to(at::kCPU, at::kDouble).contiguous()),
        columns_(tensor.dim() == 0 ? 1 : tensor.size(-1)),
        rows_(columns_ == 0 ? 0 : tensor.numel() / columns_) {}

  std::int64_t size() const { return rows_; }
  std::span<const double> operator[](std::int64_t row) const {
    return {data_.const_data_ptr<double>() + row * columns_, static_cast<std::size_t>(columns_)};
  }

 private:
  at::Tensor data_;
  std::int64_t columns_;
  std::int64_t rows_;
};

/// Position of `index` when the row is sorted from large to small, equal values by index.
std::int64_t rank_of(std::span<const double> row, std::size_t index) {
  std::int64_t rank = 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (row[i] > row[index] || (row[i] == row[index] && i < index)) ++rank;
  }
  return rank;
}

std::size_t argmax(std::span<const double> row) {
  return static_cast<std::size_t>(std::max_element(row.begin(), row.end()) - row.begin());
}

double log_sum_exp(std::span<const double> row) {
  const double largest = *std::max_element(row.begin(), row.end());
  double sum = 0.0;
  for (const double value : row) sum += std::exp(value - largest);
  return largest + std::log(sum);
}

std::vector<double> finite_values(std::span<const double> row) {
  std::vector<double> values;
  values.reserve(row.size());
  std::copy_if(row.begin(), row.end(), std::back_inserter(values),
               [](double value) { return std::isfinite(value); });
  return values;
}

/// KL(softmax(p) || softmax(q)) in nats.
double kl_divergence(std::span<const double> p, std::span<const double> q) {
  if (p.empty()) return 0.0;
  const double p_norm = log_sum_exp(p);
  const double q_norm = log_sum_exp(q);
  double kl = 0.0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double log_p = p[i] - p_norm;
    kl += std::exp(log_p) * (log_p - (q[i] - q_norm));
  }
  return std::max(kl, 0.0);  // rounding can leave -1e-17 for equal rows
}

void check_labels(const at::Tensor& logits, std::span<const std::int64_t> labels) {
  if (logits.dim() != 2 || logits.size(0) != static_cast<std::int64_t>(labels.size())) {
    throw Error(ErrorKind::kUsage,
                {.what = "the output of the model does not fit the labels",
                 .expected = "logits [" + std::to_string(labels.size()) + ", classes]",
                 .got = shape_text(logits.sizes()),
                 .hint = "accuracy needs a classifier; without labels only agreement is measured"});
  }
  for (const std::int64_t label : labels) {
    if (label < 0 || label >= logits.size(1)) {
      throw Error(ErrorKind::kUsage, {.what = "a label lies outside the classes of the model",
                                      .expected = "0 to " + std::to_string(logits.size(1) - 1),
                                      .got = std::to_string(label)});
    }
  }
}

}  // namespace

AccuracyCounts& operator+=(AccuracyCounts& sum, const AccuracyCounts& part) {
  sum.samples += part.samples;
  sum.top1 += part.top1;
  sum.top5 += part.top5;
  return sum;
}

PairedCounts& operator+=(PairedCounts& sum, const PairedCounts& part) {
  sum.samples += part.samples;
  sum.both += part.both;
  sum.gained += part.gained;
  sum.lost += part.lost;
  return sum;
}

AccuracyCounts count_correct(const at::Tensor& logits, std::span<const std::int64_t> labels) {
  check_labels(logits, labels);
  const Rows rows(logits);
  AccuracyCounts counts;
  for (std::int64_t i = 0; i < rows.size(); ++i) {
    const auto label = static_cast<std::size_t>(labels[static_cast<std::size_t>(i)]);
    const std::int64_t rank = rank_of(rows[i], label);
    ++counts.samples;
    if (rank < 1) ++counts.top1;
    if (rank < kTop5) ++counts.top5;
  }
  return counts;
}

PairedCounts count_paired(const at::Tensor& reference, const at::Tensor& logits,
                          std::span<const std::int64_t> labels) {
  check_labels(reference, labels);
  check_labels(logits, labels);
  const Rows expected(reference);
  const Rows actual(logits);
  PairedCounts counts;
  for (std::int64_t i = 0; i < actual.size(); ++i) {
    const auto label = static_cast<std::size_t>(labels[static_cast<std::size_t>(i)]);
    const bool reference_right = argmax(expected[i]) == label;
    const bool model_right = argmax(actual[i]) == label;
    ++counts.samples;
    if (reference_right && model_right) ++counts.both;
    if (!reference_right && model_right) ++counts.gained;
    if (reference_right && !model_right) ++counts.lost;
  }
  return counts;
}

void check_same_shape(const at::Tensor& reference, const at::Tensor& output) {
  if (reference.sizes().equals(output.sizes())) return;
  throw Error(ErrorKind::kUsage,
              {.what = "model and reference have outputs of different shapes",
               .expected = counted(reference.numel(), "value") + ", as the reference",
               .got = counted(output.numel(), "value"),
               .hint = "compare a quantized model with the model it was made from"});
}

void check_same_infinities(const at::Tensor& reference, const at::Tensor& output) {
  const at::Tensor infinite = reference.isinf();
  const bool same =
      at::equal(infinite, output.isinf()) &&
      at::equal(reference.masked_select(infinite).gt(0), output.masked_select(infinite).gt(0));
  if (same) return;
  throw Error(ErrorKind::kNumerical,
              {.what = "the output of the model is infinite where the reference's is not, or the "
                       "other way round",
               .hint = "infinite outputs are compared only where both have them, as where tokens "
                       "are suppressed"});
}

void require_finite(const at::Tensor& output) {
  if (output.isfinite().all().item<bool>()) return;
  throw Error(ErrorKind::kNumerical,
              {.what = "the output of the model holds infinity",
               .expected = "an embedding of finite numbers",
               .hint = "check the data and its preprocessing, and the model itself"});
}

std::int64_t count_same_top1(const at::Tensor& a, const at::Tensor& b) {
  return a.argmax(-1).eq(b.argmax(-1)).sum().item<std::int64_t>();
}

void compare_logits(const at::Tensor& reference, const at::Tensor& logits, AgreementSums& sums) {
  check_same_shape(reference, logits);
  check_same_infinities(reference, logits);
  const Rows expected(reference);
  const Rows actual(logits);
  if (actual.size() > 0) sums.same_top1 += count_same_top1(reference, logits);
  for (std::int64_t i = 0; i < actual.size(); ++i) {
    ++sums.rows;
    sums.ranked = sums.ranked || expected[i].size() > 1;
    const std::vector<double> p = finite_values(expected[i]), q = finite_values(actual[i]);
    sums.kl.add(kl_divergence(p, q), 1.0);
    for (std::size_t c = 0; c < p.size(); ++c) {
      sums.values.signal += p[c] * p[c];
      sums.values.noise += (p[c] - q[c]) * (p[c] - q[c]);
    }
  }
}

Accuracy summarize(const AccuracyCounts& counts, std::int64_t classes) {
  Accuracy accuracy{proportion(counts.top1, counts.samples), std::nullopt};
  if (classes > kTop5) accuracy.top5 = proportion(counts.top5, counts.samples);
  return accuracy;
}

PairedDifference summarize(const PairedCounts& counts) {
  PairedDifference result;
  result.gained = counts.gained;
  result.lost = counts.lost;
  if (counts.samples == 0) return result;
  const double n = static_cast<double>(counts.samples);
  const double gained = static_cast<double>(counts.gained);
  const double lost = static_cast<double>(counts.lost);
  const auto standard_error = [](double plus, double minus, double size) {
    return std::sqrt(plus + minus - (plus - minus) * (plus - minus) / size) / size;
  };
  result.difference = (gained - lost) / n;
  result.standard_error = standard_error(gained, lost, n);
  // Agresti and Min, "Simple improved confidence intervals for comparing matched proportions",
  // Statistics in Medicine 24 (2005): half a sample more in each of the four cells.
  const double center = (gained - lost) / (n + 2);
  const double half = kNormalQuantile * standard_error(gained + 0.5, lost + 0.5, n + 2);
  result.interval = {std::max(-1.0, center - half), std::min(1.0, center + half)};
  return result;
}

Agreement summarize(const AgreementSums& sums) {
  Agreement agreement;
  if (sums.ranked) {
    agreement.top1 = proportion(sums.same_top1, sums.rows);
    agreement.kl = sums.kl.mean();
  }
  agreement.sqnr_db = sums.values.sqnr_db();
  return agreement;
}

}  // namespace repquant
