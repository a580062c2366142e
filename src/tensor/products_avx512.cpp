// Compiled for AVX-512, so nothing here may be an inline function that other files share: the
// linker keeps one copy of those, which older processors may have to run.
#include <Eigen/Core>

#include "tensor/products.h"

namespace repquant::internal {
namespace {

constexpr int kRowMajor = Eigen::RowMajor, kColumnMajor = Eigen::ColMajor;

template <typename T, int kOrder>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, kOrder>;
template <typename T, int kOrder>
using ConstMap = Eigen::Map<const Matrix<T, kOrder>, 0, Eigen::OuterStride<>>;
template <typename T>
using Map = Eigen::Map<Matrix<T, kRowMajor>, 0, Eigen::OuterStride<>>;

template <int kOrder, typename T>
ConstMap<T, kOrder> map_of(const MatrixView<T>& view) {
  const std::int64_t stride = kOrder == kRowMajor ? view.row_stride : view.column_stride;
  return {view.data, view.rows, view.columns, Eigen::OuterStride<>(stride)};
}

template <int kLeft, int kRight, typename T>
void add(const MatrixView<T>& a, const MatrixView<T>& b, T factor, Map<T>& out) {
  out.noalias() += factor * map_of<kLeft>(a) * map_of<kRight>(b);
}

/// Blocks of the sum over K follow from the caches, and results from the blocks: the same
/// everywhere.
bool set_cache_sizes() {
  Eigen::setCpuCacheSizes(32 << 10, 1 << 20, 8 << 20);
  return true;
}

}  // namespace

template <typename T>
void add_product(const MatrixView<T>& a, const MatrixView<T>& b, T factor, T* out,
                 std::int64_t out_stride) {
  [[maybe_unused]] static const bool kSet = set_cache_sizes();
  Map<T> to(out, a.rows, b.columns, Eigen::OuterStride<>(out_stride));
  const bool rows = b.column_stride == 1;
  if (a.column_stride == 1) {
    rows ? add<kRowMajor, kRowMajor>(a, b, factor, to)
         : add<kRowMajor, kColumnMajor>(a, b, factor, to);
  } else {
    rows ? add<kColumnMajor, kRowMajor>(a, b, factor, to)
         : add<kColumnMajor, kColumnMajor>(a, b, factor, to);
  }
}

template void add_product(const MatrixView<float>&, const MatrixView<float>&, float, float*,
                          std::int64_t);
template void add_product(const MatrixView<double>&, const MatrixView<double>&, double, double*,
                          std::int64_t);

}  // namespace repquant::internal
