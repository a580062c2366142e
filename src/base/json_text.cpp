#include "base/json_text.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "base/text_table.h"
#include "repquant/error.h"

namespace repquant {
namespace {

// One open object or array while parsing.
struct Frame {
  bool is_object = false;
  std::size_t count = 0;         // elements seen, for an array
  std::string key{};             // current key, for an object
  std::set<std::string> keys{};  // keys seen, for an object
};

std::string pointer_of(const std::vector<Frame>& frames) {
  std::string pointer;
  for (const Frame& frame : frames) {
    pointer = pointer_to(pointer, frame.is_object ? frame.key : std::to_string(frame.count));
  }
  return pointer;
}

// "line 3, column 5" of a byte offset.
std::string position_of(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, std::min(offset, text.size()));
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
  return "line " + std::to_string(line) + ", column " +
         std::to_string(std::max<std::size_t>(before.size() - line_start, 1));
}

// The checks that nlohmann leaves out, driven by its parser callback.
class StrictParser {
 public:
  StrictParser(std::string_view source, const JsonLimits& limits)
      : source_(source), limits_(limits) {}

  bool operator()(Json::parse_event_t event, const Json& value) {
    using Event = Json::parse_event_t;
    switch (event) {
      case Event::object_start:
      case Event::array_start:
        check_depth();
        frames_.push_back({.is_object = event == Event::object_start});
        break;
      case Event::key:
        add_key(value.get<std::string>());
        break;
      case Event::object_end:
      case Event::array_end:
        frames_.pop_back();
        end_value();
        break;
      case Event::value:
        end_value();
        break;
    }
    return true;
  }

 private:
  void check_depth() const {
    if (static_cast<int>(frames_.size()) < limits_.depth) return;
    throw Error(ErrorKind::kUsage, {.what = "JSON is nested too deeply",
                                    .where = json_location(source_, pointer_of(frames_)),
                                    .expected = "at most " + counted(limits_.depth, "level")});
  }

  void add_key(std::string key) {
    Frame& frame = frames_.back();
    frame.key = std::move(key);
    if (!frame.keys.insert(frame.key).second) {
      throw Error(ErrorKind::kUsage, {.what = "duplicate key in JSON",
                                      .where = json_location(source_, pointer_of(frames_)),
                                      .expected = "each key once"});
    }
  }

  void end_value() {
    if (!frames_.empty()) ++frames_.back().count;
  }

  std::string source_;
  JsonLimits limits_;
  std::vector<Frame> frames_{};
};

// "[json.exception.parse_error.101] parse error at line 1, column 2: text" becomes "text".
std::string parse_message(const std::string& what) {
  const std::size_t colon = what.find(": ");
  return colon == std::string::npos ? what : what.substr(colon + 2);
}

/// What a document is that is no text; empty for text.
std::string other_content(std::string_view text) {
  if (text.starts_with("PK\x03\x04")) return "a zip archive: a model, an artifact or arrays";
  if (text.starts_with("\x93NUMPY")) return "an array of NumPy (.npy)";
  const std::string_view head = text.substr(0, 512);
  const bool binary = std::any_of(head.begin(), head.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\r' && c != '\t';
  });
  return binary ? "a binary file" : "";
}

}  // namespace

Json parse_json(std::string_view text, std::string_view source, const JsonLimits& limits) {
  if (text.size() > limits.bytes) {
    throw Error(ErrorKind::kUsage, {.what = "JSON is too large",
                                    .where = std::string(source),
                                    .expected = "at most " + counted(limits.bytes, "byte"),
                                    .got = counted(text.size(), "byte")});
  }
  StrictParser strict(source, limits);
  try {
    return Json::parse(text, [&strict](int, Json::parse_event_t event, const Json& value) {
      return strict(event, value);
    });
  } catch (const Json::parse_error& error) {
    if (const std::string other = other_content(text); !other.empty()) {
      throw Error(ErrorKind::kUsage, {.what = "the file is not JSON",
                                      .where = std::string(source),
                                      .expected = "JSON text",
                                      .got = other});
    }
    const std::string position = position_of(text, error.byte);
    throw Error(ErrorKind::kUsage,
                {.what = "malformed JSON",
                 .where = source.empty() ? position : std::string(source) + ", " + position,
                 .got = parse_message(error.what())});
  } catch (const Json::exception& error) {  // a number outside of the range of double
    throw Error(ErrorKind::kUsage, {.what = "malformed JSON",
                                    .where = std::string(source),
                                    .got = parse_message(error.what())});
  }
}

Json read_json(const std::filesystem::path& path, const JsonLimits& limits) {
  const auto fail = [&path](std::string got) {
    return Error(ErrorKind::kFile, {.what = "cannot read file",
                                    .where = path.string(),
                                    .expected = "a readable JSON file",
                                    .got = std::move(got),
                                    .hint = "check the path"});
  };
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) throw fail("a directory");
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) throw fail(std::strerror(errno));
  // One byte more than allowed is enough for parse_json to refuse, whatever the file's size.
  std::string text(limits.bytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) throw fail("a read error");
  text.resize(static_cast<std::size_t>(file.gcount()));
  return parse_json(text, path.string(), limits);
}

std::string pointer_to(std::string_view pointer, std::string_view key) {
  std::string result(pointer);
  result += '/';
  for (const char c : key) {
    if (c == '~') {
      result += "~0";
    } else if (c == '/') {
      result += "~1";
    } else {
      result += c;
    }
  }
  return result;
}

std::string json_location(std::string_view source, std::string_view pointer) {
  if (source.empty()) return std::string(pointer.empty() ? "/" : pointer);
  if (pointer.empty()) return std::string(source);
  return std::string(source) + "#" + std::string(pointer);
}

std::string describe_json(const Json& value) {
  constexpr std::size_t kMost = 60;
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > kMost) {
    text.resize(kMost);
    while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0x80U) != 0) {
      text.pop_back();  // do not end inside a UTF-8 sequence
    }
    text += "...";
  }
  switch (value.type()) {
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::string:
      return "the string " + text;
    case Json::value_t::null:
      return "null";
    case Json::value_t::boolean:
      return text;
    default:  // JSON has no text for numbers that are not finite
      return "the number " + (text == "null" ? std::to_string(value.get<double>()) : text);
  }
}

}  // namespace repquant
