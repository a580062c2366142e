// Integer products of LibTorch's own library (oneDNN), which runs them on AMX where the processor
// has it.
#pragma once

#include <cstdint>

namespace repquant::ops {

/// Whether there are such products: they are tried on small problems once, and have to be exact.
bool library_has_products();

/// Whether they would run on AMX: the processor has it and the system lets this process use it.
bool library_has_amx();

/// sums[r kPanel + n] = products of `rows` rows x, 4 groups bytes each, and a packed panel of
/// bytes. Every other number of rows or groups makes the library write code for it once per thread.
/// Throws c10::Error where there are no such products.
void library_product(std::int64_t rows, std::int64_t groups, const std::uint8_t* x,
                     const std::int8_t* panel, std::int32_t* sums);

/// What the library keeps for a thread's next product goes back to the processor at the end: AMX
/// saves its tiles at every switch of threads.
class LibraryScope {
 public:
  LibraryScope() = default;
  ~LibraryScope();
  LibraryScope(const LibraryScope&) = delete;
  LibraryScope& operator=(const LibraryScope&) = delete;
};

}  // namespace repquant::ops
