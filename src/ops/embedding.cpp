// Rows of a quantized table, in floating point.
#include <ATen/ATen.h>

#include "ops/operators.h"
#include "ops/output.h"
#include "ops/parallel.h"

namespace repquant::ops {
namespace {

constexpr std::int64_t kGrain = 1 << 14;  // elements that one thread should write at least

void read_bytes(const std::int8_t* codes, float scale, std::int64_t columns, float* row) {
  for (std::int64_t i = 0; i < columns; ++i) row[i] = static_cast<float>(codes[i]) * scale;
}

void read_nibbles(const std::uint8_t* codes, float scale, std::int64_t columns, float* row) {
  const auto value = [scale](int nibble) { return static_cast<float>(nibble - 8) * scale; };
  std::int64_t i = 0;
  for (; i + 2 <= columns; i += 2) {
    row[i] = value(codes[i / 2] & 15);
    row[i + 1] = value(codes[i / 2] >> 4);
  }
  if (i < columns) row[i] = value(codes[i / 2] & 15);
}

}  // namespace

at::Tensor embedding_rows_cpu(const at::Tensor& codes, const at::Tensor& scale,
                              const at::Tensor& indices, std::int64_t columns) {
  const bool nibbles = codes.scalar_type() == at::kByte;
  TORCH_CHECK(codes.dim() == 2 && codes.is_contiguous() && columns > 0 &&
                  (nibbles ? codes.size(1) == (columns + 1) / 2
                           : codes.scalar_type() == at::kChar && codes.size(1) == columns) &&
                  scale.scalar_type() == at::kFloat && scale.is_contiguous() &&
                  scale.numel() == codes.size(0),
              "repquant::embedding_rows: codes ", codes.scalar_type(), " ", codes.sizes(),
              " and scales ", scale.sizes(), " are no table of ", columns, " columns");
  TORCH_CHECK(indices.scalar_type() == at::kLong || indices.scalar_type() == at::kInt,
              "repquant::embedding_rows: indices must be whole numbers, got ",
              indices.scalar_type());
  const at::Tensor read = indices.to(at::kLong).contiguous();
  std::vector<std::int64_t> sizes = indices.sizes().vec();
  sizes.push_back(columns);
  at::Tensor rows = new_output(sizes, at::kFloat);
  const std::int64_t rows_of_table = codes.size(0), step = codes.size(1);
  const auto* table = static_cast<const std::uint8_t*>(codes.const_data_ptr());
  const auto* scales = scale.const_data_ptr<float>();
  const auto* at = read.const_data_ptr<std::int64_t>();
  auto* to = rows.mutable_data_ptr<float>();
  split_work(read.numel(), kGrain / columns + 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      TORCH_CHECK_INDEX(at[i] >= 0 && at[i] < rows_of_table, "index out of range: ", at[i],
                        " in a table of ", rows_of_table, " rows");
      const std::uint8_t* row = table + at[i] * step;
      if (nibbles) {
        read_nibbles(row, scales[at[i]], columns, to + i * columns);
      } else {
        read_bytes(reinterpret_cast<const std::int8_t*>(row), scales[at[i]], columns,
                   to + i * columns);
      }
    }
  });
  return rows;
}

}  // namespace repquant::ops
