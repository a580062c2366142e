#include "format/check_code.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

#include "repquant/error.h"

namespace repquant {
namespace {

// LibTorch parses and compiles by recursion. Exported models stay below a tenth of these.
constexpr std::size_t kMaxBrackets = 200;
constexpr std::size_t kMaxIndent = 400;       // columns; a block has two
constexpr int kMaxOperators = 1000;           // of one expression, those around it included
constexpr int kMaxBranches = 500;             // elif, each of which nests in the one before
constexpr std::size_t kMaxBlankLines = 1000;  // in a row: no name, number or text but in a comment

// Not our own: the fused operators come at load, and `repquant::call` of the Python module writes
// files.
constexpr std::array<std::string_view, 3> kSpaces{"aten", "onednn", "prim"};

// Operators of prim that exported code has.
constexpr std::array<std::string_view, 42> kPrim{"AutogradAllNonZero",
                                                 "AutogradAnyNonZero",
                                                 "EnumName",
                                                 "EnumValue",
                                                 "NumToTensor",
                                                 "RaiseException",
                                                 "StringIndex",
                                                 "TupleIndex",
                                                 "TupleUnpack",
                                                 "Uninitialized",
                                                 "abs",
                                                 "data",
                                                 "device",
                                                 "dtype",
                                                 "grad",
                                                 "index",
                                                 "is_cpu",
                                                 "is_cuda",
                                                 "is_ipu",
                                                 "is_maia",
                                                 "is_meta",
                                                 "is_mkldnn",
                                                 "is_mps",
                                                 "is_mtia",
                                                 "is_nested",
                                                 "is_quantized",
                                                 "is_sparse",
                                                 "is_sparse_csr",
                                                 "is_vulkan",
                                                 "is_xla",
                                                 "is_xpu",
                                                 "itemsize",
                                                 "layout",
                                                 "max",
                                                 "min",
                                                 "name",
                                                 "nbytes",
                                                 "rangelist",
                                                 "requires_grad",
                                                 "tolist",
                                                 "type",
                                                 "unchecked_cast"};

// Files and other processes: as operators, as methods of tensors, or as functions.
constexpr std::array<std::string_view, 5> kForbidden{"save", "from_file", "rpc_async", "rpc_sync",
                                                     "rpc_remote"};

// Operators that take sizes and offsets for granted.
constexpr std::array<std::string_view, 20> kUnsafe{"_reshape_alias",
                                                   "_segment_reduce_backward",
                                                   "_sparse_compressed_tensor_with_dims",
                                                   "resize_as_sparse",
                                                   "resize_as_sparse_",
                                                   "segment_reduce",
                                                   "sparse_bsc_tensor",
                                                   "sparse_bsr_tensor",
                                                   "sparse_compressed_tensor",
                                                   "sparse_csc_tensor",
                                                   "sparse_csr_tensor",
                                                   "sparse_resize_",
                                                   "sparse_resize_and_clear_",
                                                   "_sparse_coo_tensor_unsafe",
                                                   "_sparse_compressed_tensor_unsafe",
                                                   "_sparse_csr_tensor_unsafe",
                                                   "_sparse_csc_tensor_unsafe",
                                                   "_sparse_bsr_tensor_unsafe",
                                                   "_sparse_bsc_tensor_unsafe",
                                                   "_print"};

constexpr std::array<std::string_view, 6> kWordOperators{"and", "or", "not", "if", "in", "is"};

template <std::size_t N>
bool contains(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// A comment that LibTorch reads as code.
constexpr std::string_view kTypeComment = "# type:";

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

class CodeScan {
 public:
  CodeScan(std::string_view text, const std::string& where, bool trusted)
      : text_(text), where_(where), trusted_(trusted) {}

  /// The number of lines that are code.
  std::size_t run() {
    while (position_ < text_.size()) step();
    return lines_ + (has_word_ ? 1 : 0);
  }

 private:
  [[noreturn]] void too_deep(const std::string& what, std::size_t limit) const {
    throw Error(ErrorKind::kFile, {.what = "the model's code is nested too deeply to be compiled",
                                   .where = place(),
                                   .expected = "at most " + std::to_string(limit) + " " + what,
                                   .hint = "export the model again"});
  }

  [[noreturn]] void refuse(const std::string& name) const {
    throw Error(ErrorKind::kUnsupported,
                {.what = "the model's code uses an operator that a model does not need",
                 .where = place(),
                 .expected = "operators that compute with tensors",
                 .got = name,
                 .hint = "such code could read or write files; if you trust who made the model, "
                         "allow it with `trust`"});
  }

  std::string place() const {
    const auto lines =
        std::count(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(position_), '\n');
    return where_ + ":" + std::to_string(lines + 1);
  }

  char at(std::size_t position) const { return position < text_.size() ? text_[position] : '\0'; }

  /// At the end of a line.
  void count_blank_line() {
    blank_lines_ = has_word_ ? 0 : blank_lines_ + 1;
    lines_ += has_word_ ? 1 : 0;
    has_word_ = false;
    if (blank_lines_ > kMaxBlankLines)
      too_deep("lines in a row that are blank or comments", kMaxBlankLines);
  }

  void step() {
    const char c = text_[position_];
    if (c == '\n') {
      ++position_;
      if (operators_.size() == 1) clear_operators();
      count_blank_line();
      check_indent();
    } else if (c == '#') {
      position_ = text_.substr(position_).starts_with(kTypeComment)
                      ? position_ + kTypeComment.size()
                      : std::min(text_.find('\n', position_), text_.size());
    } else if (c == '"' || c == '\'') {
      has_word_ = true;
      skip_string(c);
    } else if (is_word(c)) {
      has_word_ = true;
      word();
    } else {
      symbol(c);
    }
  }

  void check_indent() {
    const std::size_t end = text_.find_first_not_of(" \t", position_);
    const std::size_t width = std::min(end, text_.size()) - position_;
    if (width > kMaxIndent) too_deep("columns of indentation", kMaxIndent);
  }

  void skip_string(char quote) {
    const std::size_t begin = position_;
    const bool triple = at(position_ + 1) == quote && at(position_ + 2) == quote;
    position_ += triple ? 3 : 1;
    while (position_ < text_.size()) {
      const char c = text_[position_];
      if (c == '\\') {
        position_ += 2;
      } else if (c == '\n' && !triple) {
        break;
      } else if (c == quote &&
                 (!triple || (at(position_ + 1) == quote && at(position_ + 2) == quote))) {
        position_ += triple ? 3 : 1;
        break;
      } else {
        ++position_;
      }
    }
    position_ = std::min(position_, text_.size());
    member_ = false;
    if (trusted_ || member_calls_.empty() || member_calls_.back() != operators_.size()) return;
    // The name of a member. LibTorch joins strings and reads escapes, of which names have none.
    const std::string_view literal = text_.substr(begin, position_ - begin);
    const std::size_t quotes = triple ? 3 : 1;
    const std::string_view name =
        literal.substr(quotes, literal.size() - std::min(literal.size(), 2 * quotes));
    if (name.find('\\') != name.npos || after_string_ || contains(kForbidden, name) ||
        contains(kUnsafe, name) || name.starts_with("rpc_") || name == "classes") {
      refuse("getattr " + std::string(name.substr(0, 60)));
    }
    after_string_ = true;
  }

  void symbol(char c) {
    ++position_;
    if (c == '(' || c == '[' || c == '{') {
      count_operator();
      operators_.push_back(0);
      after_string_ = false;
      if (operators_.size() > kMaxBrackets) too_deep("brackets", kMaxBrackets);
    } else if (c == ')' || c == ']' || c == '}') {
      clear_operators();
      if (!member_calls_.empty() && member_calls_.back() == operators_.size()) {
        member_calls_.pop_back();
      }
      if (operators_.size() > 1) operators_.pop_back();
    } else if (c == ',') {
      clear_operators();
      after_string_ = false;
    } else if (c == '.') {
      count_operator();
      member_ = true;
      return;
    } else if (c == '\\' || std::isspace(static_cast<unsigned char>(c)) != 0) {
      return;  // a backslash joins lines
    } else {
      count_operator();
    }
    member_ = false;
  }

  void count_operator() {
    ++operators_.back();
    if (++total_ > kMaxOperators) too_deep("operators in an expression", kMaxOperators);
  }

  void clear_operators() {
    total_ -= operators_.back();
    operators_.back() = 0;
  }

  std::string_view take_word() {
    const std::size_t begin = position_;
    while (is_word(at(position_))) ++position_;
    return text_.substr(begin, position_ - begin);
  }

  void skip_space() {
    while (at(position_) == ' ' || at(position_) == '\t') ++position_;
  }

  /// The name after a dot; empty if there is none.
  std::string_view next_member() {
    skip_space();
    if (at(position_) != '.') return {};
    ++position_;
    skip_space();
    return take_word();
  }

  void word() {
    const bool member = member_;
    member_ = false;
    const std::string_view name = take_word();
    if (contains(kWordOperators, name)) count_operator();
    if (name == "elif" && ++branches_ > kMaxBranches) too_deep("elif branches", kMaxBranches);
    if (trusted_) return;
    const bool reaches_out = contains(kForbidden, name) || contains(kUnsafe, name);
    if (reaches_out && (member || name.starts_with("rpc_"))) refuse(std::string(name));
    // Classes of LibTorch that are written in C++.
    if (member && name == "classes" && last_ == "torch") refuse("torch.classes");
    last_ = name;
    if (!member && name == "getattr") {
      skip_space();
      // Without a bracket it could become an alias.
      if (at(position_) != '(') refuse(std::string(name));
      member_calls_.push_back(operators_.size() + 1);
    }
    if (!member && name == "torch") check_operator("aten", next_member());
    if (!member && name == "ops") {
      const std::string_view space = next_member();
      check_operator(space, next_member());
    }
  }

  /// A name without a dot after it could become an alias, so it is refused as well.
  void check_operator(std::string_view space, std::string_view name) const {
    const bool allowed = contains(kSpaces, space) && !name.empty() && !contains(kUnsafe, name) &&
                         !contains(kForbidden, name) && (space != "prim" || contains(kPrim, name));
    if (!allowed) refuse(std::string(space) + "::" + std::string(name));
  }

  std::string_view text_;
  const std::string& where_;
  bool trusted_;
  bool has_word_ = false;  // in this line
  std::size_t blank_lines_ = 0;
  std::size_t lines_ = 0;  // of code
  std::size_t position_ = 0;
  bool member_ = false;            // a dot stands before
  std::vector<int> operators_{0};  // since the last comma, by bracket
  int total_ = 0;                  // their sum
  int branches_ = 0;
  std::string_view last_{};                  // word
  std::vector<std::size_t> member_calls_{};  // depths of the brackets of getattr(..)
  bool after_string_ = false;                // in such a bracket, since the last comma
};

}  // namespace

std::size_t check_code(std::string_view text, const std::string& where, bool trusted) {
  return CodeScan(text, where, trusted).run();
}

}  // namespace repquant
