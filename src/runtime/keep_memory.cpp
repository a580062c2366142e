#include "runtime/keep_memory.h"

#include <malloc.h>

#include <algorithm>
#include <cstdint>
#include <optional>

#include "base/memory.h"
#include "ops/output.h"

namespace repquant {

void keep_freed_memory() {
  constexpr std::int64_t kMost = std::int64_t{1} << 30;
  const std::optional<MemoryRoom> room = memory_room();
  ops::reuse_blocks(static_cast<std::size_t>(room ? std::min(kMost, room->bytes / 8) : kMost));
#if defined(__GLIBC__)
  // Blocks of megabytes stay out of the heap, where they would leave holes that the next does not
  // fit; what is smaller stays in it.
  mallopt(M_MMAP_THRESHOLD, 1 << 21);
  mallopt(M_TRIM_THRESHOLD, 1 << 26);
#endif
}

}  // namespace repquant
