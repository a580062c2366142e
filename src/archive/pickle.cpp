#include "archive/pickle.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdio>
#include <cstring>
#include <map>

#include "base/text_table.h"

namespace repquant::internal {
namespace {

constexpr int kProtocol = 2;
/// Keys are given one after the other; some writers leave a few out.
constexpr std::uint64_t kMemoGap = 4096;
/// A container has two at a time: its own, and one for its items.
constexpr std::size_t kMaxMarks = 2 * std::size_t{kMaxPickleDepth};

class Reader {
 public:
  Reader(Bytes bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  Pickle read() {
    while (!step()) {
    }
    if (stack_.size() != 1) fail("a stack of " + counted(stack_.size(), "value"));
    pickle_.root = stack_.back();
    return std::move(pickle_);
  }

 private:
  [[noreturn]] void fail(const std::string& got) const {
    throw_file_error("the pickle is malformed, or holds something other than tensors", name_, {},
                     got + " at byte " + std::to_string(position_));
  }

  // --- input
  Bytes take(std::size_t size) {
    if (size > bytes_.size() - position_) fail("an early end");
    const Bytes part = bytes_.subspan(position_, size);
    position_ += size;
    return part;
  }

  std::uint64_t number(std::size_t size) {
    const Bytes part = take(size);
    std::uint64_t value = 0;
    for (std::size_t i = size; i-- > 0;) value = value << 8 | part[i];
    return value;
  }

  double real() {  // big-endian
    std::uint64_t bits = 0;
    for (const std::uint8_t byte : take(8)) bits = bits << 8 | byte;
    return std::bit_cast<double>(bits);
  }

  std::string text(std::size_t size) {
    const Bytes part = take(size);
    return {part.begin(), part.end()};
  }

  std::string line() {
    const auto begin = bytes_.begin() + static_cast<std::ptrdiff_t>(position_);
    const auto end = std::find(begin, bytes_.end(), std::uint8_t{'\n'});
    std::string result = text(static_cast<std::size_t>(end - begin));
    take(1);
    return result;
  }

  // --- stack
  void push(PickleValue value) {
    if (pickle_.values.size() >= kMaxPickleValues) fail("too many values");
    pickle_.values.push_back(std::move(value));
    refer(pickle_.values.size() - 1);
  }
  void refer(PickleIndex index) {
    if (++references_ > kMaxPickleReferences) fail("too many values");
    stack_.push_back(index);
  }
  void push(PickleKind kind, std::int64_t value) { push({kind, value, 0, {}, {}}); }
  void push(PickleKind kind, std::string value) { push({kind, 0, 0, std::move(value), {}}); }

  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }

  PickleIndex pop() {
    if (stack_.size() <= floor()) fail("an empty stack");
    const PickleIndex top = stack_.back();
    stack_.pop_back();
    return top;
  }

  PickleValue& top(PickleKind kind) {
    if (stack_.size() <= floor()) fail("an empty stack");
    PickleValue& value = pickle_.values[stack_.back()];
    if (value.kind != kind) fail("a container of another kind");
    return value;
  }

  std::vector<PickleIndex> pop(std::size_t count) {
    if (stack_.size() - floor() < count) fail("an empty stack");
    std::vector<PickleIndex> items(stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return items;
  }

  std::vector<PickleIndex> pop_to_mark() {
    if (marks_.empty()) fail("no mark");
    std::vector<PickleIndex> items = pop(stack_.size() - marks_.back());
    marks_.pop_back();
    return items;
  }

  void push_list(std::vector<PickleIndex> items) {
    push({PickleKind::kList, 0, 0, {}, std::move(items)});
  }

  void extend(PickleKind kind, const std::vector<PickleIndex>& items) {
    if (kind == PickleKind::kDict && items.size() % 2 != 0) fail("a key without value");
    PickleValue& target = top(kind);
    target.items.insert(target.items.end(), items.begin(), items.end());
  }

  void get(std::uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) fail("a reference to nothing");
    refer(found->second);
  }

