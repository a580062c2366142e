#include "ops/scratch.h"

#include <memory>
#include <new>

namespace repquant::ops {
namespace {

constexpr std::align_val_t kAlignment{64};

struct Release {
  void operator()(std::uint8_t* p) const { ::operator delete[](p, kAlignment); }
};

}  // namespace

std::uint8_t* thread_scratch(std::int64_t bytes) {
  thread_local std::unique_ptr<std::uint8_t[], Release> buffer;
  thread_local std::int64_t size = 0;
  if (bytes > size || !buffer) {
    buffer.reset();
    buffer.reset(static_cast<std::uint8_t*>(
        ::operator new[](static_cast<std::size_t>(bytes > 0 ? bytes : 1), kAlignment)));
    size = bytes;
  }
  return buffer.get();
}

}  // namespace repquant::ops
