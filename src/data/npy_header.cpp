// Debian has no small library for .npy (xtensor would be a heavy dependency for one header), so the
// header is parsed here: a Python dict literal with exactly three keys.
#include "data/npy_header.h"

#include <bit>
#include <charconv>
#include <set>
#include <string_view>

#include "base/text_table.h"

namespace repquant::internal {
namespace {

static_assert(std::endian::native == std::endian::little, "data is read as little-endian");

constexpr std::size_t kMagicSize = 8;  // "\x93NUMPY", major, minor
constexpr std::size_t kMaxHeader = kMaxNpyHeader - kMagicSize - 4;
constexpr std::size_t kMaxDimensions = 32;

class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  NpyHeader parse() {
    NpyHeader header;
    std::set<std::string> seen;
    expect('{');
    while (!accept('}')) {
      const std::string key = string();
      if (!seen.insert(key).second) fail("key '" + key + "' twice");
      expect(':');
      if (key == "descr") {
        type(header);
      } else if (key == "fortran_order") {
        header.fortran_order = boolean();
      } else if (key == "shape") {
        header.shape = shape();
      } else {
        fail("unknown key '" + key + "'");
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (position_ != text_.size()) fail("text after the dict");
    if (seen.size() != 3) fail("a key is missing");
    return header;
  }

 private:
  [[noreturn]] void fail(const std::string& got) const {
    throw_file_error("the .npy header is malformed", name_, "descr, fortran_order and shape", got);
  }

  void skip_space() {
    while (position_ < text_.size() &&
           (text_[position_] == ' ' || text_[position_] == '\n' || text_[position_] == '\t')) {
      ++position_;
    }
  }

  bool accept(char wanted) {
    skip_space();
    if (position_ >= text_.size() || text_[position_] != wanted) return false;
    ++position_;
    return true;
  }

  void expect(char wanted) {
    if (!accept(wanted)) fail(std::string("no '") + wanted + "' where one belongs");
  }

  std::string string() {
    const char quote = accept('"') ? '"' : '\'';
    if (quote == '\'') expect('\'');
    const std::size_t end = text_.find(quote, position_);
    if (end == std::string_view::npos) fail("a string without end");
    std::string result(text_.substr(position_, end - position_));
    position_ = end + 1;
    return result;
  }

  bool boolean() {
    skip_space();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(position_).starts_with(word)) {
        position_ += word.size();
        return value;
      }
    }
    fail("fortran_order is neither True nor False");
  }

  std::vector<std::int64_t> shape() {
    std::vector<std::int64_t> sizes;
    expect('(');
    while (!accept(')')) {
      skip_space();
      std::int64_t size = 0;
      const char* begin = text_.data() + position_;
      const auto [end, code] = std::from_chars(begin, text_.data() + text_.size(), size);
      if (code != std::errc{} || size < 0) fail("a size that is not a whole number");
      position_ += static_cast<std::size_t>(end - begin);
      accept('L');  // long integers of Python 2
      sizes.push_back(size);
      if (sizes.size() > kMaxDimensions) fail("more than 32 dimensions");
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return sizes;
  }

  void type(NpyHeader& header) {
    skip_space();
    if (position_ < text_.size() && text_[position_] == '[') unsupported("a structured type");
    const std::string descr = string();
    if (descr.size() < 3) unsupported(descr);
    const char order = descr[0];
    const char kind = descr[1];
    const std::string size = descr.substr(2);
    if (order == '>') unsupported(descr + " (big-endian)");
    if (kind == 'O') unsupported(descr + " (pickled Python objects)");
    const bool known_size = (kind == 'f' && (size == "2" || size == "4" || size == "8")) ||
                            ((kind == 'i' || kind == 'u') &&
                             (size == "1" || size == "2" || size == "4" || size == "8")) ||
                            (kind == 'b' && size == "1");
    if (!known_size || std::string_view("<=|").find(order) == std::string_view::npos) {
      unsupported(descr);
    }
    header.kind = kind;
    header.item_size = size[0] - '0';
  }

  [[noreturn]] void unsupported(const std::string& got) const {
    throw_file_error("the .npy file has an element type that is not read", name_,
                     "bool, int8 to int64, uint8 to uint64, float16 to float64, little-endian", got,
                     "convert it, for example with array.astype('<f4')");
  }

  std::string_view text_;
  const std::string& name_;
  std::size_t position_ = 0;
};

std::size_t read_little_endian(Bytes bytes) {
  std::size_t value = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) value = value << 8 | bytes[i];
  return value;
}

}  // namespace

NpyHeader parse_npy_header(Bytes bytes, std::uint64_t file_size, const std::string& name) {
  const auto truncated = [&name](const std::string& expected, std::size_t got) {
    throw_file_error("the .npy file is truncated", name, expected, counted(got, "byte"));
  };
  constexpr std::string_view kMagic = "\x93NUMPY";
  if (bytes.size() < kMagicSize + 2) truncated("a header", bytes.size());
  for (std::size_t i = 0; i < kMagic.size(); ++i) {
    if (bytes[i] != static_cast<std::uint8_t>(kMagic[i])) {
      throw_file_error("not a .npy file", name, "the magic bytes 93 4e 55 4d 50 59");
    }
  }
  const int major = bytes[6];
  if (major < 1 || major > 3) {
    throw_file_error("unknown version of the .npy format", name, "1 to 3", std::to_string(major));
  }
  const std::size_t length_size = major == 1 ? 2 : 4;
  if (bytes.size() < kMagicSize + length_size) truncated("a header", bytes.size());
  const std::size_t length = read_little_endian(bytes.subspan(kMagicSize, length_size));
  const std::size_t header_begin = kMagicSize + length_size;
  if (length > kMaxHeader) {
    throw_file_error("the .npy header is too long", name, std::to_string(kMaxHeader) + " bytes",
                     counted(length, "byte"));
  }
  if (length > bytes.size() - header_begin) truncated("the whole header", bytes.size());

  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + header_begin, length);
  NpyHeader header = HeaderParser(text, name).parse();
  header.data_offset = header_begin + length;
  std::uint64_t size = static_cast<std::uint64_t>(header.item_size);
  bool overflow = false;
  // Strides multiply the sizes even where a zero makes the product small, so zeros count as one.
  std::uint64_t extent = size;
  for (const std::int64_t dimension : header.shape) {
    const auto factor = static_cast<std::uint64_t>(dimension);
    overflow |= __builtin_mul_overflow(extent, factor > 0 ? factor : 1, &extent);
    overflow |= extent > static_cast<std::uint64_t>(INT64_MAX);
    size *= factor;
  }
  const std::size_t available = file_size - header.data_offset;
  if (overflow || size != available) {
    throw_file_error(overflow || size > available ? "the .npy file is truncated"
                                                  : "the .npy file has bytes after its array",
                     name, overflow ? "a shape that fits in memory" : counted(size, "byte"),
                     counted(available, "byte") + " of data");
  }
  header.data_size = available;
  return header;
}

}  // namespace repquant::internal
