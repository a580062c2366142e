// .npy and .npz files as tensors.
#include <ATen/Functions.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <span>

#include "archive/zip_reader.h"
#include "data/arrays.h"
#include "data/npy_header.h"

namespace repquant {
namespace {

using internal::kMaxNpyHeader;
using internal::NpyHeader;
using internal::parse_npy_header;

std::vector<std::int64_t> strides_of(const NpyHeader& header) {
  std::vector<std::int64_t> strides(header.shape.size(), 1);
  std::int64_t stride = 1;
  for (std::size_t i = 0; i < strides.size(); ++i) {
    const std::size_t axis = header.fortran_order ? i : strides.size() - 1 - i;
    strides[axis] = stride;
    stride *= std::max<std::int64_t>(header.shape[axis], 1);
  }
  return strides;
}

/// Types that LibTorch computes with. Unsigned types above 8 bits are read as signed ones of the
/// same size and widened afterwards.
at::ScalarType scalar_type(const NpyHeader& header) {
  if (header.kind == 'b') return at::kBool;
  if (header.kind == 'f') {
    return header.item_size == 2 ? at::kHalf : header.item_size == 4 ? at::kFloat : at::kDouble;
  }
  switch (header.item_size) {
    case 1:
      return header.kind == 'u' ? at::kByte : at::kChar;
    case 2:
      return at::kShort;
    case 4:
      return at::kInt;
    default:
      return at::kLong;
  }
}

void check_bool(Bytes data, const std::string& name) {
  if (std::any_of(data.begin(), data.end(), [](std::uint8_t byte) { return byte > 1; })) {
    throw_file_error("the .npy file has a bool that is neither 0 nor 1", name);
  }
}

at::Tensor widen_unsigned(const at::Tensor& raw, const NpyHeader& header, const std::string& name) {
  if (header.kind != 'u' || header.item_size == 1) return raw;
  if (header.item_size == 8) {
    if (raw.numel() > 0 && raw.min().item<std::int64_t>() < 0) {
      throw_file_error("the .npy file has an unsigned value that does not fit int64", name);
    }
    return raw;
  }
  const at::ScalarType wider = header.item_size == 2 ? at::kInt : at::kLong;
  return raw.to(wider).bitwise_and(header.item_size == 2 ? std::int64_t{0xFFFF}
                                                         : std::int64_t{0xFFFFFFFF});
}

at::Tensor to_tensor(const NpyHeader& header, Bytes file, const std::string& name) {
  const Bytes data = file.subspan(header.data_offset, header.data_size);
  if (header.kind == 'b') check_bool(data, name);
  at::Tensor raw = at::empty_strided(header.shape, strides_of(header), scalar_type(header));
  if (!data.empty()) std::memcpy(raw.mutable_data_ptr(), data.data(), data.size());
  return widen_unsigned(raw, header, name);
}

/// The array of a whole file, without a copy where its data are aligned; `release` is called once
/// nothing reads the file any more.
at::Tensor tensor_over(const NpyHeader& header, std::span<std::uint8_t> file,
                       const std::function<void(void*)>& release, const std::string& name) {
  const bool aligned = header.data_offset % static_cast<std::size_t>(header.item_size) == 0;
  if (!aligned || header.data_size == 0) return to_tensor(header, file, name);
  if (header.kind == 'b') check_bool(file.subspan(header.data_offset), name);
  const at::Tensor raw =
      at::from_blob(file.data() + header.data_offset, header.shape, strides_of(header), release,
                    at::TensorOptions(scalar_type(header)));
  return widen_unsigned(raw, header, name);
}

/// The header comes first: an entry of another size than it states is not unpacked.
at::Tensor read_entry(const ZipReader& archive, const std::string& entry, const std::string& name) {
  const NpyHeader header =
      parse_npy_header(archive.read_start(entry, kMaxNpyHeader), archive.size(entry), name);
  const auto bytes = std::make_shared<std::vector<std::uint8_t>>(archive.read(entry));
  return tensor_over(
      header, *bytes, [bytes](void*) {}, name);
}

/// "arr_7" -> 7, anything else -> -1.
std::int64_t positional_index(const std::string& name) {
  constexpr std::string_view kPrefix = "arr_";
  const bool digits = name.starts_with(kPrefix) && name.size() > kPrefix.size() &&
                      name.size() < 12 &&
                      std::all_of(name.begin() + static_cast<std::ptrdiff_t>(kPrefix.size()),
                                  name.end(), [](char c) { return c >= '0' && c <= '9'; });
  return digits ? std::stoll(name.substr(kPrefix.size())) : -1;
}

/// Drops names that only number the tensors, and puts these in order.
Arrays without_positional_names(Arrays arrays) {
  std::vector<at::Tensor> ordered(arrays.tensors.size());
  for (std::size_t i = 0; i < arrays.names.size(); ++i) {
    const std::int64_t index = positional_index(arrays.names[i]);
    if (index < 0 || index >= static_cast<std::int64_t>(ordered.size())) return arrays;
    at::Tensor& slot = ordered[static_cast<std::size_t>(index)];
    if (slot.defined()) return arrays;
    slot = arrays.tensors[i];
  }
  return {{}, std::move(ordered)};
}

}  // namespace

at::Tensor parse_npy(Bytes bytes, const std::string& name) {
  return to_tensor(parse_npy_header(bytes, bytes.size(), name), bytes, name);
}

at::Tensor read_npy(const std::filesystem::path& path) {
  const MappedFile file(path);
  const std::string name = path.string();
  const NpyHeader header = parse_npy_header(file.bytes(), file.size(), name);
  return tensor_over(
      header, {file.data(), file.size()}, [file](void*) {}, name);
}

Arrays read_npz(const std::filesystem::path& path) {
  const ZipReader archive(path);
  Arrays arrays;
  for (const std::string& entry : archive.names()) {
    constexpr std::string_view kSuffix = ".npy";
    if (!entry.ends_with(kSuffix) || entry.size() == kSuffix.size()) {
      throw_file_error("the .npz archive has an entry that is not an array", path.string(),
                       "entries named *.npy", entry);
    }
    arrays.names.push_back(entry.substr(0, entry.size() - kSuffix.size()));
    arrays.tensors.push_back(read_entry(archive, entry, path.string() + ":" + entry));
  }
  if (arrays.tensors.empty()) throw_file_error("the .npz archive has no arrays", path.string());
  return without_positional_names(std::move(arrays));
}

}  // namespace repquant
