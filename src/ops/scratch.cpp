#include "ops/scratch.h"

#include <memory>
#include <new>

namespace repquant::ops {
namespace {

constexpr std::align_val_t kAlignment{64};

struct Release {
  void operator()(std::uint8_t* p) const { ::operator delete[](p, kAlignment); }
};

using Buffer = std::unique_ptr<std::uint8_t[], Release>;

}  // namespace

std::uint8_t* thread_scratch(std::int64_t bytes) {
  thread_local Buffer buffer;
  thread_local std::int64_t size = 0;
  if (bytes > size || !buffer) {
    buffer = nullptr;  // first, so that both are never alive at once
    void* memory = ::operator new[](static_cast<std::size_t>(bytes > 0 ? bytes : 1), kAlignment);
    buffer = Buffer(static_cast<std::uint8_t*>(memory));
    size = bytes;
  }
  return buffer
      .get();  // NOLINT(clang-analyzer-cplusplus.NewDelete): misread move of a thread_local
}

}  // namespace repquant::ops
