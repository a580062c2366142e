// How a stream of token ids is cut into samples for calibration and evaluation.
#pragma once

#include <cstdint>
#include <string>

namespace repquant {

struct TokenOptions {
  std::int64_t window = 0;     // ids in a sample, with the one of `bos`; 0: the data is no stream
  std::int64_t stride = 0;     // ids from one window to the next; 0: they follow without overlap
  std::int64_t bos = -1;       // id put before every window that does not begin with it; -1: none
  std::int64_t document = -1;  // id that begins a document, which no window crosses; -1: none
  std::string dtype{};         // elements of a file without a header (.bin); empty: an array file

  friend bool operator==(const TokenOptions&, const TokenOptions&) = default;
};

}  // namespace repquant
