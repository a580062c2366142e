// Memory of this process, as Linux accounts for it.
#pragma once

#include <cstdint>
#include <optional>

namespace repquant {

/// Bytes of RAM in use now (resident set size); 0 where the system does not tell. Memory that was
/// freed but is kept by the allocator is handed back first.
std::int64_t resident_memory_bytes();

/// Largest resident set size since the start, or since reset_peak_memory().
std::int64_t peak_memory_bytes();

/// Bytes that this process may still map under the limit of its address space (ulimit -v), not
/// below 0; nothing where there is none.
std::optional<std::int64_t> memory_left();

/// Lets tensors of 2 MB and more go back to the system when they are freed. By default glibc learns
/// to keep them, and a long run with tensors of many sizes then holds several times what it uses.
void return_large_blocks();

/// Starts a new peak; false where the system does not allow it.
bool reset_peak_memory();

}  // namespace repquant
