#include "artifact/classes.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/frontend/resolver.h>
#include <torch/csrc/jit/frontend/sugared_value.h>

#include <cmath>
#include <string>
#include <utility>

#include "format/class_source.h"
#include "repquant/error.h"

namespace repquant {
namespace {

using torch::jit::Module;

/// `torch` and `onednn` in the classes' source mean the operators of those name spaces.
struct OperatorResolver : public torch::jit::Resolver {
  std::shared_ptr<torch::jit::SugaredValue> resolveValue(const std::string& name,
                                                         torch::jit::GraphFunction&,
                                                         const torch::jit::SourceRange&) override {
    if (name == "torch") return std::make_shared<torch::jit::BuiltinModule>("aten");
    if (name == "onednn") return std::make_shared<torch::jit::BuiltinModule>("onednn");
    if (name == "annotate") return torch::jit::SpecialFormValue::create(c10::prim::annotate);
    return nullptr;
  }
};

c10::TypePtr type_named(const std::string& name) {
  if (name == "Tensor") return c10::TensorType::get();
  if (name == "int") return c10::IntType::get();
  if (name == "float") return c10::FloatType::get();
  if (name == "bool") return c10::BoolType::get();
  if (name == "str") return c10::StringType::get();
  return c10::ListType::ofInts();
}

c10::IValue default_of(const std::string& name) {
  if (name == "Tensor") return at::Tensor();
  if (name == "int") return std::int64_t{0};
  if (name == "float") return 0.0;
  if (name == "bool") return false;
  if (name == "str") return std::string();
  return c10::List<std::int64_t>();
}

Module define_class(const ClassSource& source,
                    const std::shared_ptr<torch::jit::CompilationUnit>& unit) {
  Module module(c10::QualifiedName(qualified_name(source)), unit);
  module.register_attribute("training", c10::BoolType::get(), false);
  for (const auto* attributes : {&source.stored, &source.derived}) {
    for (const auto& [name, type] : *attributes) {
      module.register_attribute(name, type_named(type), default_of(type));
    }
  }
  module.define(full_source(source), std::make_shared<OperatorResolver>());
  return module;
}

constexpr std::int64_t kCacheBits = 8;

/// The attributes `activation` and `algorithm` of Linear.
std::pair<std::string, std::string> stored_names(LinearActivation activation) {
  switch (activation) {
    case LinearActivation::kNone:
      return {"none", ""};
    case LinearActivation::kRelu:
      return {"relu", ""};
    case LinearActivation::kGelu:
      return {"gelu", "none"};
    case LinearActivation::kGeluTanh:
      return {"gelu", "tanh"};
  }
  return {};
}

/// Own, contiguous, without gradient: a view would save its whole storage.
at::Tensor owned(const at::Tensor& tensor) {
  return tensor.detach().clone(at::MemoryFormat::Contiguous);
}

at::Tensor owned_float(const at::Tensor& tensor) { return owned(tensor.to(at::kFloat)); }

/// Of a grid whose codes reach up to `top`: without a codebook the codes themselves.
at::Tensor stored_levels(std::int64_t top, const at::Tensor& levels) {
  return owned(levels.defined() ? levels : at::arange(top + 1, at::kByte));
}

}  // namespace

struct ModuleFactory::Prototypes {
  std::vector<Module> modules;
};

ModuleFactory::ModuleFactory()
    : unit_(std::make_shared<torch::jit::CompilationUnit>()),
      prototypes_(std::make_unique<Prototypes>()) {
  for (const auto& source : class_sources()) {
    prototypes_->modules.push_back(define_class(source, unit_));
  }
}

ModuleFactory::~ModuleFactory() = default;

Module ModuleFactory::make(ClassKind kind, std::vector<c10::IValue> state) {
  const auto type = prototypes_->modules.at(static_cast<std::size_t>(kind)).type();
  Module module(
      c10::ivalue::Object::create(c10::StrongTypePtr(unit_, type), type->numAttributes()));
  state.emplace_back(false);  // training
  // The same method that a loader calls, so that memory and file hold the same thing.
  module.get_method("__setstate__")({c10::ivalue::Tuple::create(std::move(state))});
  return module;
}

at::Tensor ModuleFactory::stored_codes(const at::Tensor& codes, int bits) {
  return codes_.first_of(pack_codes(codes, bits));
}

Module ModuleFactory::norm_quantize(const NormQuantizeState& s) {
  return make(ClassKind::kNormQuantize, {owned_float(s.weight), owned_float(s.bias), s.shape,
                                         s.epsilon, s.max_code, s.root_mean_square});
}

Module ModuleFactory::quantize(const QuantizeState& s) {
  return make(ClassKind::kQuantize, {owned_float(s.multiplier), owned_float(s.offset), s.max_code,
                                     s.quadratic, s.is_signed, s.shift});
}

Module ModuleFactory::linear(const LinearState& s) {
  const auto activation = stored_names(s.activation);
  return make(ClassKind::kLinear,
              {stored_codes(s.weight_codes, s.bits), owned_float(s.scale), owned_float(s.bias),
               static_cast<std::int64_t>(s.bits), s.weight_codes.size(1), nibble_levels(s.levels),
               s.zero_point, s.max_product_code, activation.first, activation.second,
               static_cast<std::int64_t>(s.output), s.output_low, s.output_high, s.output_scale,
               s.output_zero, s.output_max_code, s.output_quadratic});
}

Module ModuleFactory::weight_only(const WeightOnlyState& s) {
  return make(ClassKind::kWeightOnlyLinear,
              {stored_codes(s.weight_codes, s.bits), owned_float(s.scale), owned_float(s.bias),
               static_cast<std::int64_t>(s.bits), s.weight_codes.size(1), s.group_size,
               nibble_levels(s.levels)});
}

Module ModuleFactory::side(const SideState& s) {
  return make(ClassKind::kSideColumns,
              {owned(s.weight_codes), owned_float(s.weight_scale), owned(s.channels),
               owned_float(s.scale), owned_float(s.zero_point), static_cast<std::int64_t>(s.bits)});
}

Module ModuleFactory::scores(const ScoresState& s) {
  return make(ClassKind::kScores, {owned_float(s.left_zero), owned_float(s.right_zero), s.left_bits,
                                   s.right_bits, owned_float(s.scale), s.raw});
}

Module ModuleFactory::attend(const AttendState& s) {
  return make(ClassKind::kAttend,
              {owned_float(s.factor), s.bits, s.uniform, s.u8_table, s.zero_code,
               s.steps_per_octave, s.row_maximum, std::log(s.softmax_scale), s.fresh,
               owned_float(s.value_zero), owned_float(s.multiplier),
               s.offset.defined() ? owned_float(s.offset) : at::zeros({1}), s.output_max_code});
}

Module ModuleFactory::embedding(const EmbeddingState& s) {
  return make(ClassKind::kEmbedding,
              {stored_codes(s.codes, s.bits), owned_float(s.scale.unsqueeze(1)),
               static_cast<std::int64_t>(s.bits), s.codes.size(1)});
}

Module ModuleFactory::token_range(std::int64_t top) { return make(ClassKind::kTokenRange, {top}); }

Module ModuleFactory::token_quantize(std::int64_t top, const at::Tensor& levels) {
  return make(ClassKind::kTokenQuantize, {top, stored_levels(top, levels)});
}

Module ModuleFactory::group_quantize(std::int64_t group_size, std::int64_t top,
                                     const at::Tensor& levels) {
  return make(ClassKind::kGroupQuantize, {group_size, top, stored_levels(top, levels)});
}

Module ModuleFactory::token_scale(const TokenScaleState& s) {
  return make(ClassKind::kTokenScale,
              {owned_float(s.sums), owned_float(s.bias), static_cast<std::int64_t>(s.output),
               s.output_low, s.output_high});
}

Module ModuleFactory::row_scale(std::int64_t top) { return make(ClassKind::kRowScale, {top}); }

Module ModuleFactory::row_quantize(std::int64_t bits) {
  return make(ClassKind::kRowQuantize, {bits});
}

Module ModuleFactory::cache_quantize() { return make(ClassKind::kCacheQuantize, {kCacheBits}); }

Module ModuleFactory::cache_dequantize() { return make(ClassKind::kCacheDequantize, {kCacheBits}); }

Module ModuleFactory::convolution(const ConvolutionState& s) {
  return make(ClassKind::kConvolution,
              {stored_codes(s.weight_codes, s.bits), owned_float(s.scale), owned_float(s.bias),
               static_cast<std::int64_t>(s.bits), s.weight_codes.size(1), owned_float(s.multiplier),
               owned_float(s.zero_point), s.max_code, s.shape.kernel, s.shape.stride,
               s.shape.padding, s.shape.dilation, s.shape.groups});
}

}  // namespace repquant