  void put(std::uint64_t key) {
    if (stack_.size() <= floor()) fail("an empty stack");
    if (key > memo_.size() + kMemoGap) fail("a memo key out of order");
    memo_[key] = stack_.back();
  }

  // --- operations with a meaning
  /// How TorchScript writes a value of an enumeration: its class, called with the plain value.
  static bool is_enumerator(const PickleValue& global, const PickleValue& value) {
    const bool plain = value.kind == PickleKind::kInt || value.kind == PickleKind::kFloat ||
                       value.kind == PickleKind::kString;
    return plain && global.kind == PickleKind::kGlobal && global.text.rfind("__torch__.", 0) == 0;
  }

  void reduce() {
    const PickleIndex arguments = pop();
    const PickleIndex callable = pop();
    const PickleValue& list = pickle_.values[arguments];
    const PickleValue& global = pickle_.values[callable];
    if (is_enumerator(global, list)) return refer(arguments);
    if (global.kind != PickleKind::kGlobal || list.kind != PickleKind::kList) fail("an odd call");
    // An ordered dict is filled after it was made, by the operations for dicts.
    if (global.text == "collections.OrderedDict" && list.items.empty()) {
      push(PickleKind::kDict, 0);
    } else {
      push({PickleKind::kCall, 0, 0, global.text, list.items});
    }
  }

  void new_object() {
    pop();  // arguments
    const PickleValue& type = pickle_.values[pop()];
    if (type.kind != PickleKind::kGlobal) fail("an instance of no class");
    push(PickleKind::kObject, type.text);
  }

  void build() {
    const PickleIndex state = pop();
    if (stack_.size() <= floor()) fail("an empty stack");
    PickleValue& target = pickle_.values[stack_.back()];
    // Attributes of an ordered dict (the _metadata of a state dict) do not matter here.
    if (target.kind == PickleKind::kDict) return;
    if (target.kind != PickleKind::kObject || !target.items.empty())
      fail("state for a plain value");
    target.items = {state};
  }

  void read_long() {
    const std::size_t size = static_cast<std::size_t>(number(1));
    if (size > 8) fail("an integer of more than 64 bits");
    std::uint64_t value = number(size);
    // Two's complement of any width.
    if (size > 0 && size < 8 && (value >> (8 * size - 1)) != 0)
      value |= ~std::uint64_t{0} << (8 * size);
    push(PickleKind::kInt, static_cast<std::int64_t>(value));
  }

  /// Executes one operation; true at the end of the pickle. Codes as in Python's pickletools.
  bool step() {
    const auto code = static_cast<unsigned char>(number(1));
    switch (code) {
      case 0x80:  // PROTO
        if (number(1) != kProtocol) fail("a pickle protocol other than 2");
        return false;
      case '.':  // STOP
        if (!marks_.empty()) fail("an open mark");
        return true;
      case '(':  // MARK
        if (marks_.size() >= kMaxMarks) fail("too many open marks");
        marks_.push_back(stack_.size());
        return false;
      case 'N':  // NONE
        push(PickleKind::kNone, 0);
        return false;
      case 0x88:  // NEWTRUE
      case 0x89:  // NEWFALSE
        push(PickleKind::kBool, code == 0x88 ? 1 : 0);
        return false;
      case 'J':  // BININT
        push(PickleKind::kInt, static_cast<std::int32_t>(number(4)));
        return false;
      case 'K':  // BININT1
        push(PickleKind::kInt, static_cast<std::int64_t>(number(1)));
        return false;
      case 'M':  // BININT2
        push(PickleKind::kInt, static_cast<std::int64_t>(number(2)));
        return false;
      case 0x8a:  // LONG1
        read_long();
        return false;
      case 'G':  // BINFLOAT
        push(PickleKind::kFloat, 0);
        pickle_.values.back().real = real();
        return false;
      case 'X':  // BINUNICODE
        push(PickleKind::kString, text(static_cast<std::size_t>(number(4))));
        return false;
      case 'c': {  // GLOBAL
        std::string module = line();
        push(PickleKind::kGlobal, std::move(module).append(".").append(line()));
        return false;
      }
      default:
        return container_step(code);
    }
  }

