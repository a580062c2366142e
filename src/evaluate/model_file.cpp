#include "evaluate/model_file.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "archive/zip_reader.h"
#include "data/file_kind.h"
#include "format/validate.h"
#include "graph/archive.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;
using namespace std::string_view_literals;  // NOLINT(google-build-using-namespace): literals

constexpr const char* kExport =
    "build the model in Python, then model.eval(), torch.jit.trace and torch.jit.save; "
    "scripts/export_timm.py and scripts/export_transformers.py do that";
constexpr const char* kExportWeights =
    "weights need the code of their model: scripts/export_timm.py --checkpoint FILE or "
    "scripts/export_transformers.py --model FOLDER, or torch.jit.trace of your own model";

/// What a file is, if it is no TorchScript archive, and what to do about it.
struct OtherFile {
  std::string what;
  std::string hint;
};

/// The class of the object in a pickle, if it is none of tensors and containers.
std::string pickled_class(std::string_view pickle) {
  if (pickle.size() < 3 || pickle[2] != 'c') return "";  // no global comes first: a container
  const std::size_t module_end = pickle.find('\n');
  const std::size_t name_end =
      module_end == pickle.npos ? module_end : pickle.find('\n', module_end + 1);
  if (name_end == pickle.npos) return "";
  const std::string module(pickle.substr(3, module_end - 3));
  const std::string name(pickle.substr(module_end + 1, name_end - module_end - 1));
  return module == "collections" || module == "torch._utils" ? "" : module + "." + name;
}

OtherFile saved_object(std::string_view pickle) {
  const std::string name = pickled_class(pickle);
  if (name.empty()) return {"an archive of torch.save without code: a state dict", kExportWeights};
  return {"an archive of torch.save without code: a pickled " + name,
          "torch.load it where its code is, then model.eval(), torch.jit.trace, torch.jit.save"};
}

std::optional<OtherFile> other_zip(const std::string& path) {
  const ZipReader zip(path);
  const auto entry = [&zip](std::string_view ending) -> const std::string* {
    for (const auto& name : zip.names()) {
      if (name.ends_with(ending)) return &name;
    }
    return nullptr;
  };
  if (entry("/constants.pkl") != nullptr) return std::nullopt;
  if (entry("serialized_exported_program.json") != nullptr || entry("/archive_format") != nullptr ||
      entry("models/model.json") != nullptr) {
    return OtherFile{"a program of torch.export (.pt2)",
                     "export the same model with torch.jit.trace and torch.jit.save instead"};
  }
  if (const std::string* pickle = entry("/data.pkl")) {
    constexpr std::uint64_t kLargest = std::uint64_t{1} << 26;
    if (zip.size(*pickle) > kLargest) return saved_object("");
    const std::vector<std::uint8_t> bytes = zip.read(*pickle, kLargest);
    std::string head(
        bytes.begin(),
        bytes.begin() + std::min<std::ptrdiff_t>(512, static_cast<std::ptrdiff_t>(bytes.size())));
    return saved_object(head);
  }
  if (file_kind(path) == FileKind::kNpz) {
    return OtherFile{"arrays of NumPy (.npz)", "the model comes first, data with its option"};
  }
  return OtherFile{"a zip archive of other content", kExport};
}

std::optional<OtherFile> other_file(const std::string& path) {
  const std::vector<std::uint8_t> bytes = read_head(path);
  const std::string_view head(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto begins = [head](std::string_view magic, std::size_t at = 0) {
    return head.size() >= at && head.substr(at, magic.size()) == magic;
  };
  if (begins("PK\x03\x04"sv)) return other_zip(path);
  if (begins("{\""sv, 8)) return OtherFile{"safetensors: weights without code", kExportWeights};
  if (begins("version https://git-lfs"sv)) {
    return OtherFile{"a pointer of Git LFS, not the file itself", "fetch it with git lfs pull"};
  }
  // Protobuf has no signature: field 1 (the version) and then field 2 (the producer).
  if (fs::path(path).extension() == ".onnx" || (begins("\x08"sv) && begins("\x12"sv, 2))) {
    return OtherFile{"an ONNX model", kExport};
  }
  if (begins("GGUF"sv)) return OtherFile{"a GGUF file, which is quantized already", kExport};
  if (begins("\x89HDF"sv)) return OtherFile{"an HDF5 file: weights without code", kExportWeights};
  if (begins("\x80"sv)) {
    return OtherFile{"a plain pickle: a file of torch.save in its old format, without code",
                     kExportWeights};
  }
  switch (file_kind(path)) {
    case FileKind::kText:
      return OtherFile{"text", kExport};
    case FileKind::kNpy:
      return OtherFile{"an array of NumPy (.npy)", "the model comes first, data with its option"};
    case FileKind::kJpeg:
    case FileKind::kPng:
      return OtherFile{"an image", "the model comes first, data with its option"};
    default:
      return OtherFile{describe_content(bytes), kExport};
  }
}

}  // namespace

void check_model_file(const std::string& path, bool trusted) {
  check_model_path(path);
  std::optional<OtherFile> other;
  try {
    other = other_file(path);
  } catch (const Error& e) {
    throw model_file_error(path, "the model file is damaged",
                           e.parts().got.empty() ? e.parts().what : e.parts().got,
                           "copy or export it again");
  }
  if (!other) {
    validate_archive(path, trusted);
    return;
  }
  throw model_file_error(path, "the model file is not a TorchScript archive", other->what,
                         other->hint);
}

}  // namespace repquant
