#include "format/validate.h"

#include <c10/util/Exception.h>
#include <caffe2/serialize/inline_container.h>

#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "archive/pickle.h"
#include "archive/pickled_tensor.h"
#include "archive/zip_reader.h"
#include "format/check_code.h"
#include "format/check_state.h"
#include "repquant/error.h"
#include "tensor/current_error.h"

namespace repquant {
namespace {

// Text and structure; the weights are in entries of their own. A site takes some kilobytes of each.
constexpr std::uint64_t kMaxPickle = std::uint64_t{1} << 27;
constexpr std::uint64_t kMaxCode = std::uint64_t{1} << 26;
// Of code, in all files: LibTorch takes a second for some thousand. BERT-base has 3 thousand.
constexpr std::size_t kMaxLines = 100000;
// Of all code, and of all pickles.
constexpr std::uint64_t kMaxText = std::uint64_t{1} << 28;

std::string place_in(const std::string& path, const std::string& name) { return path + ":" + name; }

/// LibTorch turns the version into a number while it opens the archive, and does not expect what
/// is none. Returns `path`.
const std::string& with_version(const ZipReader& zip, const std::string& path) {
  constexpr std::size_t kMostDigits = 9;
  for (const std::string& name : zip.names()) {
    const std::string entry = name.substr(name.find('/') + 1);
    if (entry != ".data/version" && entry != "version") continue;
    const std::vector<std::uint8_t> bytes = zip.read_start(name, kMostDigits + 3);
    std::string text(bytes.begin(), bytes.end());
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
    const bool number = !text.empty() && text.size() <= kMostDigits &&
                        text.find_first_not_of("0123456789") == std::string::npos;
    if (!number) throw_file_error("the archive's version is no number", place_in(path, name));
  }
  return path;
}

/// An archive as LibTorch sees it, with sizes that libzip confirms: two readers that disagree about
/// a file could be led to look at different parts of it.
class CheckedArchive {
 public:
  explicit CheckedArchive(const std::string& path)
      : path_(path),
        file_size_(std::filesystem::file_size(path)),
        zip_(path),
        reader_(with_version(zip_, path)) {
    if (zip_.names().empty()) throw_file_error("the archive is empty", path);
    root_ = zip_.names().front().substr(0, zip_.names().front().find('/') + 1);
    names_ = reader_.getAllRecords();
    for (const auto& name : names_) check_size(name);
  }

  const std::vector<std::string>& names() const { return names_; }
  bool has(const std::string& name) { return reader_.hasRecord(name); }
  std::string place(const std::string& name) const { return place_in(path_, name); }

  /// Size of an entry; throws Error kFile if there is none.
  std::uint64_t size(const std::string& name) {
    if (!reader_.hasRecord(name)) {
      throw_file_error("the archive lacks the data of a tensor", place(name));
    }
    return reader_.getRecordSize(name);
  }

  std::string text(const std::string& name, std::uint64_t limit) {
    const std::uint64_t bytes = size(name);
    text_size_ += bytes;
    if (bytes > limit || text_size_ > kMaxText) {
      throw_file_error("the archive's entry is too large", place(name),
                       "at most " + std::to_string(limit) + " bytes", std::to_string(bytes));
    }
    auto [data, count] = reader_.getRecord(name);
    return {static_cast<const char*>(data.get()), count};
  }

 private:
  void check_size(const std::string& name) {
    const std::uint64_t size = reader_.getRecordSize(name);
    const bool text = name.starts_with("code/") || name.starts_with("extra/");
    // zip_.size() refuses what no compression gives; only text is worth compressing.
    if (zip_.size(root_ + name) != size || (!text && size > file_size_)) {
      throw_file_error("the archive's entry has an impossible size", place(name),
                       "at most " + std::to_string(file_size_) + " bytes", std::to_string(size),
                       "copy the file again, or export the model again");
    }
  }

