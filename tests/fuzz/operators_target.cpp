// Calls of the fused operators with arguments that fit together but for a few, as a stored field
// that is forged gives them: an operator refuses them, or stays within its tensors.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/util/Exception.h>
#include <c10/util/Logging.h>

#include <algorithm>
#include <array>
#include <exception>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "fuzz/targets.h"
#include "ops/operators.h"

namespace repquant::fuzz {
namespace {

using Stack = std::vector<c10::IValue>;
using Sizes = std::vector<std::int64_t>;

/// Numbers out of the input; zeros once it is used up.
class Draw {
 public:
  explicit Draw(Input input) : input_(input) {}

  /// 0 .. end - 1, end up to 256.
  std::int64_t below(std::int64_t end) {
    const std::uint8_t byte = at_ < input_.size() ? input_[at_++] : 0;
    return byte % end;
  }
  std::int64_t size(std::int64_t most) { return 1 + below(most); }
  bool coin() { return below(2) == 1; }

 private:
  Input input_;
  std::size_t at_ = 0;
};

/// Values that differ from element to element: small whole numbers, which every type holds.
at::Tensor values(Draw& draw, const Sizes& sizes, at::ScalarType type) {
  const std::int64_t seed = draw.below(256);
  std::int64_t count = 1;
  for (const std::int64_t size : sizes) count *= size;
  at::Tensor numbers = at::arange(count, at::kLong).add_(seed).mul_(37).remainder_(16);
  if (type == at::kFloat) return (numbers.to(at::kFloat) / 8).reshape(sizes);
  return numbers.to(type).reshape(sizes);
}

at::Tensor floats(Draw& draw, const Sizes& sizes) { return values(draw, sizes, at::kFloat); }
at::Tensor bytes(Draw& draw, const Sizes& sizes) { return values(draw, sizes, at::kByte); }

constexpr std::int64_t kPanel = 64;
std::int64_t padded(std::int64_t count) { return (count + kPanel - 1) / kPanel * kPanel; }

at::Tensor levels(Draw& draw) { return at::arange(draw.size(16), at::kByte) * 17; }

c10::IValue maybe(Draw& draw, const at::Tensor& tensor) {
  return draw.coin() ? c10::IValue(tensor) : c10::IValue();
}

std::int64_t some_bits(Draw& draw) { return 2 + draw.below(7); }

struct Call {
  std::string name;
  Stack arguments;
};

/// Stored codes of a weight [channels, columns].
at::Tensor stored_codes(Draw& draw, std::int64_t channels, std::int64_t columns,
                        std::int64_t bits) {
  if (bits <= 4) return bytes(draw, {channels, (columns + 1) / 2});
  return values(draw, {channels, columns}, at::kChar);
}

Call pack_weight(Draw& draw) {
  const std::int64_t channels = draw.size(80), columns = draw.size(80), bits = some_bits(draw);
  return {"pack_weight",
          {stored_codes(draw, channels, columns, bits), bits, columns,
           bits <= 4 ? maybe(draw, values(draw, {16}, at::kChar)) : c10::IValue()}};
}

Call pack_weight_only(Draw& draw) {
  const std::int64_t channels = draw.size(80), columns = draw.size(80), bits = some_bits(draw);
  const std::int64_t group = draw.coin() ? draw.size(columns) : 0;
  const at::Tensor scale = group == 0 ? floats(draw, {channels})
                                      : floats(draw, {channels, (columns + group - 1) / group});
  return {"pack_weight_only",
          {stored_codes(draw, channels, columns, bits), scale, bits, columns, group,
           bits <= 4 ? maybe(draw, values(draw, {16}, at::kChar)) : c10::IValue()}};
}

/// What the products of integers have in common.
struct Product {
  std::int64_t rows, channels, columns, bits;
  at::Tensor codes, weight, compensation, scale, bias;

