#include "ops/kernels/library_product.h"

#include <ATen/cpu/Utils.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <array>
#include <exception>
#include <vector>

#include "ops/kernels/kernels.h"

namespace repquant::ops {
namespace {

/// Codes from one end of their range to the other, against plain loops.
bool is_exact(std::int64_t rows, std::int64_t groups) {
  const std::int64_t columns = 4 * groups;
  std::vector<std::uint8_t> x(static_cast<std::size_t>(rows * columns));
  std::vector<std::int8_t> panel(static_cast<std::size_t>(columns * kPanel));
  std::uint32_t state = 1;
  const auto next = [&state] { return (state += 2654435761U) >> 20U; };
  for (auto& code : x) code = static_cast<std::uint8_t>(next() % 5 == 0 ? 255 : next() % 256);
  for (auto& code : panel) {
    code = static_cast<std::int8_t>(next() % 5 == 0 ? -128 : static_cast<int>(next() % 256) - 128);
  }
  std::vector<std::int32_t> expected(static_cast<std::size_t>(rows * kPanel), 0);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t k = 0; k < columns; ++k) {
      const int code = x[static_cast<std::size_t>(r * columns + k)];
      const std::int8_t* weights = panel.data() + k / 4 * 4 * kPanel + k % 4;
      std::int32_t* sums = expected.data() + r * kPanel;
      for (std::int64_t n = 0; n < kPanel; ++n) sums[n] += code * weights[4 * n];
    }
  }
  std::vector<std::int32_t> got(expected.size(), -1);
  library_product(rows, groups, x.data(), panel.data(), got.data());
  return got == expected;
}

bool try_products() {
  try {
    const LibraryScope scope;
    // Whole tiles of AMX (16 rows, 64 inputs) and the rests of both.
    constexpr std::array<std::array<std::int64_t, 2>, 4> kProblems{
        {{64, 48}, {16, 9}, {32, 1}, {48, 33}}};
    return std::all_of(kProblems.begin(), kProblems.end(),
                       [](const auto& problem) { return is_exact(problem[0], problem[1]); });
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace

bool library_has_products() {
  static const bool result = try_products();
  return result;
}

bool library_has_amx() {
  static const bool result = at::cpu::init_amx() && library_has_products();
  return result;
}

void library_product(std::int64_t rows, std::int64_t groups, const std::uint8_t* x,
                     const std::int8_t* panel, std::int32_t* sums) {
#if defined(CPUBLAS_BRGEMM_U8I8I32)
  at::native::cpublas::brgemm(rows, kPanel, 4 * groups, 4 * groups, kPanel, kPanel, false, x, panel,
                              sums);
#else
  static_cast<void>(rows), static_cast<void>(groups), static_cast<void>(x);
  static_cast<void>(panel), static_cast<void>(sums);
  TORCH_CHECK(false, "this LibTorch has no products of u8 and s8");
#endif
}

LibraryScope::~LibraryScope() {
  try {
    at::native::cpublas::brgemm_release();
  } catch (const std::exception&) {  // where there are no such products there is nothing to release
    return;
  }
}

}  // namespace repquant::ops
