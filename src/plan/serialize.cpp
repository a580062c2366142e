#include "plan/serialize.h"

#include <ATen/ATen.h>
#include <torch/script.h>

#include <cmath>
#include <limits>
#include <utility>

#include "repquant/error.h"

namespace repquant {
namespace {

using Dict = c10::Dict<c10::IValue, c10::IValue>;

constexpr int kMaxBits = 16;
constexpr int kMaxGroupSize = 65536;

[[noreturn]] void fail(const std::string& field, const std::string& expected,
                       const std::string& got) {
  throw Error(ErrorKind::kFile, {.what = "A stored site plan is not readable.",
                                 .where = field,
                                 .expected = expected,
                                 .got = got,
                                 .hint = "Delete the checkpoint and start again."});
}

Dict make_dict() { return Dict(c10::StringType::get(), c10::AnyType::get()); }

// An undefined tensor is stored as None.
void put(Dict& dict, const char* key, const at::Tensor& tensor) {
  if (!tensor.defined()) {
    dict.insert(std::string(key), c10::IValue());
    return;
  }
  const bool is_whole = tensor.is_contiguous() && tensor.storage().nbytes() == tensor.nbytes() &&
                        !tensor.requires_grad();
  dict.insert(std::string(key),
              is_whole ? tensor : tensor.detach().clone(at::MemoryFormat::Contiguous));
}

template <typename T>
void put(Dict& dict, const char* key, const T& value) {
  dict.insert(std::string(key), c10::IValue(value));
}

void put(Dict& dict, const char* key, int value) {
  dict.insert(std::string(key), static_cast<std::int64_t>(value));
}

void put(Dict& dict, const char* key, const Dict& value) {
  dict.insert(std::string(key), c10::IValue(c10::impl::GenericDict(value)));
}

// Reads the fields of one dictionary, naming the field in every error.
class Reader {
 public:
  Reader(const c10::IValue& value, std::string path) : dict_(make_dict()), path_(std::move(path)) {
    if (!value.isGenericDict()) fail(path_, "a dictionary", value.tagKind());
    dict_ = value.toGenericDict();
  }

  c10::IValue at(const char* key) const {
    const auto found = dict_.find(std::string(key));
    if (found == dict_.end()) fail(path_ + "." + key, "a value", "nothing");
    return found->value();
  }

  Reader nested(const char* key) const { return {at(key), path_ + "." + key}; }

  at::Tensor tensor(const char* key, at::ScalarType type, bool optional = false) const {
    const c10::IValue value = at(key);
    if (value.isNone() && optional) return {};
    if (!value.isTensor()) fail(path_ + "." + key, "a tensor", value.tagKind());
    at::Tensor tensor = value.toTensor();
    if (tensor.scalar_type() != type) {
      fail(path_ + "." + key, c10::toString(type), c10::toString(tensor.scalar_type()));
    }
    return tensor;
  }

  double number(const char* key) const {
    const c10::IValue value = at(key);
    if (!value.isDouble()) fail(path_ + "." + key, "a number", value.tagKind());
    return value.toDouble();
  }

  int integer(const char* key, std::int64_t lowest, std::int64_t highest) const {
    const c10::IValue value = at(key);
    if (!value.isInt()) fail(path_ + "." + key, "an integer", value.tagKind());
    const std::int64_t number = value.toInt();
    if (number < lowest || number > highest) {
      fail(path_ + "." + key,
           "an integer from " + std::to_string(lowest) + " to " + std::to_string(highest),
           std::to_string(number));
    }
    return static_cast<int>(number);
  }

  bool boolean(const char* key) const {
    const c10::IValue value = at(key);
    if (!value.isBool()) fail(path_ + "." + key, "a boolean", value.tagKind());
    return value.toBool();
  }

  std::string text(const char* key) const {
    const c10::IValue value = at(key);
    if (!value.isString()) fail(path_ + "." + key, "a string", value.tagKind());
    return value.toStringRef();
  }

  std::vector<std::int64_t> integers(const char* key) const {
    const c10::IValue value = at(key);
    if (!value.isIntList()) fail(path_ + "." + key, "a list of integers", value.tagKind());
    return value.toIntVector();
  }

