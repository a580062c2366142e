#include "fit/input_readers.h"

#include <ATen/ATen.h>

#include <cstdint>
#include <utility>

#include "tensor/random_projection.h"

namespace repquant {
namespace {

template <typename Term>
at::Tensor sum_over(const std::vector<InputReader>& readers, const Term& term) {
  at::Tensor sum;
  for (const InputReader& reader : readers) {
    const at::Tensor own = term(reader);
    sum = sum.defined() ? sum + own : own;
  }
  return sum;
}

/// D W, or W where all outputs count alike.
at::Tensor counted(const at::Tensor& weight, const at::Tensor& counts) {
  return counts.defined() ? weight * counts.to(at::kFloat).unsqueeze(1) : weight;
}

}  // namespace

at::Tensor gram_of(const std::vector<InputReader>& readers) {
  return sum_over(readers, [](const InputReader& reader) {
    return at::matmul(reader.weight.t(), counted(reader.weight, reader.counts));
  });
}

at::Tensor gram_diagonal_of(const std::vector<InputReader>& readers) {
  return sum_over(readers, [](const InputReader& reader) {
    return (reader.weight * counted(reader.weight, reader.counts)).sum(0);
  });
}

at::Tensor gram_sketch_of(const std::vector<InputReader>& readers) {
  std::int64_t outputs = 0;
  for (const InputReader& reader : readers) outputs += reader.weight.size(0);
  const at::Tensor projection = random_projection(outputs, kProjections);
  std::int64_t from = 0;
  return sum_over(readers, [&](const InputReader& reader) {
    const std::int64_t count = reader.weight.size(0);
    const at::Tensor own = projection.narrow(0, std::exchange(from, from + count), count);
    const at::Tensor root = reader.counts.defined() ? reader.counts.sqrt() : reader.counts;
    return at::mm(reader.weight.t(), counted(own, root));
  });
}

}  // namespace repquant
