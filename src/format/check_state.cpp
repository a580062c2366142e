#include "format/check_state.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "archive/pickled_tensor.h"
#include "format/class_source.h"
#include "repquant/error.h"

namespace repquant {
namespace {

using internal::Pickle;
using internal::PickleKind;
using internal::PickleValue;

using Sizes = std::vector<std::int64_t>;

constexpr const char* kFloats = "torch.FloatStorage";
constexpr const char* kBytes = "torch.ByteStorage";
constexpr const char* kChars = "torch.CharStorage";
constexpr const char* kLongs = "torch.LongStorage";

std::string text_of(const Sizes& sizes) {
  std::string text = "[";
  for (const auto size : sizes) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

std::int64_t count_of(const Sizes& sizes) {  // cannot overflow: the claim was checked
  std::int64_t count = 1;
  for (const auto size : sizes) count *= size;
  return count;
}

/// The stored values of one instance by name.
class State {
 public:
  State(const Pickle& pickle, const PickleValue& object, const ClassSource& source,
        const std::string& where)
      : pickle_(pickle), where_(where + "#" + source.name) {
    if (object.items.size() != 1) fail("", "stored values", "none");
    const PickleValue& tuple = pickle.item(object, 0);
    if (tuple.kind != PickleKind::kList || tuple.items.size() != source.stored.size() + 1) {
      fail("", std::to_string(source.stored.size() + 1) + " stored values",
           std::to_string(tuple.items.size()));
    }
    for (std::size_t i = 0; i < source.stored.size(); ++i) {
      values_[source.stored[i].first] = &pickle.item(tuple, i);
    }
    if (pickle.item(tuple, source.stored.size()).kind != PickleKind::kBool) {
      fail("training", "a bool", "another type");
    }
  }

  [[noreturn]] void fail(const std::string& name, const std::string& expected,
                         const std::string& got) const {
    throw Error(ErrorKind::kFile,
                {.what = "the artifact stores a value that its class cannot have",
                 .where = where_ + (name.empty() ? "" : "." + name),
                 .expected = expected,
                 .got = got,
                 .hint = "copy the file again, or quantize the model again with this version"});
  }

  std::int64_t integer(const char* name, std::int64_t low, std::int64_t high) const {
    const std::int64_t value = of_kind(name, PickleKind::kInt, "an integer").number;
    if (value < low || value > high) {
      fail(name, std::to_string(low) + " to " + std::to_string(high), std::to_string(value));
    }
    return value;
  }

  /// A finite number within low .. high.
  void number(const char* name, double low, double high) const {
    const double value = of_kind(name, PickleKind::kFloat, "a number").real;
    if (!(value >= low && value <= high)) {
      fail(name, std::to_string(low) + " to " + std::to_string(high), std::to_string(value));
    }
  }

  bool flag(const char* name) const {
    return of_kind(name, PickleKind::kBool, "a bool").number != 0;
  }

  std::string text(const char* name, const std::vector<std::string>& allowed) const {
    const std::string& value = of_kind(name, PickleKind::kString, "a text").text;
    if (std::find(allowed.begin(), allowed.end(), value) == allowed.end()) {
      std::string names;
      for (const auto& word : allowed) names += (names.empty() ? "\"" : ", \"") + word + "\"";
      fail(name, names, value.substr(0, 40));
    }
    return value;
  }

  /// The sizes of a tensor that has these elements and at least one of them.
  Sizes tensor(const char* name, const std::string& storage = kFloats) const {
    const PickleValue& value = *values_.at(name);
    const auto tensor = pickled_tensor(pickle_, value, where_ + "." + name);
    if (tensor.storage_type != storage) fail(name, storage, tensor.storage_type);
    if (tensor.sizes.size() > 8) fail(name, "at most 8 dimensions", text_of(tensor.sizes));
    if (count_of(tensor.sizes) == 0) fail(name, "a tensor with elements", text_of(tensor.sizes));
    if (!tensor.contiguous) fail(name, "a contiguous tensor", "other strides");
    return tensor.sizes;
  }

  void tensor_of(const char* name, const Sizes& expected,
                 const std::string& storage = kFloats) const {
    const Sizes sizes = tensor(name, storage);
    if (sizes != expected) fail(name, text_of(expected), text_of(sizes));
  }

  /// A grid of attention: one value, a value for each head, for each channel, or both.
  void grid(const char* name) const {
    const Sizes sizes = tensor(name);
    if (sizes.size() > 3 || (sizes.size() == 3 && sizes[1] != 1)) {
      fail(name, "[1], [d], [H, 1, 1] or [H, 1, d]", text_of(sizes));
    }
  }

  /// Codes [rows, columns] as pack_codes() stores them; `bits` and their sizes go together.
  void codes(const char* name, std::int64_t rows, std::int64_t columns, std::int64_t bits) const {
    const bool packed = bits <= 4;
    tensor_of(name, {rows, packed ? columns / 2 + columns % 2 : columns}, packed ? kBytes : kChars);
  }

  std::vector<std::int64_t> integers(const char* name) const {
    const PickleValue* value = values_.at(name);
    // LibTorch wraps a list into a call that names its type.
    if (value->kind == PickleKind::kCall && value->text == "torch.jit._pickle.build_intlist" &&
        value->items.size() == 1) {
      value = &pickle_.item(*value, 0);
    }
    if (value->kind != PickleKind::kList) fail(name, "a list of integers", "another type");
    std::vector<std::int64_t> result;
    for (std::size_t i = 0; i < value->items.size(); ++i) {
      if (pickle_.item(*value, i).kind != PickleKind::kInt) fail(name, "integers", "another type");
      result.push_back(pickle_.item(*value, i).number);
    }
    return result;
  }

 private:
  const PickleValue& of_kind(const char* name, PickleKind kind, const char* expected) const {
    const PickleValue& value = *values_.at(name);
    if (value.kind != kind) fail(name, expected, "another type");
    return value;
  }

  const Pickle& pickle_;
  std::string where_;
  std::map<std::string, const PickleValue*> values_;
};

constexpr std::int64_t kMaxColumns = std::int64_t{1} << 30;
constexpr std::int64_t kMaxWindow = 65536;  // a kernel, a step, a padding
constexpr std::int64_t kMaxGroup = 65536;   // as in recipes
constexpr double kLargest = 3e38;           // still finite as float32
constexpr double kSmallest = 1e-38;

void check_norm_quantize(const State& state) {
  const Sizes width = state.tensor("weight");
  state.tensor_of("bias", width);
  const auto shape = state.integers("shape");
  if (shape != width || shape.size() > 4) {
    // A norm over several dimensions has a weight of these dimensions or a flat one.
    std::int64_t count = 1;
    for (const auto size : shape) {
      if (size <= 0 || size > kMaxColumns || count > kMaxColumns) {
        state.fail("shape", text_of(width), text_of(shape));
      }
      count *= size;
    }
    if (shape.empty() || shape.size() > 4 || count != count_of(width)) {
      state.fail("shape", text_of(width), text_of(shape));
    }
  }
  state.number("epsilon", 0.0, kLargest);
  state.integer("max_code", 1, 255);
  state.flag("root_mean_square");
}

void check_quantize(const State& state) {
  state.tensor("multiplier");
  state.tensor("offset");
  const bool quadratic = state.flag("quadratic");
  const std::int64_t top = state.integer("max_code", 1, quadratic ? 15 : 255);
  // Signed codes end at 127, unsigned ones begin at 0.
  if (state.flag("signed_codes")) {
    if (quadratic) state.fail("quadratic", "false for signed codes", "true");
    state.integer("shift", std::max<std::int64_t>(0, top - 127), 128);
  } else {
    state.integer("shift", 0, 0);
  }
}

/// Weight codes with a scale and a bias for each row; [N] and the number of columns.
std::pair<Sizes, std::int64_t> check_rows(const State& state) {
  const std::int64_t bits = state.integer("bits", 2, 8);
  const std::int64_t columns = state.integer("columns", 1, kMaxColumns);
  const Sizes scale = state.tensor("scale");
  if (scale.size() != 1) state.fail("scale", "[N]", text_of(scale));
  state.tensor_of("bias", scale);
  state.codes("codes", scale[0], columns, bits);
  return {scale, columns};
}

void check_linear(const State& state) {
  check_rows(state);
  state.tensor_of("levels", {16}, kChars);
  state.integer("zero_point", 0, 255);
  state.integer("max_product_code", 1, 255);
  const bool gelu = state.text("activation", {"none", "relu", "gelu"}) == "gelu";
  state.text("algorithm",
             gelu ? std::vector<std::string>{"none", "tanh"} : std::vector<std::string>{""});
  const bool operands = state.integer("output", 0, 2) == 1;  // int8 codes
  const std::int64_t low = state.integer("output_low", -128, 127);
  state.integer("output_high", operands ? low : -128, operands ? 127 : 255);
  state.number("output_scale", kSmallest, kLargest);
  state.integer("output_zero", -65536, 65536);
  const bool quadratic = state.flag("output_quadratic");
  state.integer("output_max_code", 1, quadratic ? 15 : 255);
}

void check_weight_only(const State& state) {
  const std::int64_t bits = state.integer("bits", 2, 8);
  const std::int64_t columns = state.integer("columns", 1, kMaxColumns);
  // prepare() repeats each scale this often before it cuts the row off.
  const std::int64_t group = state.integer("group_size", 0, std::max(columns, kMaxGroup));
  const Sizes bias = state.tensor("bias");
  if (bias.size() != 1) state.fail("bias", "[N]", text_of(bias));
  state.codes("codes", bias[0], columns, bits);
  state.tensor_of("scale", group > 0 ? Sizes{bias[0], (columns + group - 1) / group} : bias);
  state.tensor_of("levels", {16}, kChars);
}

void check_side_columns(const State& state) {
  const Sizes channels = state.tensor("channels", kLongs);
  if (channels.size() != 1) state.fail("channels", "[m]", text_of(channels));
  state.tensor_of("scale", channels);
  state.tensor_of("zero_point", channels);
  const Sizes rows = state.tensor("weight_scale");
  if (rows.size() != 1) state.fail("weight_scale", "[N]", text_of(rows));
  state.tensor_of("codes", {rows[0], channels[0]}, kChars);
  state.integer("bits", 2, 8);
}

void check_scores(const State& state) {
  for (const char* name : {"left_zero", "right_zero", "scale"}) state.grid(name);
  state.integer("left_bits", 1, 8);
  state.integer("right_bits", 1, 8);
  state.flag("raw");
}

void check_attend(const State& state) {
  for (const char* name : {"factor", "value_zero", "multiplier", "offset"}) state.grid(name);
  state.integer("bits", 1, 8);
  for (const char* name : {"uniform", "u8_table", "zero_code", "row_maximum", "fresh"}) {
    state.flag(name);
  }
  state.number("steps_per_octave", 1e-6, 1e6);
  state.number("log_scale", -1000, 1000);
  state.integer("output_max_code", 0, 255);
}

void check_embedding(const State& state) {
  const std::int64_t bits = state.integer("bits", 2, 8);
  const std::int64_t columns = state.integer("columns", 1, kMaxColumns);
  const Sizes scale = state.tensor("scale");
  if (scale.size() != 2 || scale[1] != 1) state.fail("scale", "[V, 1]", text_of(scale));
  state.codes("codes", scale[0], columns, bits);
}

void check_token_range(const State& state) { state.integer("top", 1, 255); }

void check_token_quantize(const State& state) {
  const std::int64_t top = state.integer("top", 1, 255);
  const Sizes levels = state.tensor("levels", kBytes);
  if (levels.size() != 1 || levels[0] < 2 || levels[0] > top + 1) {
    state.fail("levels", "2 to " + std::to_string(top + 1) + " levels", text_of(levels));
  }
}

void check_group_quantize(const State& state) {
  state.integer("group_size", 1, kMaxGroup);
  check_token_quantize(state);
}

void check_token_scale(const State& state) {
  const Sizes bias = state.tensor("bias");
  if (bias.size() != 1) state.fail("bias", "[N]", text_of(bias));
  state.tensor_of("sums", bias);
  const bool operands = state.integer("output", 0, 1) == 1;  // int8 codes
  const std::int64_t low = state.integer("output_low", -128, 127);
  state.integer("output_high", operands ? low : -128, operands ? 127 : 255);
}

void check_convolution(const State& state) {
  const auto [scale, columns] = check_rows(state);
  const auto kernel = state.integers("kernel");
  std::int64_t elements = 1;
  for (const char* name : {"kernel", "stride", "padding", "dilation"}) {
    const auto list = state.integers(name);
    const std::int64_t least = std::string_view(name) == "padding" ? 0 : 1;
    const bool fits = list.size() == kernel.size() && !list.empty() && list.size() <= 3 &&
                      std::all_of(list.begin(), list.end(),
                                  [&](std::int64_t n) { return n >= least && n <= kMaxWindow; });
    if (!fits) state.fail(name, "a number for each of 1 to 3 dimensions", text_of(list));
  }
  for (const std::int64_t size : kernel) elements *= size;
  const std::int64_t groups = state.integer("groups", 1, scale[0]);
  if (columns % elements != 0 || scale[0] % groups != 0) {
    state.fail("groups", "groups of equal size", std::to_string(groups));
  }
  Sizes channels{columns / elements * groups};
  channels.resize(kernel.size() + 1, 1);
  if (state.integer("max_code", 0, 255) == 0) channels = {1};
  state.tensor_of("multiplier", channels);
  state.tensor_of("zero_point", channels);
}

void check_cache(const State& state) { state.integer("bits", 8, 8); }

void check_row_scale(const State& state) { state.integer("top", 1, 127); }

void check_row_quantize(const State& state) { state.integer("bits", 2, 8); }

void check_instance(const ClassSource& source, const State& state) {
  using Check = void (*)(const State&);
  // In the order of ClassKind.
  static constexpr std::array<Check, 17> checks{
      &check_norm_quantize, &check_quantize,       &check_linear,      &check_weight_only,
      &check_side_columns,  &check_scores,         &check_attend,      &check_embedding,
      &check_token_range,   &check_token_quantize, &check_token_scale, &check_convolution,
      &check_cache,         &check_cache,          &check_row_scale,   &check_row_quantize,
      &check_group_quantize};
  checks.at(static_cast<std::size_t>(&source - class_sources().data()))(state);
}

}  // namespace

void check_state(const Pickle& pickle, const std::string& where) {
  for (const PickleValue& value : pickle.values) {
    if (value.kind != PickleKind::kObject) continue;
    const ClassSource* source = find_class(value.text);
    if (source != nullptr) check_instance(*source, State(pickle, value, *source, where));
  }
}

}  // namespace repquant
