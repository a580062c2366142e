#include "data/tokens.h"

#include <ATen/Functions.h>

#include <algorithm>
#include <cstring>

#include "archive/bytes.h"
#include "base/text_table.h"
#include "data/arrays.h"
#include "data/file_kind.h"
#include "repquant/error.h"

namespace repquant {
namespace {

[[noreturn]] void fail(const char* what, const char* option, std::string expected,
                       std::string got) {
  throw Error(
      ErrorKind::kUsage,
      {.what = what, .where = option, .expected = std::move(expected), .got = std::move(got)});
}

template <class Element>
at::Tensor parse_ids(Bytes bytes, const std::string& name) {
  if (bytes.size() % sizeof(Element) != 0) {
    throw_file_error("the size of the file is no multiple of its elements", name,
                     "ids of " + counted(sizeof(Element), "byte"), counted(bytes.size(), "byte"),
                     "check `dtype`");
  }
  const std::size_t count = bytes.size() / sizeof(Element);
  at::Tensor ids = at::empty({static_cast<std::int64_t>(count)}, at::kLong);
  std::int64_t* data = ids.mutable_data_ptr<std::int64_t>();
  for (std::size_t i = 0; i < count; ++i) {
    Element element{};
    std::memcpy(&element, bytes.data() + i * sizeof(Element), sizeof(Element));
    data[i] = static_cast<std::int64_t>(element);
  }
  return ids;
}

at::Tensor read_raw(const std::filesystem::path& path, const std::string& dtype) {
  const MappedFile file(path);
  const std::string name = path.string();
  const FileKind kind = sniff(file.bytes().first(std::min<std::size_t>(file.size(), 8)));
  if (is_array(kind) || kind == FileKind::kZip) {
    throw_file_error("the file states the type of its ids itself", name, "nothing but ids",
                     kind == FileKind::kNpy ? "a .npy file" : "a zip archive, as .npz",
                     "leave `dtype` out");
  }
  if (dtype == "uint16") return parse_ids<std::uint16_t>(file.bytes(), name);
  if (dtype == "int32") return parse_ids<std::int32_t>(file.bytes(), name);
  if (dtype == "uint32") return parse_ids<std::uint32_t>(file.bytes(), name);
  return parse_ids<std::int64_t>(file.bytes(), name);
}

at::Tensor read_array(const std::filesystem::path& path) {
  const std::string name = path.string();
  const Arrays arrays = read_arrays(path);
  const at::Tensor& ids = arrays.tensors.front();
  if (arrays.tensors.size() != 1 || ids.dim() != 1) {
    throw_file_error("the file is no stream of token ids", name, "one array of one dimension",
                     arrays.tensors.size() != 1 ? counted(arrays.tensors.size(), "array")
                                                : counted(ids.dim(), "dimension"),
                     "`window` is for streams; rows of ids need none");
  }
  if (at::isFloatingType(ids.scalar_type()) || ids.scalar_type() == at::kBool) {
    throw_file_error("the token ids are not integers", name);
  }
  return ids.to(at::kLong).contiguous();
}

/// Cuts the document [begin, end) of the stream.
void cut_document(const std::int64_t* ids, std::int64_t begin, std::int64_t end,
                  const TokenOptions& options, bool whole, std::vector<TokenWindow>& windows) {
  std::int64_t counted = begin;  // all ids before are targets of some window, or the first id
  for (std::int64_t start = begin; start < end;) {
    TokenWindow window{.begin = start};
    window.bos = options.bos >= 0 && ids[start] != options.bos;
    const std::int64_t head = window.bos ? 1 : 0;
    window.end = std::min(end, start + options.window - head);
    window.targets = {std::max<std::int64_t>(counted - start + head, 1), window.length()};
    const bool complete = window.length() == options.window;
    if (window.targets.begin < window.targets.end && (complete || !whole)) {
      windows.push_back(window);
    }
    if (window.end == end) break;
    counted = window.end;
    start = options.stride > 0 ? start + options.stride : window.end;
  }
}

}  // namespace

void check_token_options(const TokenOptions& options) {
  if (options.window < 2) {
    fail("bad window of token ids", "`window`", "at least 2 ids", std::to_string(options.window));
  }
  const std::int64_t longest = options.window - (options.bos >= 0 ? 1 : 0);
  if (options.stride < 0 || options.stride > longest) {
    fail("bad stride of token windows", "`stride`",
         "1 to " + std::to_string(longest) + ", so that no id is left out",
         std::to_string(options.stride));
  }
  static const std::vector<std::string> kTypes{"", "uint16", "int32", "uint32", "int64"};
  if (std::find(kTypes.begin(), kTypes.end(), options.dtype) == kTypes.end()) {
    fail("unknown type of token ids", "`dtype`", "uint16, int32, uint32 or int64", options.dtype);
  }
}

at::Tensor read_token_stream(const std::filesystem::path& path, const TokenOptions& options) {
  at::Tensor ids = options.dtype.empty() ? read_array(path) : read_raw(path, options.dtype);
  if (ids.numel() == 0) throw_file_error("the file holds no token ids", path.string());
  if (const auto smallest = ids.min().item<std::int64_t>(); smallest < 0) {
    throw_file_error("a token id is negative", path.string(), "0 or more", std::to_string(smallest),
                     options.dtype.empty() ? "" : "check `dtype`");
  }
  return ids;
}

std::vector<TokenWindow> cut_windows(const at::Tensor& stream, const TokenOptions& options,
                                     bool whole) {
  check_token_options(options);
  const std::int64_t* ids = stream.const_data_ptr<std::int64_t>();
  const std::int64_t size = stream.size(0);
  std::vector<TokenWindow> windows;
  for (std::int64_t begin = 0; begin < size;) {
    std::int64_t end = size;
    if (options.document >= 0) end = std::find(ids + begin + 1, ids + size, options.document) - ids;
    cut_document(ids, begin, end, options, whole, windows);
    begin = end;
  }
  return windows;
}

at::Tensor window_ids(const at::Tensor& stream, std::span<const TokenWindow> windows,
                      const TokenOptions& options) {
  const auto rows = static_cast<std::int64_t>(windows.size());
  at::Tensor result = at::zeros({rows, options.window}, at::kLong);
  const std::int64_t* source = stream.const_data_ptr<std::int64_t>();
  std::int64_t* row = result.mutable_data_ptr<std::int64_t>();
  for (const TokenWindow& window : windows) {
    if (window.bos) row[0] = options.bos;
    std::copy(source + window.begin, source + window.end, row + (window.bos ? 1 : 0));
    row += options.window;
  }
  return result;
}

std::string describe(const TokenOptions& options) {
  std::string text = "windows of " + counted(options.window, "id") + ", ";
  text += options.stride > 0 ? "stride " + std::to_string(options.stride) : "no overlap";
  text += options.bos >= 0 ? ", BOS " + std::to_string(options.bos) + " first in each"
                           : ", no BOS added";
  if (options.document >= 0) {
    text += ", none across documents (id " + std::to_string(options.document) + ")";
  }
  return text;
}

}  // namespace repquant
