// Tensors saved by PyTorch (torch.save) or LibTorch (torch::save, torch::pickle_save).
//
// LibTorch's own loaders believe the sizes that a pickle states and run the __setstate__ of a saved
// module. Data may come from anywhere, so the pickle is read as data (pickle.h), nothing in it is
// called, and every tensor is checked to lie inside its storage.
#include <ATen/Functions.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>

#include "archive/pickle.h"
#include "archive/pickled_tensor.h"
#include "archive/zip_reader.h"
#include "data/arrays.h"

namespace repquant {
namespace {

using internal::Pickle;
using internal::PickleIndex;
using internal::PickleKind;
using internal::PickleValue;

constexpr std::uint64_t kMaxPickle = std::uint64_t{1} << 22;

std::optional<at::ScalarType> scalar_type(std::string_view storage) {
  static const std::map<std::string_view, at::ScalarType> kTypes{
      {"torch.FloatStorage", at::kFloat}, {"torch.DoubleStorage", at::kDouble},
      {"torch.HalfStorage", at::kHalf},   {"torch.BFloat16Storage", at::kBFloat16},
      {"torch.LongStorage", at::kLong},   {"torch.IntStorage", at::kInt},
      {"torch.ShortStorage", at::kShort}, {"torch.CharStorage", at::kChar},
      {"torch.ByteStorage", at::kByte},   {"torch.BoolStorage", at::kBool}};
  const auto found = kTypes.find(storage);
  if (found == kTypes.end()) return std::nullopt;
  return found->second;
}

class TensorReader {
 public:
  TensorReader(const ZipReader& archive, std::string root, std::string path)
      : archive_(archive),
        root_(std::move(root)),
        path_(std::move(path)),
        pickle_(internal::read_pickle(archive.read(root_ + "data.pkl", kMaxPickle), path_)) {}

  Arrays read() {
    const PickleValue& value = untagged(pickle_.root);
    switch (value.kind) {
      case PickleKind::kCall:
        return {{}, {tensor(value)}};
      case PickleKind::kList:
        return from_list(value);
      case PickleKind::kDict:
        return from_dict(value);
      case PickleKind::kObject:
        return from_object(value);
      default:
        refuse("a single value");
    }
  }

 private:
  [[noreturn]] void refuse(const std::string& got) const {
    throw_file_error("the file holds something other than tensors", path_,
                     "a tensor, a list or tuple of tensors, or a dict from name to tensor", got);
  }

  [[noreturn]] void malformed(const std::string& got) const {
    throw_file_error("the file has a malformed tensor", path_, {}, got);
  }

  const PickleValue& argument(const PickleValue& call, std::size_t position,
                              PickleKind kind) const {
    if (position >= call.items.size()) malformed("a call with too few arguments");
    const PickleValue& value = untagged(call.items[position]);
    if (value.kind != kind) malformed("a call with an argument of a wrong kind");
    return value;
  }

  /// LibTorch wraps lists and dicts into calls that name their type.
  const PickleValue& untagged(PickleIndex index) const {
    const PickleValue* value = &pickle_.at(index);
    // A bounded number of times: a forged file could wrap a value into itself.
    for (int depth = 0; depth < 8; ++depth) {
      const bool tag = value->kind == PickleKind::kCall &&
                       value->text.starts_with("torch.jit._pickle.") && !value->items.empty();
      if (!tag) return *value;
      value = &pickle_.item(*value, 0);
    }
    malformed("a value inside too many type tags");
  }

  Arrays from_list(const PickleValue& value) {
    Arrays arrays;
    for (const PickleIndex item : value.items) arrays.tensors.push_back(tensor(untagged(item)));
    return arrays;
  }

  Arrays from_dict(const PickleValue& value) {
    Arrays arrays;
    for (std::size_t i = 0; i + 1 < value.items.size(); i += 2) {
      const PickleValue& key = pickle_.item(value, i);
      if (key.kind != PickleKind::kString) refuse("a dict with a key that is no string");
      arrays.names.push_back(key.text);
      arrays.tensors.push_back(tensor(untagged(value.items[i + 1])));
    }
    return arrays;
  }

  /// The attributes of a module. Named "0", "1", ... (what torch::save makes of positional tensors)
  /// they lose their names.
  Arrays from_object(const PickleValue& value) {
    if (value.items.empty()) refuse("an object without state");
    const PickleValue& state = untagged(value.items[0]);
    if (state.kind != PickleKind::kDict) refuse("an object of " + value.text);
    Arrays arrays;
    bool positional = true;
    for (std::size_t i = 0; i + 1 < state.items.size(); i += 2) {
      const std::string& name = pickle_.item(state, i).text;
      const PickleValue& item = untagged(state.items[i + 1]);
      // Every module carries these two.
      if (name == "training" || name == "_is_full_backward_hook") continue;
      if (item.kind == PickleKind::kObject) refuse("a module with submodules (a model?)");
      positional = positional && name == std::to_string(arrays.tensors.size());
      arrays.names.push_back(name);
      arrays.tensors.push_back(tensor(item));
    }
    if (positional) arrays.names.clear();
    return arrays;
  }

