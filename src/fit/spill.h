// Tensors of the two value streams on disk instead of in memory.
#pragma once

#include <ATen/core/ivalue.h>

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "graph/walker.h"

namespace repquant {

/// Where living activations go once they take too much memory.
struct SpillPlace {
  std::string folder;                                // empty: they stay in memory
  std::int64_t least_bytes = std::int64_t{1} << 28;  // of all batches, from which on they do
};

/// A temporary file without a name in `folder`, in regions that are written and read as a whole.
/// It disappears with the object, and with the process. Regions may be used from several threads,
/// each from one at a time.
class SpillFile {
 public:
  /// Makes the folder if it is missing. Throws Error kFile if no file can be made in it.
  explicit SpillFile(const std::string& folder);
  ~SpillFile();
  SpillFile(const SpillFile&) = delete;
  SpillFile& operator=(const SpillFile&) = delete;

  /// Throws Error kResource when the disk is full or a region exceeds 8 GB, kFile else.
  void write(std::size_t region, std::int64_t offset, const void* bytes, std::size_t size);
  void read(std::size_t region, std::int64_t offset, void* bytes, std::size_t size) const;

 private:
  std::string folder_;
  int file_ = -1;
};

/// The values of one batch and stream, either in memory or, but for small ones, in a region of a
/// SpillFile. Values that share memory still do so after they have come back.
class SpillableValues {
 public:
  Values& in_memory() { return values_; }
  const Values& in_memory() const { return values_; }

  /// Bytes of the float tensors that spill() would write.
  std::int64_t bytes(const std::unordered_set<const void*>& keep) const;
  /// Writes every dense float tensor of more than a few kilobytes whose memory is not in `keep`
  /// (parameters and inputs, which something else holds anyway).
  void spill(SpillFile& file, std::size_t region, const std::unordered_set<const void*>& keep);
  /// Brings everything back.
  void restore(const SpillFile& file, std::size_t region);
  /// All values, without changing where they are held.
  Values load(const SpillFile* file, std::size_t region) const;
  /// One value; none if it is not alive.
  std::optional<c10::IValue> load(const SpillFile* file, std::size_t region,
                                  const torch::jit::Value* value) const;

 private:
  struct Extent {
    std::int64_t offset = 0;
    std::size_t bytes = 0;
  };
  struct SpilledTensor {
    std::size_t extent = 0;  // of its memory
    std::vector<std::int64_t> sizes, strides;
    std::int64_t storage_offset = 0;
  };

  static at::Tensor read_tensor(const SpillFile& file, std::size_t region, const Extent& extent);
  static at::Tensor view_of(const at::Tensor& memory, const SpilledTensor& tensor);

  Values values_;
  std::vector<Extent> extents_;
  std::unordered_map<const torch::jit::Value*, SpilledTensor> tensors_;
};

}  // namespace repquant