 private:
  Dict dict_;
  std::string path_;
};

Dict store(const QuantizedWeight& weight) {
  Dict dict = make_dict();
  put(dict, "codes", weight.codes);
  put(dict, "scale", weight.scale);
  put(dict, "bits", weight.bits);
  put(dict, "levels", weight.levels);
  put(dict, "group_size", weight.group_size);
  put(dict, "outcome", weight.outcome);
  put(dict, "error_rtn", weight.error_rtn);
  put(dict, "error_gptq", weight.error_gptq);
  return dict;
}

QuantizedWeight read_weight(const Reader& reader, bool optional) {
  QuantizedWeight weight;
  weight.codes = reader.tensor("codes", at::kChar, optional);
  weight.scale = reader.tensor("scale", at::kFloat, optional);
  weight.bits = reader.integer("bits", 0, 8);
  weight.levels = reader.tensor("levels", at::kChar, true);
  weight.group_size = reader.integer("group_size", 0, kMaxGroupSize);
  weight.outcome = reader.text("outcome");
  weight.error_rtn = reader.number("error_rtn");
  weight.error_gptq = reader.number("error_gptq");
  return weight;
}

Dict store(const InputQuantizer& input) {
  Dict dict = make_dict();
  put(dict, "bits", input.bits);
  put(dict, "quadratic", input.form == CodeForm::kQuadratic);
  put(dict, "multiplier", input.multiplier);
  put(dict, "offset", input.offset);
  put(dict, "scale", input.scale);
  put(dict, "zero_point", input.zero_point);
  put(dict, "per_token", input.per_token);
  put(dict, "group_size", input.group_size);
  put(dict, "levels", input.levels);
  return dict;
}

InputQuantizer read_input(const Reader& reader, bool optional) {
  InputQuantizer input;
  input.bits = reader.integer("bits", 1, kMaxBits);
  input.form = reader.boolean("quadratic") ? CodeForm::kQuadratic : CodeForm::kUniform;
  input.multiplier = reader.tensor("multiplier", at::kFloat, optional);
  input.offset = reader.tensor("offset", at::kFloat, optional);
  input.scale = reader.number("scale");
  input.zero_point = reader.integer("zero_point", 0, std::int64_t{1} << 20);
  input.per_token = reader.boolean("per_token");
  input.group_size = reader.integer("group_size", 0, kMaxGroupSize);
  input.levels = reader.tensor("levels", at::kByte, true);
  return input;
}

Dict store(const SideColumns& side) {
  Dict dict = make_dict();
  put(dict, "bits", side.bits);
  put(dict, "channels", side.channels);
  put(dict, "scale", side.scale);
  put(dict, "zero_point", side.zero_point);
  put(dict, "weight", store(side.weight));
  return dict;
}

SideColumns read_side(const Reader& reader) {
  SideColumns side;
  side.channels = reader.integers("channels");
  const bool absent = side.channels.empty();
  side.bits = reader.integer("bits", 1, 8);
  side.scale = reader.tensor("scale", at::kFloat, absent);
  side.zero_point = reader.tensor("zero_point", at::kFloat, absent);
  side.weight = read_weight(reader.nested("weight"), absent);
  return side;
}

Dict store(const LinearPlan& plan) {
  Dict dict = make_dict();
  put(dict, "quantized_input", plan.quantized_input);
  put(dict, "input", store(plan.input));
  put(dict, "side", store(plan.side));
  put(dict, "weight", store(plan.weight));
  put(dict, "bias", plan.bias);
  put(dict, "norm", plan.norm);
  return dict;
}

LinearPlan read_linear(const Reader& reader) {
  LinearPlan plan;
  plan.quantized_input = reader.boolean("quantized_input");
  plan.input = read_input(reader.nested("input"), !plan.quantized_input);
  plan.side = read_side(reader.nested("side"));
  plan.weight = read_weight(reader.nested("weight"), false);
  plan.bias = reader.tensor("bias", at::kFloat);
  plan.norm = reader.text("norm");
  return plan;
}

Dict store(const OperandQuantizer& operand) {
  Dict dict = make_dict();
  put(dict, "bits", operand.bits);
  put(dict, "per_token", operand.per_token);
  put(dict, "multiplier", operand.multiplier);
  put(dict, "scale", operand.scale);
  put(dict, "zero_point", operand.zero_point);
  return dict;
}

OperandQuantizer read_operand(const Reader& reader) {
  OperandQuantizer operand;
  operand.bits = reader.integer("bits", 1, 8);
  operand.per_token = reader.boolean("per_token");
  operand.multiplier = reader.tensor("multiplier", at::kFloat);
  operand.scale = reader.tensor("scale", at::kFloat);
  operand.zero_point = reader.tensor("zero_point", at::kFloat);
  return operand;
}

Dict store(const ScoresPlan& plan) {
  Dict dict = make_dict();
  put(dict, "left", store(plan.left));
  put(dict, "right", store(plan.right));
  return dict;
}

Dict store(const AttendPlan& plan) {
  Dict dict = make_dict();
  put(dict, "bits", plan.bits);
  put(dict, "uniform", plan.uniform);
  put(dict, "grid_bits", plan.grid.bits);
  put(dict, "grid_steps_per_octave", plan.grid.steps_per_octave);
  put(dict, "grid_zero_code", plan.grid.zero_code);
  put(dict, "grid_u8_table", plan.grid.u8_table);
  put(dict, "row_maximum", plan.row_maximum);
  put(dict, "softmax_scale", plan.softmax_scale);
  put(dict, "value", store(plan.value));
  return dict;
}

AttendPlan read_attend(const Reader& reader) {
  AttendPlan plan;
  plan.bits = reader.integer("bits", 1, 8);
  plan.uniform = reader.boolean("uniform");
  plan.grid.bits = reader.integer("grid_bits", 1, 8);
  plan.grid.steps_per_octave = reader.number("grid_steps_per_octave");
  plan.grid.zero_code = reader.boolean("grid_zero_code");
  plan.grid.u8_table = reader.boolean("grid_u8_table");
  plan.row_maximum = reader.boolean("row_maximum");
  plan.softmax_scale = reader.number("softmax_scale");
  plan.value = read_operand(reader.nested("value"));
  return plan;
}

Dict store(const EmbeddingPlan& plan) {
  Dict dict = make_dict();
  put(dict, "table", store(plan.table));
  return dict;
}

Dict store(const GroupedConvolutionPlan& plan) {
  Dict dict = make_dict();
  put(dict, "quantized_input", plan.quantized_input);
  put(dict, "input", store(plan.input));
  put(dict, "weight", store(plan.weight));
  put(dict, "bias", plan.bias);
  put(dict, "kernel", plan.shape.kernel);
  put(dict, "stride", plan.shape.stride);
  put(dict, "padding", plan.shape.padding);
  put(dict, "dilation", plan.shape.dilation);
  put(dict, "groups", plan.shape.groups);
  return dict;
}

GroupedConvolutionPlan read_convolution(const Reader& reader) {
  GroupedConvolutionPlan plan;
  plan.quantized_input = reader.boolean("quantized_input");
  if (plan.quantized_input) plan.input = read_operand(reader.nested("input"));
  plan.weight = read_weight(reader.nested("weight"), false);
  plan.bias = reader.tensor("bias", at::kFloat);
  plan.shape = {.kernel = reader.integers("kernel"),
                .stride = reader.integers("stride"),
                .padding = reader.integers("padding"),
                .dilation = reader.integers("dilation"),
                .groups = reader.integer("groups", 1, std::numeric_limits<int>::max())};
  return plan;
}

/// Throws for a number that is no kind.
decltype(SitePlan::plan) read_kind(SiteKind kind, const Reader& reader) {
  switch (kind) {
    case SiteKind::kLinear:
    case SiteKind::kPatchEmbedding:
    case SiteKind::kWindowedLinear:
      return read_linear(reader);
    case SiteKind::kScores:
    case SiteKind::kProduct:
      return ScoresPlan{read_operand(reader.nested("left")), read_operand(reader.nested("right"))};
    case SiteKind::kAttend:
      return read_attend(reader);
    case SiteKind::kEmbedding:
      return EmbeddingPlan{read_weight(reader.nested("table"), false)};
    case SiteKind::kGroupedConvolution:
      return read_convolution(reader);
  }
  fail("plan.kind", "a kind of site", std::to_string(static_cast<int>(kind)));
}

}  // namespace

c10::IValue to_ivalue(const SitePlan& plan) {
  Dict dict = make_dict();
  put(dict, "path", plan.path);
  put(dict, "kind", static_cast<int>(plan.kind));
  put(dict, "note", plan.note);
  put(dict, "own_output_sqnr_db", plan.errors.own_output_sqnr_db);
  put(dict, "output_sqnr_db", plan.errors.output_sqnr_db);
  put(dict, "fold_deviation", plan.errors.fold_deviation);
  put(dict, "plan", std::visit([](const auto& value) { return store(value); }, plan.plan));
  return c10::impl::GenericDict(dict);
}

SitePlan plan_from_ivalue(const c10::IValue& value) {
  const Reader reader(value, "plan");
  SitePlan plan;
  plan.path = reader.text("path");
  plan.kind = static_cast<SiteKind>(reader.integer("kind", 0, std::numeric_limits<int>::max()));
  plan.note = reader.text("note");
  plan.errors.own_output_sqnr_db = reader.number("own_output_sqnr_db");
  plan.errors.output_sqnr_db = reader.number("output_sqnr_db");
  plan.errors.fold_deviation = reader.number("fold_deviation");
  plan.plan = read_kind(plan.kind, {reader.at("plan"), plan.path});
  return plan;
}

}  // namespace repquant