  at::Tensor tensor(const PickleValue& value) {
    if (value.kind != PickleKind::kCall) refuse("a value that is not a tensor");
    if (value.text == "torch._utils._rebuild_parameter") {
      return rebuild(argument(value, 0, PickleKind::kCall));
    }
    return rebuild(value);
  }

  /// torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...)
  at::Tensor rebuild(const PickleValue& call) {
    if (call.text != "torch._utils._rebuild_tensor_v2") {
      refuse("a value made by " + call.text);
    }
    const at::Tensor flat = storage(argument(call, 0, PickleKind::kStorage));
    const std::int64_t offset = argument(call, 1, PickleKind::kInt).number;
    const std::vector<std::int64_t> sizes = integers(argument(call, 2, PickleKind::kList));
    const std::vector<std::int64_t> strides = integers(argument(call, 3, PickleKind::kList));
    internal::check_extent(flat.numel(), offset, sizes, strides, path_);
    return flat.as_strided(sizes, strides, offset);
  }

  std::vector<std::int64_t> integers(const PickleValue& list) const {
    std::vector<std::int64_t> numbers;
    for (const PickleIndex item : list.items) {
      if (pickle_.at(item).kind != PickleKind::kInt) malformed("a size that is no integer");
      numbers.push_back(pickle_.at(item).number);
    }
    return numbers;
  }

  /// The storage as a flat tensor, from ("storage", type, key, device, number of elements).
  at::Tensor storage(const PickleValue& value) {
    const PickleValue& id = pickle_.item(value, 0);
    if (id.kind != PickleKind::kList || id.items.size() < 5) malformed("an odd storage");
    const PickleValue& type_name = pickle_.item(id, 1);
    const PickleValue& key = pickle_.item(id, 2);
    const auto type = scalar_type(type_name.text);
    if (!type) malformed("elements of " + type_name.text);
    if (key.kind != PickleKind::kString) malformed("a storage without name");
    const auto known = storages_.find(key.text);
    if (known != storages_.end()) {
      if (known->second.scalar_type() != *type) malformed("a storage of two types");
      return known->second;
    }
    const std::string entry = root_ + "data/" + key.text;
    const std::uint64_t bytes = archive_.size(entry);
    const std::uint64_t item_size = c10::elementSize(*type);
    if (bytes % item_size != 0) malformed("a storage that ends inside an element");
    at::Tensor flat = at::empty({static_cast<std::int64_t>(bytes / item_size)}, *type);
    archive_.read(entry, flat.mutable_data_ptr(), bytes);
    if (*type == at::kBool) check_bool(flat);
    return storages_.emplace(key.text, std::move(flat)).first->second;
  }

  void check_bool(const at::Tensor& flat) const {
    const auto* data = static_cast<const std::uint8_t*>(flat.const_data_ptr());
    if (std::any_of(data, data + flat.numel(), [](std::uint8_t byte) { return byte > 1; })) {
      malformed("a bool that is neither 0 nor 1");
    }
  }

  const ZipReader& archive_;
  std::string root_;
  std::string path_;
  Pickle pickle_;
  std::map<std::string, at::Tensor> storages_;
};

/// The folder that all entries of a PyTorch archive lie in, with its slash.
std::string root_of(const ZipReader& archive, const std::string& path) {
  constexpr std::string_view kPickle = "/data.pkl";
  for (const std::string& name : archive.names()) {
    const std::size_t slash = name.find('/');
    if (slash != std::string::npos && name.compare(slash, std::string::npos, kPickle) == 0) {
      return name.substr(0, slash + 1);
    }
  }
  throw_file_error("the archive is not a file saved by PyTorch", path, "an entry */data.pkl");
}

void check_byte_order(const ZipReader& archive, const std::string& root, const std::string& path) {
  if (!archive.contains(root + "byteorder")) return;
  const std::vector<std::uint8_t> order = archive.read(root + "byteorder", 16);
  if (std::string(order.begin(), order.end()) != "little") {
    throw_file_error("the tensors are not little-endian", path);
  }
}

}  // namespace

Arrays read_pt(const std::filesystem::path& path) {
  const std::string name = path.string();
  const ZipReader archive(path);
  const std::string root = root_of(archive, name);
  check_byte_order(archive, root, name);
  Arrays arrays = TensorReader(archive, root, name).read();
  if (arrays.tensors.empty()) throw_file_error("the file holds no tensors", name);
  return arrays;
}

}  // namespace repquant