  bool container_step(unsigned char code) {
    switch (code) {
      case ']':  // EMPTY_LIST
      case ')':  // EMPTY_TUPLE
        push(PickleKind::kList, 0);
        break;
      case '}':  // EMPTY_DICT
        push(PickleKind::kDict, 0);
        break;
      case 't':  // TUPLE
        push_list(pop_to_mark());
        break;
      case 0x85:  // TUPLE1
      case 0x86:  // TUPLE2
      case 0x87:  // TUPLE3
        push_list(pop(std::size_t{code} - 0x84U));
        break;
      case 'a':  // APPEND
        extend(PickleKind::kList, pop(1));
        break;
      case 'e':  // APPENDS
        extend(PickleKind::kList, pop_to_mark());
        break;
      case 's':  // SETITEM
        extend(PickleKind::kDict, pop(2));
        break;
      case 'u':  // SETITEMS
        extend(PickleKind::kDict, pop_to_mark());
        break;
      case 'q':  // BINPUT
        put(number(1));
        break;
      case 'r':  // LONG_BINPUT
        put(number(4));
        break;
      case 'h':  // BINGET
        get(number(1));
        break;
      case 'j':  // LONG_BINGET
        get(number(4));
        break;
      case 'Q':  // BINPERSID
        push({PickleKind::kStorage, 0, 0, {}, {pop()}});
        break;
      case 'R':  // REDUCE
        reduce();
        break;
      case 0x81:  // NEWOBJ
        new_object();
        break;
      case 'b':  // BUILD
        build();
        break;
      default: {
        std::array<char, 8> hex{};
        static_cast<void>(std::snprintf(hex.data(), hex.size(), "%02x", code));
        fail(std::string("operation ").append(hex.data()));
      }
    }
    return false;
  }

  Bytes bytes_;
  const std::string& name_;
  std::size_t position_ = 0;
  Pickle pickle_;
  std::vector<PickleIndex> stack_;
  std::vector<std::size_t> marks_;
  std::size_t references_ = 0;
  std::map<std::uint64_t, PickleIndex> memo_;
};

}  // namespace

void check_pickle_depth(const Pickle& pickle, const std::string& name) {
  enum class State : std::uint8_t { kNew, kOpen, kDone };
  std::vector<State> states(pickle.values.size(), State::kNew);
  std::vector<int> depths(pickle.values.size(), 1);
  const auto fail = [&](const char* got) {
    throw_file_error("the pickle nests its values too deeply", name,
                     "at most " + std::to_string(kMaxPickleDepth) + " levels", got);
  };
  // Every value, not only what the root reaches: a reader makes them all. Without recursion.
  std::vector<std::pair<PickleIndex, std::size_t>> path;
  for (PickleIndex start = 0; start < pickle.values.size(); ++start) {
    if (states[start] != State::kNew) continue;
    path.push_back({start, 0});
    states[start] = State::kOpen;
    while (!path.empty()) {
      auto& [index, next] = path.back();
      const auto& items = pickle.values[index].items;
      if (next < items.size()) {
        const PickleIndex item = items[next++];
        if (states[item] == State::kOpen) fail("a value that contains itself");
        if (states[item] == State::kDone) {
          depths[index] = std::max(depths[index], depths[item] + 1);
        } else {
          states[item] = State::kOpen;
          path.push_back({item, 0});
        }
        continue;
      }
      const PickleIndex done = index;
      states[done] = State::kDone;
      path.pop_back();
      if (!path.empty()) {
        int& outer = depths[path.back().first];
        outer = std::max(outer, depths[done] + 1);
      }
      if (depths[done] > kMaxPickleDepth) fail("more");
    }
  }
}

Pickle read_pickle(Bytes bytes, const std::string& name) { return Reader(bytes, name).read(); }

}  // namespace repquant::internal
