#include "ops/output.h"

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <malloc.h>

#include <cstdint>
#include <deque>
#include <iterator>
#include <mutex>
#include <new>

namespace repquant::ops {
namespace {

constexpr std::size_t kSmallest = std::size_t{1} << 18;  // malloc keeps what is smaller

// Of large tensors: a block that none of so many took goes back. A forward pass makes hundreds, the
// fit of a site thousands.
constexpr std::uint64_t kPatience = 8192;

/// Blocks that no tensor uses, the one left last at the end.
class Blocks {
 public:
  static Blocks& all() {
    static auto* blocks = new Blocks;  // outlives every tensor
    return *blocks;
  }

  /// A block of `size` bytes or up to a sixteenth more, or null.
  void* take(std::size_t size) {
    const std::lock_guard lock(mutex_);
    ++taken_;
    auto best = kept_.rend();
    for (auto it = kept_.rbegin(); it != kept_.rend(); ++it) {
      const bool fits = it->size >= size && it->size - size <= size / 16;
      if (fits && (best == kept_.rend() || it->size < best->size)) best = it;
    }
    if (best == kept_.rend()) return nullptr;
    void* block = best->memory;
    bytes_ -= best->size;
    kept_.erase(std::next(best).base());
    return block;
  }

  void leave(void* block, std::size_t size) {
    const std::lock_guard lock(mutex_);
    kept_.push_back({block, size, taken_});
    bytes_ += size;
    shrink(most_);
  }

  void keep(std::size_t most) {
    const std::lock_guard lock(mutex_);
    most_ = most;
    shrink(most_);
  }

  /// False if there was nothing to give back.
  bool release() {
    const std::lock_guard lock(mutex_);
    const bool some = bytes_ > 0;
    shrink(0);
    return some;
  }

 private:
  void shrink(std::size_t most) {
    const auto goes = [&](const Block& block) {
      return bytes_ > most || taken_ - block.left > kPatience;
    };
    while (!kept_.empty() && goes(kept_.front())) {
      bytes_ -= kept_.front().size;
      c10::free_cpu(kept_.front().memory);
      kept_.pop_front();
    }
  }

  struct Block {
    void* memory;
    std::size_t size;
    std::uint64_t left;  // when, in tensors that were made before
  };

  std::mutex mutex_;
  std::deque<Block> kept_;
  std::uint64_t taken_ = 0;
  std::size_t bytes_ = 0;
  std::size_t most_ = std::size_t{256} << 20;
};

void leave(void* block) {
  const std::size_t size = malloc_usable_size(block);
  if (size < kSmallest) {
    c10::free_cpu(block);
  } else {
    Blocks::all().leave(block, size);
  }
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
  static ReusingAllocator& only() {
    static auto* allocator = new ReusingAllocator;  // outlives every tensor
    return *allocator;
  }
  c10::DataPtr allocate(std::size_t size) override {
    void* block = size < kSmallest ? nullptr : Blocks::all().take(size);
    if (block == nullptr) block = allocate_new(size);
    return {block, block, &leave, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &leave; }
  void copy_data(void* to, const void* from, std::size_t count) const override {
    default_copy_data(to, from, count);
  }
};

}  // namespace

at::Tensor new_output(at::IntArrayRef sizes, at::ScalarType type) {
  return at::detail::empty_generic(sizes, &ReusingAllocator::only(),
                                   c10::DispatchKeySet(c10::DispatchKey::CPU), type, std::nullopt);
}

void reuse_blocks(std::size_t most_kept) {
  Blocks::all().keep(most_kept);
  std::set_new_handler([] {
    if (!Blocks::all().release()) throw std::bad_alloc();
  });
  c10::SetCPUAllocator(&ReusingAllocator::only(), /*priority=*/1);
}

}  // namespace repquant::ops
