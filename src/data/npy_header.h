// The header of a .npy file. Internal to the room.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "archive/bytes.h"

namespace repquant::internal {

struct NpyHeader {
  char kind = 'f';    // f, i, u or b
  int item_size = 4;  // bytes
  bool fortran_order = false;
  std::vector<std::int64_t> shape;
  std::size_t data_offset = 0;  // from the start of the file
  std::size_t data_size = 0;    // bytes; checked to end exactly with the file
};

/// The most bytes that a file has in front of its data.
inline constexpr std::size_t kMaxNpyHeader = 65536 + 12;

/// Parses the header and checks the shape against the size of the file, of which `bytes` is all or
/// the first kMaxNpyHeader.
/// Throws Error kFile for malformed headers and element types that are not numbers.
NpyHeader parse_npy_header(Bytes bytes, std::uint64_t file_size, const std::string& name);

}  // namespace repquant::internal