  explicit Product(Draw& draw)
      : rows(draw.size(40)),
        channels(draw.size(80)),
        columns(draw.size(80)),
        bits(some_bits(draw)) {
    codes = bytes(draw, {rows, columns});
    at::Tensor sums;
    std::tie(weight, sums) =
        ops::pack_weight_cpu(stored_codes(draw, channels, columns, bits), bits, columns);
    compensation = sums;
    scale = floats(draw, {padded(channels)});
    bias = floats(draw, {padded(channels)});
  }
};

Call linear(Draw& draw) {
  const Product p(draw);
  const std::int64_t output = draw.below(3);
  const Sizes wide{padded(p.channels)};
  const bool by_rows = draw.coin();
  return {"linear",
          {p.codes, p.weight, p.compensation, p.scale, p.bias,
           output == 2 ? c10::IValue(floats(draw, wide)) : c10::IValue(),
           output == 2 ? c10::IValue(floats(draw, wide)) : c10::IValue(),
           output == 0 ? maybe(draw, floats(draw, {p.rows, p.channels})) : c10::IValue(),
           p.channels, p.columns, p.bits, draw.below(6), output, output == 1 ? -draw.below(129) : 0,
           draw.below(128), draw.coin(),
           by_rows ? c10::IValue(floats(draw, {p.rows, 2})) : c10::IValue(),
           by_rows ? c10::IValue(floats(draw, wide)) : c10::IValue()}};
}

Call linear_tokens(Draw& draw) {
  const Product p(draw);
  const bool by_rows = draw.coin(), with_levels = draw.coin(), folded = draw.coin();
  return {
      "linear_tokens",
      {p.codes, p.weight, p.compensation, p.scale, p.bias, p.channels, p.columns, p.bits,
       draw.below(6), by_rows ? c10::IValue(floats(draw, {p.rows, 2})) : c10::IValue(),
       by_rows ? c10::IValue(floats(draw, {padded(p.channels)})) : c10::IValue(),
       with_levels ? 255 : draw.size(255), with_levels ? c10::IValue(levels(draw)) : c10::IValue(),
       folded ? c10::IValue(floats(draw, {p.channels})) : c10::IValue(),
       folded ? maybe(draw, floats(draw, {p.channels})) : c10::IValue()}};
}

Call grouped_linear(Draw& draw) {
  const std::int64_t groups = draw.size(5), channels = draw.size(80), columns = 8 * draw.size(4),
                     bits = some_bits(draw);
  const Sizes vectors{groups, padded(channels)};
  std::vector<at::Tensor> weights, codebooks;
  const bool with_levels = draw.coin(), folded = draw.coin();
  for (std::int64_t g = 0; g < groups; ++g) {
    weights.push_back(std::get<0>(
        ops::pack_weight_cpu(stored_codes(draw, channels, columns, bits), bits, columns)));
    if (with_levels) codebooks.push_back(levels(draw));
  }
  return {"grouped_linear",
          {floats(draw, {draw.size(40), groups * columns}), at::stack(weights),
           values(draw, vectors, at::kInt), floats(draw, vectors), floats(draw, vectors),
           floats(draw, vectors), channels, columns, bits, draw.below(6),
           with_levels ? 255 : draw.size(255), codebooks,
           folded ? c10::IValue(floats(draw, {groups * columns})) : c10::IValue(),
           folded ? maybe(draw, floats(draw, {groups * columns})) : c10::IValue()}};
}

Call linear_side(Draw& draw) {
  const Product p(draw);
  const std::int64_t sides = draw.size(8);
  return {"linear_side",
          {p.codes, p.weight, p.compensation, p.scale, p.bias, floats(draw, {p.rows, p.columns}),
           at::arange(sides, at::kLong).remainder(p.columns), floats(draw, {sides}),
           floats(draw, {sides}), floats(draw, {sides, padded(p.channels)}), draw.size(255),
           maybe(draw, floats(draw, {p.rows, p.channels})), p.channels, p.columns, p.bits}};
}

Call weight_only_linear(Draw& draw) {
  const Call packing = pack_weight_only(draw);
  const at::Tensor& codes = packing.arguments[0].toTensor();
  const std::int64_t bits = packing.arguments[2].toInt(), columns = packing.arguments[3].toInt(),
                     group = packing.arguments[4].toInt(), channels = codes.size(0);
  const auto [weight, scale] =
      ops::pack_weight_only_cpu(codes, packing.arguments[1].toTensor(), bits, columns, group,
                                packing.arguments[5].toOptional<at::Tensor>());
  return {"weight_only_linear",
          {floats(draw, {draw.size(8), columns}), weight, scale, floats(draw, {padded(channels)}),
           channels, columns, bits, group, draw.below(6)}};
}

Call quantize(Draw& draw) {
  const std::int64_t rows = draw.size(20), width = draw.size(80);
  const Sizes grid{draw.coin() ? 1 : width};
  return {"quantize",
          {floats(draw, {rows, width}), floats(draw, grid), floats(draw, grid), draw.size(255),
           draw.coin(), draw.coin(), draw.below(129)}};
}

/// On a grid for each head.
Call quantize_heads(Draw& draw) {
  const std::int64_t heads = draw.size(4), tokens = draw.size(9), width = draw.size(40);
  const Sizes grid{draw.coin() ? 1 : heads, 1, draw.coin() ? 1 : width};
  return {"quantize",
          {floats(draw, {2, heads, tokens, width}), floats(draw, grid), floats(draw, grid),
           draw.size(255), false, draw.coin(), draw.below(129)}};
}

Call cache(Draw& draw) {
  const std::int64_t heads = draw.size(4), tokens = draw.size(9), width = draw.size(40);
  if (draw.coin()) return {"cache_quantize", {floats(draw, {heads, tokens, width})}};
  const at::Tensor codes = bytes(draw, {heads, tokens, width + 8});
  if (draw.coin()) return {"cache_dequantize", {codes}};
  const Sizes grid{draw.coin() ? 1 : heads, 1, draw.coin() ? 1 : width};
  return {"cache_operand",
          {codes, floats(draw, grid), floats(draw, grid), draw.size(255), draw.below(129)}};
}

Call norm_quantize(Draw& draw) {
  const std::int64_t width = draw.size(80);
  return {"norm_quantize",
          {floats(draw, {draw.size(20), width}), floats(draw, {width}), floats(draw, {width}), 1e-6,
           draw.size(255), draw.coin()}};
}

/// Behind the norm, if there is one: its top, levels and perhaps a fold.
void add_grids(Draw& draw, std::int64_t width, bool may_fold, Stack& arguments) {
  const bool with_levels = draw.coin(), folded = draw.coin();
  arguments.emplace_back(with_levels ? 255 : draw.size(255));
  arguments.push_back(with_levels ? c10::IValue(levels(draw)) : c10::IValue());
  if (!may_fold) return;
  arguments.push_back(folded ? c10::IValue(floats(draw, {width})) : c10::IValue());
  arguments.push_back(folded ? maybe(draw, floats(draw, {width})) : c10::IValue());
}

Call token_quantize(Draw& draw) {
  const std::int64_t width = draw.size(80);
  Call call{"token_quantize", {floats(draw, {draw.size(20), width})}};
  add_grids(draw, width, true, call.arguments);
  return call;
}

Call group_quantize(Draw& draw) {
  Call call{"group_quantize", {floats(draw, {draw.size(20), draw.size(80)}), draw.size(40)}};
  add_grids(draw, 1, false, call.arguments);
  return call;
}

Call group_codes(Draw& draw) {
  Call call = group_quantize(draw);
  call.name = "group_codes";
  return call;
}

Call norm_group_codes(Draw& draw) {
  const std::int64_t width = draw.size(80);
  Call call{"norm_group_codes",
            {floats(draw, {draw.size(20), width}), floats(draw, {width}), floats(draw, {width}),
             1e-6, draw.coin(), draw.size(40)}};
  add_grids(draw, 1, false, call.arguments);
  return call;
}

/// Of a whole number of steps of the packed weight.
std::int64_t whole_group(Draw& draw, std::int64_t bits) {
  return draw.size(12) * (bits <= 4 ? 8 : 4);
}

at::Tensor group_scale(Draw& draw, std::int64_t channels, std::int64_t groups) {
  return draw.coin() ? floats(draw, {channels}) : floats(draw, {channels, groups});
}

Call pack_group_weight(Draw& draw) {
  const std::int64_t channels = draw.size(80), columns = draw.size(80), bits = some_bits(draw);
  const std::int64_t group = whole_group(draw, bits), groups = (columns + group - 1) / group;
  return {"pack_group_weight",
          {stored_codes(draw, channels, columns, bits), group_scale(draw, channels, groups), bits,
           columns, group, bits <= 4 ? maybe(draw, values(draw, {16}, at::kChar)) : c10::IValue()}};
}

Call group_linear(Draw& draw) {
  const Call packing = pack_group_weight(draw);
  const at::Tensor& codes = packing.arguments[0].toTensor();
  const std::int64_t bits = packing.arguments[2].toInt(), columns = packing.arguments[3].toInt(),
                     group = packing.arguments[4].toInt(), channels = codes.size(0);
  const auto [weight, scale] =
      ops::pack_group_weight_cpu(codes, packing.arguments[1].toTensor(), bits, columns, group,
                                 packing.arguments[5].toOptional<at::Tensor>());
  const std::int64_t rows = draw.size(8);
  return {
      "group_linear",
      {bytes(draw, {rows, columns}), floats(draw, {rows, (columns + group - 1) / group, 2}), weight,
       scale, floats(draw, {padded(channels)}), channels, columns, bits, group, draw.below(6)}};
}

Call norm_tokens(Draw& draw) {
  const std::int64_t width = draw.size(80);
  const bool both = draw.coin();
  Call call{both ? "norm_and_tokens" : "norm_tokens",
            {floats(draw, {draw.size(20), width}), floats(draw, {width}), floats(draw, {width}),
             1e-6, draw.coin()}};
  add_grids(draw, width, both, call.arguments);
  return call;
}

Call windows(Draw& draw) {
  const std::int64_t axes = draw.size(2);
  Sizes shape{draw.size(2)};
  for (std::int64_t i = 0; i < axes; ++i) shape.push_back(draw.size(9));
  shape.push_back(draw.size(9));
  const auto each = [&](std::int64_t least, std::int64_t most) {
    Sizes sizes;
    for (std::int64_t i = 0; i < axes; ++i) sizes.push_back(least + draw.below(most));
    return sizes;
  };
  const bool of_bytes = draw.coin();
  return {"windows",
          {values(draw, shape, of_bytes ? at::kByte : at::kFloat), each(0, 3), each(0, 3),
           each(1, 3), each(1, 3), each(1, 2), 0.0}};
}

Call patches(Draw& draw) {
  return {"patches",
          {floats(draw, {draw.size(2), draw.size(3), draw.size(4), draw.size(4), draw.size(4),
                         draw.size(4)})}};
}

Call attention(Draw& draw) {
  const std::int64_t heads = draw.size(3), queries = draw.size(20), keys = draw.size(20),
                     width = draw.size(40), values_width = draw.size(40), code = draw.below(3);
  const Sizes grid = draw.coin() ? Sizes{1} : Sizes{heads, 1, 1};
  const bool scaled = draw.coin();
  const auto of_head = [&](std::int64_t length, std::int64_t size) {
    return values(draw, {2, heads, length, size}, at::kChar);
  };
  const auto whole = [&] { return values(draw, grid, at::kInt); };
  return {"attention",
          {of_head(queries, width), of_head(keys, width), of_head(keys, values_width),
           maybe(draw, floats(draw, {queries, keys})), whole(), whole(), floats(draw, grid),
           floats(draw, grid), 0.5, floats(draw, grid), floats(draw, grid), code,
           static_cast<double>(draw.size(2)), code == 0 ? draw.size(15) : draw.size(255),
           draw.coin(), draw.coin() ? draw.size(255) : 0, draw.coin(),
           scaled ? c10::IValue(floats(draw, {2, heads, queries, 1})) : c10::IValue(),
           scaled ? c10::IValue(floats(draw, {2, heads, keys, 1})) : c10::IValue()}};
}

Call operand_rows(Draw& draw) {
  const at::Tensor x = floats(draw, {2, draw.size(3), draw.size(9), draw.size(40)});
  return {"operand_rows", {draw.coin() ? x : x.transpose(1, 2), 2 + draw.below(7)}};
}

Call depthwise(Draw& draw) {
  const std::int64_t axes = draw.size(2), channels = draw.size(40), blocks = (channels + 15) / 16;
  Sizes shape{draw.size(2)}, kernel, stride, padding, dilation;
  std::int64_t taps = 1;
  for (std::int64_t i = 0; i < axes; ++i) {
    shape.push_back(draw.size(9));
    kernel.push_back(draw.size(3));
    stride.push_back(draw.size(3));
    padding.push_back(draw.below(3));
    dilation.push_back(draw.size(2));
    taps *= kernel.back();
  }
  shape.push_back(channels);
  const Sizes lanes{16 * blocks};
  const std::int64_t form = draw.below(3);  // floats on a grid, codes, floats as they are
  const auto grid = [&](bool given) {
    return given ? c10::IValue(floats(draw, lanes)) : c10::IValue();
  };
  Call call{
      "depthwise",
      {values(draw, shape, form == 1 ? at::kByte : at::kFloat), floats(draw, {blocks, taps, 16}),
       floats(draw, lanes), floats(draw, lanes), grid(form == 0), grid(form != 2), draw.size(255),
       kernel, stride, padding, dilation, draw.below(6)}};
  if (draw.coin()) {
    call.name = "depthwise_tokens";
    add_grids(draw, channels, true, call.arguments);
  }
  return call;
}

constexpr std::array kCalls{&pack_weight,      &pack_weight_only,   &linear,         &linear_tokens,
                            &linear_side,      &weight_only_linear, &quantize,       &norm_quantize,
                            &token_quantize,   &norm_tokens,        &windows,        &patches,
                            &attention,        &quantize_heads,     &cache,          &operand_rows,
                            &depthwise,        &grouped_linear,     &group_quantize, &group_codes,
                            &norm_group_codes, &pack_group_weight,  &group_linear};

/// The tensor in another shape, type or layout, or with values that it should not have.
at::Tensor forged(Draw& draw, const at::Tensor& tensor) {
  const std::int64_t axis = tensor.dim() > 0 ? draw.below(tensor.dim()) : -1;
  constexpr std::array kTypes{at::kByte,  at::kChar,   at::kInt,  at::kLong,
                              at::kFloat, at::kDouble, at::kHalf, at::kBool};
  switch (draw.below(12)) {
    case 0:
      return tensor.to(kTypes[static_cast<std::size_t>(draw.below(std::ssize(kTypes)))]);
    case 1:
      return axis < 0 ? tensor : tensor.narrow(axis, 0, tensor.size(axis) - 1);
    case 2:
      return axis < 0 ? tensor : at::cat({tensor, tensor}, axis);
    case 3:
      return axis < 0 ? tensor : tensor.narrow(axis, 0, 0);
    case 4:
      return tensor.unsqueeze(0);
    case 5:
      return tensor.flatten();
    case 6:
      return axis < 0 ? tensor : tensor.transpose(0, axis);
    case 7:  // every other element
      return axis < 0 ? tensor : at::cat({tensor, tensor}, axis).slice(axis, 0, {}, 2);
    case 8:
      return tensor.is_floating_point()
                 ? at::full_like(tensor, std::numeric_limits<float>::quiet_NaN())
                 : at::full_like(tensor, draw.coin() ? 127 : 0);
    case 9:
      return tensor.is_floating_point() ? tensor * 1e38 : tensor.bitwise_not();
    case 10:
      return axis < 0 ? tensor : tensor.select(axis, 0).unsqueeze(axis).expand_as(tensor);
    default:
      return at::Tensor();
  }
}

std::int64_t forged(Draw& draw, std::int64_t number) {
  using Limits = std::numeric_limits<std::int32_t>;
  if (number > Limits::max() || number < Limits::min()) return 0;  // forged already
  const std::array<std::int64_t, 12> instead{number + 1,
                                             number - 1,
                                             -number,
                                             2 * number,
                                             0,
                                             -1,
                                             255,
                                             256,
                                             Limits::max(),
                                             Limits::min(),
                                             std::int64_t{1} << 32,
                                             std::numeric_limits<std::int64_t>::max()};
  return instead[static_cast<std::size_t>(draw.below(std::ssize(instead)))];
}

c10::IValue forged(Draw& draw, const c10::IValue& value) {
  if (value.isTensor()) return forged(draw, value.toTensor());
  if (value.isInt()) return forged(draw, value.toInt());
  if (value.isBool()) return !value.toBool();
  if (value.isDouble()) {
    constexpr std::array kInstead{0.0, -1.0, 1e300, std::numeric_limits<double>::quiet_NaN()};
    return kInstead[static_cast<std::size_t>(draw.below(std::ssize(kInstead)))];
  }
  if (value.isIntList()) {
    Sizes sizes = value.toIntVector();
    if (draw.below(4) == 0) sizes.push_back(1);
    if (draw.below(4) == 0 && !sizes.empty()) sizes.pop_back();
    if (!sizes.empty()) {
      auto& one = sizes[static_cast<std::size_t>(draw.below(std::ssize(sizes)))];
      one = forged(draw, one);
    }
    return sizes;
  }
  return draw.coin() ? c10::IValue(floats(draw, {draw.size(80)})) : value;  // none
}

}  // namespace

void fuzz_operators(Input input) {
  // Most calls are refused: stacks of these errors would take nearly all of the time.
  static const bool kQuick = [] {
    c10::SetStackTraceFetcher([] { return std::string(); });
    return true;
  }();
  static_cast<void>(kQuick);
  Draw draw(input);
  const auto known = ops::cpu_levels();
  ops::set_cpu_level(known[static_cast<std::size_t>(draw.below(std::ssize(known)))]);
  try {
    Call call = kCalls[static_cast<std::size_t>(draw.below(std::ssize(kCalls)))](draw);
    for (std::int64_t changes = draw.below(4); changes > 0; --changes) {
      auto& argument =
          call.arguments[static_cast<std::size_t>(draw.below(std::ssize(call.arguments)))];
      argument = forged(draw, argument);
    }
    const auto op =
        c10::Dispatcher::singleton().findSchemaOrThrow(("repquant::" + call.name).c_str(), "");
    op.callBoxed(call.arguments);
  } catch (const std::exception&) {
    // Operators refuse what they are given; what must not happen ends the process.
  }
}

}  // namespace repquant::fuzz