  std::string path_;
  std::uint64_t file_size_;
  ZipReader zip_;
  caffe2::serialize::PyTorchStreamReader reader_;
  std::string root_;
  std::vector<std::string> names_;
  std::uint64_t text_size_ = 0;
};

internal::Pickle checked_pickle(CheckedArchive& archive, const std::string& name) {
  const std::string text = archive.text(name, kMaxPickle);
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
  internal::Pickle pickle = internal::read_pickle({bytes, text.size()}, archive.place(name));
  internal::check_pickle_depth(pickle, archive.place(name));
  return pickle;
}

/// Names of classes and types are code as well: LibTorch parses them, by recursion.
void check_types(const internal::Pickle& pickle, const std::string& where, bool trusted) {
  for (const internal::PickleValue& value : pickle.values) {
    if (value.kind == internal::PickleKind::kGlobal) check_code(value.text, where, trusted);
    if (value.text != "torch.jit._pickle.restore_type_tag") continue;
    for (std::size_t i = 0; i < value.items.size(); ++i) {
      const internal::PickleValue& argument = pickle.item(value, i);
      if (argument.kind == internal::PickleKind::kString) check_code(argument.text, where, trusted);
    }
  }
}

/// "data.pkl" with its tensors in "data/", "constants.pkl" with theirs in "constants/".
void check_values(CheckedArchive& archive, const std::string& name, bool trusted) {
  const internal::Pickle pickle = checked_pickle(archive, name + ".pkl");
  const auto size_of = [&](const std::string& key) { return archive.size(name + "/" + key); };
  internal::check_pickled_tensors(pickle, size_of, archive.place(name + ".pkl"));
  check_types(pickle, archive.place(name + ".pkl"), trusted);
  check_state(pickle, archive.place(name + ".pkl"));
}

void check_entries(CheckedArchive& archive, const std::string& path, bool trusted) {
  if (archive.has("model.json")) {
    throw Error(ErrorKind::kUnsupported, {.what = "the model was saved by PyTorch before 1.4",
                                          .where = path,
                                          .hint = "load and save it again with a newer PyTorch"});
  }
  if (!archive.has("constants.pkl")) {
    throw Error(ErrorKind::kFile, unreadable_model(path, "an archive of torch.save, without code"));
  }
  std::size_t lines = 0;
  for (const auto& name : archive.names()) {
    if (!name.starts_with("code/")) continue;
    if (name.ends_with(".py")) {
      lines += check_code(archive.text(name, kMaxCode), archive.place(name), trusted);
      if (lines > kMaxLines) {
        throw_file_error("the model's code is too long to be compiled", archive.place(name),
                         "at most " + std::to_string(kMaxLines) + " lines",
                         "more than " + std::to_string(kMaxLines),
                         "a trace that unrolls a loop is that long: export with torch.jit.script, "
                         "or fewer steps");
      }
    } else {
      checked_pickle(archive, name);  // positions in the source, read for messages
    }
  }
  for (const char* name : {"constants", "data"}) {
    if (archive.has(std::string(name) + ".pkl")) check_values(archive, name, trusted);
  }
}

}  // namespace

ErrorParts unreadable_model(const std::string& path, const std::string& got) {
  return {.what = "the model file cannot be loaded as TorchScript",
          .where = path,
          .expected = "a TorchScript file saved with torch.jit.save",
          .got = got.substr(0, 300),
          .hint =
              "a state dict or a pickled nn.Module must be exported with torch.jit.trace first; "
              "a truncated file must be copied again"};
}

void validate_archive(const std::string& path, bool trusted) {
  std::optional<CheckedArchive> archive;
  try {
    archive.emplace(path);
    check_entries(*archive, path, trusted);
  } catch (const Error& e) {
    if (archive) throw;
    const ErrorParts& parts = e.parts();
    throw Error(ErrorKind::kFile,
                unreadable_model(path, parts.what + (parts.got.empty() ? "" : ": " + parts.got)));
  } catch (const c10::Error& e) {
    rethrow_if_out_of_memory(path);
    throw Error(ErrorKind::kFile, unreadable_model(path, e.what_without_backtrace()));
  }
}

ArchiveSize check_checksums(const std::string& path) {
  const ZipReader zip(path);
  ArchiveSize size{.entries = zip.names().size()};
  for (const std::string& name : zip.names()) {
    zip.check(name);
    size.bytes += zip.size(name);
  }
  return size;
}

}  // namespace repquant
