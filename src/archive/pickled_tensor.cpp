#include "archive/pickled_tensor.h"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>
#include <utility>

#include "base/text_table.h"
#include "repquant/error.h"

namespace repquant::internal {
namespace {

constexpr std::size_t kMaxDimensions = 64;  // LibTorch's own limit for most operators

constexpr std::array<std::pair<std::string_view, std::uint64_t>, 20> kStorages{
    {{"torch.FloatStorage", 4},
     {"torch.DoubleStorage", 8},
     {"torch.HalfStorage", 2},
     {"torch.BFloat16Storage", 2},
     {"torch.LongStorage", 8},
     {"torch.IntStorage", 4},
     {"torch.ShortStorage", 2},
     {"torch.CharStorage", 1},
     {"torch.ByteStorage", 1},
     {"torch.UInt16Storage", 2},
     {"torch.UInt32Storage", 4},
     {"torch.UInt64Storage", 8},
     {"torch.BoolStorage", 1},
     {"torch.ComplexHalfStorage", 4},
     {"torch.ComplexFloatStorage", 8},
     {"torch.ComplexDoubleStorage", 16},
     {"torch.Float8_e5m2Storage", 1},
     {"torch.Float8_e4m3fnStorage", 1},
     {"torch.Float8_e5m2fnuzStorage", 1},
     {"torch.Float8_e4m3fnuzStorage", 1}}};

constexpr std::array<std::string_view, 10> kCalls{"torch._utils._rebuild_tensor_v2",
                                                  "torch._utils._rebuild_parameter",
                                                  "torch.jit._pickle.build_intlist",
                                                  "torch.jit._pickle.build_doublelist",
                                                  "torch.jit._pickle.build_boollist",
                                                  "torch.jit._pickle.build_tensorlist",
                                                  "torch.jit._pickle.restore_type_tag",
                                                  "collections.OrderedDict",
                                                  "torch.device",
                                                  "builtins.complex"};

[[noreturn]] void malformed(const std::string& name, const std::string& got) {
  throw_file_error("the file has a malformed tensor", name, {}, got,
                   "copy the file again, or export the model again");
}

const PickleValue& argument(const Pickle& pickle, const PickleValue& list, std::size_t position,
                            PickleKind kind, const std::string& name) {
  if (position >= list.items.size()) malformed(name, "too few arguments");
  const PickleValue& value = pickle.item(list, position);
  if (value.kind != kind) malformed(name, "an argument of a wrong kind");
  return value;
}

std::vector<std::int64_t> integers(const Pickle& pickle, const PickleValue& list,
                                   const std::string& name) {
  std::vector<std::int64_t> numbers;
  for (std::size_t i = 0; i < list.items.size(); ++i) {
    numbers.push_back(argument(pickle, list, i, PickleKind::kInt, name).number);
  }
  return numbers;
}

bool is_contiguous(const std::vector<std::int64_t>& sizes,
                   const std::vector<std::int64_t>& strides) {
  std::int64_t expected = 1;
  for (std::size_t axis = sizes.size(); axis-- > 0;) {
    if (sizes[axis] == 0) return true;
    if (sizes[axis] != 1 && strides[axis] != expected) return false;
    expected *= sizes[axis];
  }
  return true;
}

}  // namespace

PickledStorage pickled_storage(const Pickle& pickle, const PickleValue& value,
                               const std::string& name) {
  if (value.kind != PickleKind::kStorage || value.items.size() != 1) {
    malformed(name, "an odd storage");
  }
  const PickleValue& id = argument(pickle, value, 0, PickleKind::kList, name);
  if (argument(pickle, id, 0, PickleKind::kString, name).text != "storage") {
    malformed(name, "an odd storage");
  }
  PickledStorage storage;
  storage.type = argument(pickle, id, 1, PickleKind::kGlobal, name).text;
  storage.key = argument(pickle, id, 2, PickleKind::kString, name).text;
  storage.elements = argument(pickle, id, 4, PickleKind::kInt, name).number;
  const auto known = std::find_if(kStorages.begin(), kStorages.end(),
                                  [&](const auto& row) { return row.first == storage.type; });
  if (known == kStorages.end()) malformed(name, "elements of " + storage.type.substr(0, 60));
  if (storage.elements < 0 || __builtin_mul_overflow(static_cast<std::uint64_t>(storage.elements),
                                                     known->second, &storage.bytes)) {
    malformed(name, "a storage of " + counted(storage.elements, "element"));
  }
  return storage;
}

PickledTensor pickled_tensor(const Pickle& pickle, const PickleValue& call,
                             const std::string& name) {
  if (call.kind == PickleKind::kCall && call.text == "torch._utils._rebuild_parameter") {
    const PickleValue& inner = argument(pickle, call, 0, PickleKind::kCall, name);
    if (inner.text == call.text) malformed(name, "a parameter of a parameter");
    return pickled_tensor(pickle, inner, name);
  }
  if (call.kind != PickleKind::kCall || call.text != "torch._utils._rebuild_tensor_v2") {
    malformed(name, "a value that is not a tensor");
  }
  const PickledStorage storage =
      pickled_storage(pickle, argument(pickle, call, 0, PickleKind::kStorage, name), name);
  const std::int64_t offset = argument(pickle, call, 1, PickleKind::kInt, name).number;
  const auto sizes = integers(pickle, argument(pickle, call, 2, PickleKind::kList, name), name);
  const auto strides = integers(pickle, argument(pickle, call, 3, PickleKind::kList, name), name);
  check_extent(storage.elements, offset, sizes, strides, name);
  return {storage.type, sizes, is_contiguous(sizes, strides)};
}

void check_extent(std::int64_t available, std::int64_t offset,
                  const std::vector<std::int64_t>& sizes, const std::vector<std::int64_t>& strides,
                  const std::string& name) {
  bool valid = sizes.size() == strides.size() && sizes.size() <= kMaxDimensions && offset >= 0;
  std::int64_t count = 1;
  std::int64_t last = offset;
  for (std::size_t axis = 0; axis < sizes.size() && valid; ++axis) {
    std::int64_t reach = 0;
    valid = sizes[axis] >= 0 && strides[axis] >= 0 &&
            !__builtin_mul_overflow(count, std::max<std::int64_t>(sizes[axis], 1), &count) &&
            !__builtin_mul_overflow(std::max<std::int64_t>(sizes[axis] - 1, 0), strides[axis],
                                    &reach) &&
            !__builtin_add_overflow(last, reach, &last);
  }
  const bool empty = std::find(sizes.begin(), sizes.end(), 0) != sizes.end();
  // Broadcast views may have more elements than their storage, but not without measure.
  constexpr std::int64_t kMaxElements = std::int64_t{1} << 36;
  valid = valid && count <= kMaxElements && (empty ? offset <= available : last < available);
  if (!valid) {
    throw_file_error("the file has a tensor larger than its data", name,
                     "a tensor inside a storage of " + counted(available, "element"));
  }
}

void check_pickled_tensors(const Pickle& pickle,
                           const std::function<std::uint64_t(const std::string&)>& size_of,
                           const std::string& name) {
  std::map<std::string, std::uint64_t> known;
  for (const PickleValue& value : pickle.values) {
    if (value.kind == PickleKind::kStorage) {
      const PickledStorage storage = pickled_storage(pickle, value, name);
      if (known.count(storage.key) == 0 && storage.elements > 0) {
        known[storage.key] = size_of(storage.key);
      }
      // Nothing is read for a storage without elements.
      if (storage.elements > 0 && known[storage.key] != storage.bytes) {
        throw_file_error("the file has a tensor whose data has another size", name,
                         counted(storage.bytes, "byte"), counted(known[storage.key], "byte"),
                         "copy the file again, or export the model again");
      }
    } else if (value.kind == PickleKind::kCall) {
      if (std::find(kCalls.begin(), kCalls.end(), value.text) == kCalls.end()) {
        throw Error(ErrorKind::kUnsupported,
                    {.what = "the file holds a value that a TorchScript model does not need",
                     .where = name,
                     .expected = "tensors, numbers, texts, and lists of them",
                     .got = value.text.substr(0, 80)});
      }
      if (value.text.starts_with("torch._utils.")) pickled_tensor(pickle, value, name);
    }
  }
}

}  // namespace repquant::internal
