#include "fit/spill.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>

#include "repquant/error.h"

namespace repquant {
namespace {

// Regions lie this far apart in a sparse file.
constexpr std::int64_t kRegionBytes = std::int64_t{8} << 30;
constexpr std::size_t kLeastBytes = 16384;

[[noreturn]] void fail(const std::string& folder, const char* what, int code) {
  const bool full = code == ENOSPC || code == EFBIG || code == EDQUOT;
  throw Error(full ? ErrorKind::kResource : ErrorKind::kFile,
              {.what = what,
               .where = folder,
               .got = std::strerror(code),
               .hint = "`workdir` must name a folder with room for the model's activations"});
}

bool can_spill(const c10::IValue& value, const std::unordered_set<const void*>& keep) {
  if (!value.isTensor()) return false;
  const at::Tensor& tensor = value.toTensor();
  return tensor.defined() && tensor.scalar_type() == at::kFloat &&
         tensor.layout() == at::kStrided && tensor.device().is_cpu() &&
         tensor.storage().nbytes() >= kLeastBytes && keep.count(tensor.storage().data()) == 0;
}

}  // namespace

SpillFile::SpillFile(const std::string& folder) : folder_(folder) {
  std::error_code code;
  std::filesystem::create_directories(folder, code);
  if (code) fail(folder, "the folder for activations cannot be made", code.value());
  std::string name = (std::filesystem::path(folder) / "activations.XXXXXX").string();
  file_ = ::mkostemp(name.data(), O_CLOEXEC);
  if (file_ < 0) fail(folder, "no file for activations can be made", errno);
  ::unlink(name.c_str());  // so that nothing is left behind, however the process ends
}

SpillFile::~SpillFile() {
  if (file_ >= 0) ::close(file_);
}

void SpillFile::write(std::size_t region, std::int64_t offset, const void* bytes,
                      std::size_t size) {
  if (offset + static_cast<std::int64_t>(size) > kRegionBytes) {
    fail(folder_, "the activations of one batch exceed 8 GB", EFBIG);
  }
  const auto* from = static_cast<const char*>(bytes);
  off_t at = static_cast<off_t>(region) * kRegionBytes + offset;
  while (size > 0) {
    const ssize_t written = ::pwrite(file_, from, size, at);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(folder_, "the activations cannot be written", errno);
    from += written;
    at += written;
    size -= static_cast<std::size_t>(written);
  }
}

void SpillFile::read(std::size_t region, std::int64_t offset, void* bytes, std::size_t size) const {
  auto* to = static_cast<char*>(bytes);
  off_t at = static_cast<off_t>(region) * kRegionBytes + offset;
  while (size > 0) {
    const ssize_t got = ::pread(file_, to, size, at);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) fail(folder_, "the activations cannot be read back", got < 0 ? errno : EIO);
    to += got;
    at += got;
    size -= static_cast<std::size_t>(got);
  }
}

std::int64_t SpillableValues::bytes(const std::unordered_set<const void*>& keep) const {
  std::unordered_set<const void*> seen;
  std::int64_t sum = 0;
  for (const auto& [value, content] : values_) {
    if (!can_spill(content, keep)) continue;
    const auto& storage = content.toTensor().storage();
    if (seen.insert(storage.data()).second) sum += static_cast<std::int64_t>(storage.nbytes());
  }
  return sum;
}

void SpillableValues::spill(SpillFile& file, std::size_t region,
                            const std::unordered_set<const void*>& keep) {
  std::map<const void*, std::size_t> known;  // memory -> extent
  std::int64_t end = 0;
  extents_.clear();
  for (auto entry = values_.begin(); entry != values_.end();) {
    if (!can_spill(entry->second, keep)) {
      ++entry;
      continue;
    }
    const at::Tensor& tensor = entry->second.toTensor();
    const void* memory = tensor.storage().data();
    const auto [place, is_new] = known.emplace(memory, extents_.size());
    if (is_new) {
      const std::size_t size = tensor.storage().nbytes();
      file.write(region, end, memory, size);
      extents_.push_back({end, size});
      end += static_cast<std::int64_t>(size);
    }
    tensors_[entry->first] = {place->second, tensor.sizes().vec(), tensor.strides().vec(),
                              tensor.storage_offset()};
    entry = values_.erase(entry);
  }
}

at::Tensor SpillableValues::read_tensor(const SpillFile& file, std::size_t region,
                                        const Extent& extent) {
  at::Tensor memory =
      at::empty({static_cast<std::int64_t>(extent.bytes / sizeof(float))}, at::kFloat);
  file.read(region, extent.offset, memory.mutable_data_ptr(), extent.bytes);
  return memory;
}

at::Tensor SpillableValues::view_of(const at::Tensor& memory, const SpilledTensor& tensor) {
  return memory.as_strided(tensor.sizes, tensor.strides, tensor.storage_offset);
}

Values SpillableValues::load(const SpillFile* file, std::size_t region) const {
  Values result = values_;
  std::vector<at::Tensor> memory(extents_.size());
  for (const auto& [value, tensor] : tensors_) {
    auto& own = memory[tensor.extent];
    if (!own.defined()) own = read_tensor(*file, region, extents_[tensor.extent]);
    result[value] = view_of(own, tensor);
  }
  return result;
}

std::optional<c10::IValue> SpillableValues::load(const SpillFile* file, std::size_t region,
                                                 const torch::jit::Value* value) const {
  if (const auto here = values_.find(value); here != values_.end()) return here->second;
  const auto there = tensors_.find(value);
  if (there == tensors_.end()) return std::nullopt;
  const auto& tensor = there->second;
  return view_of(read_tensor(*file, region, extents_[tensor.extent]), tensor);
}

void SpillableValues::restore(const SpillFile& file, std::size_t region) {
  if (tensors_.empty()) return;
  values_ = load(&file, region);
  tensors_.clear();
  extents_.clear();
}

}  // namespace repquant
