// What a pickle claims about tensors, checked without making any.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "archive/pickle.h"

namespace repquant::internal {

/// ("storage", type, key, device, number of elements)
struct PickledStorage {
  std::string type;  // "torch.FloatStorage"
  std::string key;   // of the archive's entry that holds the bytes
  std::int64_t elements = 0;
  std::uint64_t bytes = 0;  // that they take
};

struct PickledTensor {
  std::string storage_type;
  std::vector<std::int64_t> sizes;
  bool contiguous = true;
};

/// Throws Error kFile, naming `name`, for anything but a well-formed storage of a known type.
PickledStorage pickled_storage(const Pickle& pickle, const PickleValue& value,
                               const std::string& name);

/// A call of torch._utils._rebuild_tensor_v2. Throws Error kFile for any other value, and for a
/// tensor that does not lie within its storage.
PickledTensor pickled_tensor(const Pickle& pickle, const PickleValue& call,
                             const std::string& name);

/// Throws Error kFile unless every element of a tensor with these sizes and strides lies among the
/// `available` ones of its storage, and there are at most 2^36 of them.
void check_extent(std::int64_t available, std::int64_t offset,
                  const std::vector<std::int64_t>& sizes, const std::vector<std::int64_t>& strides,
                  const std::string& name);

/// Checks every storage and every call of a pickle of LibTorch. `size_of` gives the size in bytes
/// of the entry of a storage's key, or throws. Throws Error kFile for storages of another size than
/// their entries and tensors outside their storages, kUnsupported for calls that a TorchScript
/// model does not need.
void check_pickled_tensors(const Pickle& pickle,
                           const std::function<std::uint64_t(const std::string&)>& size_of,
                           const std::string& name);

}  // namespace repquant::internal
