// What a file holds, decided by its first bytes and never by its name.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "archive/bytes.h"

namespace repquant {

enum class FileKind { kUnknown, kEmpty, kJpeg, kPng, kNpy, kNpz, kPt, kZip, kText };

/// Kind by the first bytes (8 are enough). A zip is kZip here: its entries decide further.
FileKind sniff(Bytes bytes);

/// Kind of a file on disk; zip files are opened and become kNpz (only .npy entries) or kPt
/// (PyTorch archive), else stay kZip. Plain text without control characters is kText.
/// Throws Error kFile if the file cannot be read.
FileKind file_kind(const std::filesystem::path& path);

/// The first bytes of a file, at most 512. Throws Error kFile if it cannot be read.
std::vector<std::uint8_t> read_head(const std::filesystem::path& path);

/// A few words about unknown content for messages, such as "a GIF image" or "bytes 00 11 22 33".
std::string describe_content(Bytes bytes);

bool is_image(FileKind kind);
bool is_array(FileKind kind);

}  // namespace repquant
