#include "data/file_kind.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string_view>

#include "archive/zip_reader.h"

namespace repquant {
namespace {

using namespace std::string_view_literals;  // NOLINT(google-build-using-namespace): literals

bool starts_with(Bytes bytes, std::string_view magic, std::size_t offset = 0) {
  return bytes.size() >= offset + magic.size() &&
         std::equal(magic.begin(), magic.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset),
                    [](char a, std::uint8_t b) { return static_cast<std::uint8_t>(a) == b; });
}

FileKind zip_kind(const std::filesystem::path& path) {
  const ZipReader zip(path);
  const auto& names = zip.names();
  const auto is_npy = [](const std::string& name) { return name.ends_with(".npy"); };
  if (!names.empty() && std::all_of(names.begin(), names.end(), is_npy)) return FileKind::kNpz;
  const auto is_pickle = [](const std::string& name) { return name.ends_with("/data.pkl"); };
  if (std::any_of(names.begin(), names.end(), is_pickle)) return FileKind::kPt;
  return FileKind::kZip;
}

}  // namespace

FileKind sniff(Bytes bytes) {
  if (bytes.empty()) return FileKind::kEmpty;
  if (starts_with(bytes, "\xFF\xD8\xFF"sv)) return FileKind::kJpeg;
  if (starts_with(bytes, "\x89PNG\r\n\x1a\n"sv)) return FileKind::kPng;
  if (starts_with(bytes, "\x93NUMPY"sv)) return FileKind::kNpy;
  if (starts_with(bytes, "PK\x03\x04"sv) || starts_with(bytes, "PK\x05\x06"sv)) {
    return FileKind::kZip;
  }
  const auto is_text = [](std::uint8_t byte) {
    return byte >= 0x20 || byte == '\n' || byte == '\r' || byte == '\t';
  };
  if (std::all_of(bytes.begin(), bytes.end(), is_text)) return FileKind::kText;
  return FileKind::kUnknown;
}

std::vector<std::uint8_t> read_head(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::array<char, 512> head{};
  file.read(head.data(), head.size());
  if (file.bad() || (!file && !file.eof())) {
    throw_file_error("cannot read the file", path.string(), {}, std::strerror(errno));
  }
  return {head.begin(), head.begin() + file.gcount()};
}

FileKind file_kind(const std::filesystem::path& path) {
  const FileKind kind = sniff(read_head(path));
  return kind == FileKind::kZip ? zip_kind(path) : kind;
}

std::string describe_content(Bytes bytes) {
  if (bytes.empty()) return "an empty file";
  if (starts_with(bytes, "GIF8"sv)) return "a GIF image";
  if (starts_with(bytes, "RIFF"sv) && starts_with(bytes, "WEBP"sv, 8)) return "a WebP image";
  if (starts_with(bytes, "BM"sv)) return "a BMP image";
  if (starts_with(bytes, "II*\0"sv) || starts_with(bytes, "MM\0*"sv)) return "a TIFF image";
  if (starts_with(bytes, "ftyp"sv, 4)) return "a HEIF, AVIF or MP4 file";
  if (starts_with(bytes, "PK"sv)) return "a zip archive";
  if (starts_with(bytes, "\x80"sv)) return "a plain Python pickle";
  std::string text = "bytes";
  for (std::size_t i = 0; i < std::min<std::size_t>(bytes.size(), 8); ++i) {
    std::array<char, 4> hex{};
    static_cast<void>(std::snprintf(hex.data(), hex.size(), " %02x", bytes[i]));
    text += hex.data();
  }
  return text;
}

bool is_image(FileKind kind) { return kind == FileKind::kJpeg || kind == FileKind::kPng; }

bool is_array(FileKind kind) {
  return kind == FileKind::kNpy || kind == FileKind::kNpz || kind == FileKind::kPt;
}

}  // namespace repquant
