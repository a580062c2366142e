#include "ops/output.h"

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

namespace repquant::ops {
namespace {

constexpr std::size_t kSmallest = std::size_t{1} << 18;  // malloc keeps what is smaller
constexpr std::size_t kMostKept = std::size_t{256} << 20;

/// Blocks that no tensor uses, the one left last at the end.
class Blocks {
 public:
  static Blocks& all() {
    static auto* blocks = new Blocks;  // outlives every tensor
    return *blocks;
  }

  /// A block of `size` bytes or up to a quarter more, or null; `size` becomes what it has.
  void* take(std::size_t& size) {
    const std::lock_guard lock(mutex_);
    auto best = kept_.rend();
    for (auto it = kept_.rbegin(); it != kept_.rend(); ++it) {
      const bool fits = it->second >= size && it->second - size <= size / 4;
      if (fits && (best == kept_.rend() || it->second < best->second)) best = it;
    }
    if (best == kept_.rend()) return nullptr;
    void* block = best->first;
    size = best->second;
    bytes_ -= size;
    kept_.erase(std::next(best).base());
    return block;
  }

  void leave(void* block, std::size_t size) {
    const std::lock_guard lock(mutex_);
    kept_.emplace_back(block, size);
    bytes_ += size;
    shrink(kMostKept);
  }

  void release() {
    const std::lock_guard lock(mutex_);
    shrink(0);
  }

 private:
  void shrink(std::size_t most) {
    while (bytes_ > most) {
      bytes_ -= kept_.front().second;
      c10::free_cpu(kept_.front().first);
      kept_.erase(kept_.begin());
    }
  }

  std::mutex mutex_;
  std::vector<std::pair<void*, std::size_t>> kept_;
  std::size_t bytes_ = 0;
};

struct Block {
  void* memory;
  std::size_t size;
};

void leave(void* context) {
  auto* block = static_cast<Block*>(context);
  Blocks::all().leave(block->memory, block->size);
  delete block;
}

void* allocate_new(std::size_t size) {
  try {
    return c10::alloc_cpu(size);
  } catch (const c10::Error&) {
    Blocks::all().release();  // what is kept may be what is missing
    return c10::alloc_cpu(size);
  }
}

class ReusingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t size) override {
    if (size < kSmallest) return c10::GetCPUAllocator()->allocate(size);
    void* memory = Blocks::all().take(size);
    if (memory == nullptr) memory = allocate_new(size);
    return {memory, new Block{memory, size}, &leave, c10::Device(c10::DeviceType::CPU)};
  }
  void copy_data(void* to, const void* from, std::size_t count) const override {
    default_copy_data(to, from, count);
  }
};

}  // namespace

at::Tensor new_output(at::IntArrayRef sizes, at::ScalarType type) {
  static ReusingAllocator allocator;
  return at::detail::empty_generic(sizes, &allocator, c10::DispatchKeySet(c10::DispatchKey::CPU),
                                   type, std::nullopt);
}

}  // namespace repquant::ops
