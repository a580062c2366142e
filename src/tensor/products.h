// Matrix products on processors for which LibTorch's library keeps its fast ones back.
#pragma once

#include <cstdint>

namespace repquant {

/// While one lives, in whatever thread, LibTorch's products of dense float32 and float64 matrices
/// (mm, addmm, bmm, and what consists of them: linear, matmul, gradients) are computed by Eigen
/// with AVX-512. Does nothing without AVX-512 and on Intel's processors. On others MKL, which
/// LibTorch computes them with, stays with AVX2 and takes twice as long. Sums are taken in another
/// order, which does not depend on the number of threads.
class FastProducts {
 public:
  FastProducts();
  ~FastProducts();
  FastProducts(const FastProducts&) = delete;
  FastProducts& operator=(const FastProducts&) = delete;
};

namespace internal {

/// A matrix in memory: one of its strides, in elements, is 1.
template <typename T>
struct MatrixView {
  const T* data;
  std::int64_t rows, columns, row_stride, column_stride;
};

/// True if this processor can run add_product().
bool has_fast_products();

/// out [rows of a, columns of b] += factor a b. Rows of `out` lie `out_stride` elements apart. For
/// float and double. Throws std::bad_alloc.
template <typename T>
void add_product(const MatrixView<T>& a, const MatrixView<T>& b, T factor, T* out,
                 std::int64_t out_stride);

}  // namespace internal
}  // namespace repquant
