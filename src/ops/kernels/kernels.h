// The integer kernels behind the operators: plain pointers in, plain pointers out, no LibTorch but
// in library_product.cpp.
//
// One source (norm.h, linear.h, group_linear.h, weight_only.h, ..) is compiled for several
// instruction sets over a thin layer of 16-lane vectors (vector_*.h). Sums run in the same order,
// and multiply-adds are fused or not in the same places, so every level gives the same bits.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "ops/kernels/plane.h"

namespace repquant::ops {

/// Instruction sets, rising. kGeneric is plain C++ and runs everywhere; kOneDnn is kAvx512Vnni with
/// the products of Linears by LibTorch's library, which has AMX.
enum class CpuLevel { kGeneric = 0, kAvx2 = 1, kAvx512Vnni = 2, kOneDnn = 3 };

enum class Activation { kNone = 0, kRelu = 1, kGelu = 2, kGeluTanh = 3, kSilu = 4, kHardswish = 5 };
inline constexpr std::int64_t kActivations = 6;

enum class Output { kFloat = 0, kOperandCodes = 1, kProductCodes = 2 };

/// Weights are packed in panels of this many output channels.
inline constexpr std::int64_t kPanel = 64;
/// Rows of a call up to which nibbles are unpacked in registers (memory-bound: the weight is read
/// once), above into a buffer that many rows share.
inline constexpr std::int64_t kFewRows = 8;

/// Rows of norms and token grids that are done together, one step for all of them after the other:
/// done one by one, a row would wait for its own sums.
inline constexpr int kRowsTogether = 16;
/// Groups of columns whose ends are found together, a lane for each.
inline constexpr int kGroupsTogether = 16;

struct NormArgs {
  const float* x = nullptr;  // [rows, width]
  const float* weight = nullptr;
  const float* bias = nullptr;    // [width]
  std::uint8_t* codes = nullptr;  // [rows, width]
  std::int64_t width = 0;
  float epsilon = 0;
  int max_code = 255;
  bool root_mean_square = false;  // RMSNorm: the mean is not subtracted
};

/// code = clamp(round(x m + a), 0, max_code) - shift; quadratic: round(sqrt(clamp(.., max^2)))^2.
struct QuantizeArgs {
  const float* x = nullptr;  // [rows, width]
  std::uint8_t* codes = nullptr;
  std::int64_t width = 0;
  const float* multiplier = nullptr;  // [width], or [1] if !per_channel
  const float* offset = nullptr;
  bool per_channel = false;
  bool quadratic = false;
  int max_code = 255;
  int shift = 0;
};

/// Codes on a grid of each row's own; see the schema of token_quantize. Of a norm's output if it
/// has a weight, scaled by channels if it has a multiplier.
struct TokenArgs {
  const float* x = nullptr;       // [rows, width]
  std::uint8_t* codes = nullptr;  // [rows, width]
  float* rows = nullptr;          // [rows, 2]: low, step
  std::int64_t width = 0;
  int top = 255;
  const std::uint8_t* levels = nullptr;  // [level_count], rising; or null: the codes themselves
  int level_count = 0;
  const float* weight = nullptr;  // [width]: of the norm, or null
  const float* bias = nullptr;    // [width]
  float epsilon = 0;
  bool root_mean_square = false;
  float* normal = nullptr;            // [rows, width]: where the norm's output is kept, or null
  const float* multiplier = nullptr;  // [width], or null
  const float* offset = nullptr;      // [width], with it; or null
};

/// Grids of groups of columns: values on them, or the codes; see the schemas of group_quantize and
/// group_codes. Of a norm's output if it has a weight.
struct GroupArgs {
  const float* x = nullptr;       // [rows, width]
  float* out = nullptr;           // [rows, width]; or
  std::uint8_t* codes = nullptr;  // [rows, width]
  float* grids = nullptr;         // [rows, groups(), 2], with codes: low, step
  std::int64_t width = 0;
  std::int64_t group_size = 0;  // at most width
  int top = 255;
  const std::uint8_t* levels = nullptr;  // as TokenArgs
  int level_count = 0;
  const float* weight = nullptr;  // [width]: of the norm, or null
  const float* bias = nullptr;    // [width]
  float epsilon = 0;
  bool root_mean_square = false;

  std::int64_t groups() const { return (width + group_size - 1) / group_size; }
  /// Working memory, in floats: rows after the norm, or codes that become values.
  std::int64_t scratch() const {
    return weight == nullptr ? kGroupsTogether * group_size : kRowsTogether * width;
  }
};

/// Bytes of a row's grid, float32 low and step, behind its codes.
inline constexpr std::int64_t kGridBytes = 8;

/// Rows of kept codes, to float32 or on to operand codes; see the schemas of cache_dequantize and
/// cache_operand.
struct CacheArgs {
  const std::uint8_t* codes = nullptr;  // [rows, width + kGridBytes]
  std::int64_t width = 0;
  float* values = nullptr;  // [rows, width]; or
  std::uint8_t* operands = nullptr;
  std::int64_t tokens = 1, heads = 1;  // row / tokens % heads is a row's head
  const float* multiplier = nullptr;   // [heads, width], [heads] or [1]
  const float* offset = nullptr;
  std::int64_t grid_head = 0;  // from one head to the next
  bool per_channel = false;
  int max_code = 255;
  int shift = 0;
};

/// y = activation((x - z) w^T scale + bias + side), then one of the outputs.
/// Arrays over output channels are padded to whole panels.
struct LinearArgs {
  const std::uint8_t* x = nullptr;  // [rows, 4 groups]: codes, zero-padded
  std::int64_t groups = 0;          // of four inputs; even if the weight is in nibbles
  const std::uint8_t* weight = nullptr;
  const std::int8_t* levels = nullptr;         // [16]: what its nibbles stand for; null: bytes
  std::int64_t channels = 0;                   // N, not padded
  const std::int32_t* compensation = nullptr;  // z times the channel's sum of weights
  const float* scale = nullptr;
  const float* bias = nullptr;
  const float* rows = nullptr;  // [rows, 2]: low and step of each row's grid, or null
  const float* sums = nullptr;  // with it: sums of the dequantized weight's rows
  Activation activation = Activation::kNone;
  Output output = Output::kFloat;
  const float* residual = nullptr;     // kFloat: [rows, channels], added last; may be null
  bool residual_far = false;           // it does not lie in the second-level cache
  const float* side = nullptr;         // kFloat: [rows, side_count], centred codes
  const float* side_weight = nullptr;  // [side_count, padded channels]
  std::int64_t side_count = 0;
  const float* multiplier = nullptr;  // kProductCodes: u = round(y multiplier + offset)
  const float* offset = nullptr;
  int low = 0, high = 255;  // range of the codes (quadratic: of q, before it is squared)
  bool quadratic = false;   // kProductCodes: emits round(sqrt(clamp(u, 0, high^2)))^2
  void* out = nullptr;      // float32, int8 or uint8 [rows, channels]
};

/// Bytes that a panel of the packed weight takes.
inline std::int64_t panel_bytes(std::int64_t groups, bool nibbles) {
  return groups * kPanel * (nibbles ? 2 : 4);
}

/// Columns of a panel that group_linear() unpacks at a time for many rows, if a group has no more:
/// they stay in the second-level cache.
inline constexpr std::int64_t kGroupColumns = 1024;

/// y = activation(sum over groups of columns of step (scale sum of products) + low sums, + bias) of
/// codes on grids of groups. Arrays over output channels are padded to whole panels.
struct GroupLinearArgs {
  const std::uint8_t* x = nullptr;  // [rows, 4 quads]: codes, zero-padded
  const float* grids = nullptr;     // [rows, groups(), 2]: low, step
  std::int64_t quads = 0;           // of columns; even if the weight is in nibbles
  std::int64_t group_quads = 0;     // of a group, as quads; the last group is what is left
  const std::uint8_t* weight = nullptr;
  const std::int8_t* levels = nullptr;  // as LinearArgs
  std::int32_t padding = 0;             // what a row's padding adds to the sum of its weights
  const float* scale = nullptr;         // [panels, groups(), kPanel]
  std::int64_t channels = 0;            // N, not padded
  const float* bias = nullptr;
  Activation activation = Activation::kNone;
  const float* residual = nullptr;  // [rows, channels], added last; may be null
  float* out = nullptr;             // [rows, channels]

  std::int64_t groups() const { return (quads + group_quads - 1) / group_quads; }
  /// Of the groups that are unpacked at a time.
  std::int64_t block_quads() const {
    constexpr std::int64_t kMost = kGroupColumns / 4;
    return group_quads < kMost ? kMost / group_quads * group_quads : group_quads;
  }
  std::int64_t unpacked_bytes() const { return 4 * block_quads() * kPanel; }
  /// Working memory, in bytes: unpacked weights and sums of weights in float32.
  std::int64_t scratch() const {
    return unpacked_bytes() + block_quads() / group_quads * 4 * kPanel;
  }
};

/// What weight_only() adds to weights: unsigned bytes are pairs of 16-bit numbers in one step.
inline constexpr std::int32_t kWeightOffset = 128;

/// Of a chunk of a row's inputs (weight_only_layout.h): x = step q. `offset` is -kWeightOffset
/// times the sum of q.
struct InputChunk {
  float step = 0.0F;
  std::int32_t offset = 0;
};

/// Inputs of weight_only, rounded to 16 bits.
struct WeightOnlyInputs {
  const float* x = nullptr;  // [rows, columns]
  std::int64_t columns = 0, group_size = 0;
  std::int16_t* out = nullptr;   // [rows, stride], each chunk padded with zeros to whole steps
  std::int64_t stride = 0;       // has room for 16 more
  InputChunk* chunks = nullptr;  // [rows, chunks]
};

/// y = activation(x w^T + bias), the weight w being codes times a scale for each group of columns.
/// weight_only_layout.h says how weight and input are arranged.
struct WeightOnlyArgs {
  const std::int16_t* x = nullptr;  // [rows, stride]
  std::int64_t stride = 0;
  const InputChunk* chunks = nullptr;  // [rows, chunks]
  const std::uint8_t* weight = nullptr;
  const std::uint8_t* levels = nullptr;      // [16]: what nibbles stand for, + kWeightOffset
  const float* scale = nullptr;              // [panels, groups, kPanel]
  std::int64_t columns = 0, group_size = 0;  // group_size 0: the whole row
  std::int64_t channels = 0;                 // N, not padded
  const float* bias = nullptr;               // padded to whole panels
  Activation activation = Activation::kNone;
  float* out = nullptr;  // [rows, channels]
};

/// Columns of a panel that weight_only() unpacks at a time for many rows.
inline constexpr std::int64_t kUnpackedColumns = 256;

/// Working memory of weight_only, in bytes: sums in float32 and unpacked weights in 16 bits.
inline std::int64_t weight_only_scratch(std::int64_t rows) {
  return (4 * rows + 2 * kUnpackedColumns) * kPanel;
}

/// y = activation(sum over the window of (code - z) w, times scale, + bias) for each channel by
/// itself. Arrays over channels are padded with zeros to whole blocks of 16.
struct DepthwiseArgs {
  const float* x = nullptr;  // [images, plane.size.., channels]; or
  const std::uint8_t* codes = nullptr;
  std::int64_t channels = 0;
  Plane plane;
  const float* weight = nullptr;  // [blocks, kernel.., 16]
  const float* scale = nullptr;
  const float* bias = nullptr;
  const float* zero_point = nullptr;  // null: x itself
  const float* multiplier = nullptr;  // of x: code = clamp(round(x m + z), 0, max_code)
  int max_code = 255;
  Activation activation = Activation::kNone;
  float* out = nullptr;               // [images, plane.grid.., channels]; or
  const TokenArgs* tokens = nullptr;  // codes of each pixel on a grid of its own

  std::int64_t blocks() const { return (channels + 15) / 16; }
  /// Of the image that a row of the output reads, in floats.
  std::int64_t image_scratch() const {
    return blocks() * (plane.reach() + 1) * plane.padded_width() * 16;
  }
  /// Of a row before it becomes codes, in floats.
  std::int64_t row_scratch() const { return blocks() * plane.grid[1] * 16; }
  std::int64_t scratch() const {
    const std::int64_t row = row_scratch() + kRowsTogether * blocks() * 16;
    return image_scratch() + (tokens == nullptr ? 0 : row);
  }
};

/// How codes of exp(score - row maximum) become integer weights (quantizer/log.h).
enum class SoftmaxCode {
  kLog = 0,      // 2^(-c / steps), steps 1 or 2, c <= 15: two planes of powers of two
  kTable = 1,    // round(255 2^(-c / steps))
  kUniform = 2,  // round(max_code exp(..))
};

/// Elements, not bytes. The innermost dimension is contiguous.
struct Strides {
  std::int64_t batch = 0, head = 0, row = 0;
};

/// int8 codes on a scale of each row's own; see the schema of operand_rows.
struct OperandRowsArgs {
  const float* x = nullptr;  // [B, H, tokens, width]
  Strides strides;
  std::int64_t heads = 1, tokens = 1, width = 0;
  int top = 127;
  bool odd = false;
  std::int8_t* codes = nullptr;  // [B, H, tokens, width]
  float* scale = nullptr;        // [B, H, tokens]
};

struct AttentionArgs {
  std::int64_t batches = 0, heads = 0, rows = 0, columns = 0;
  std::int64_t depth = 0, value_depth = 0;
  const std::int8_t* query = nullptr;  // [B, H, rows, depth]
  const std::int8_t* key = nullptr;    // [B, H, columns, depth]
  const std::int8_t* value = nullptr;  // [B, H, columns, value_depth]
  Strides query_strides, key_strides, value_strides;
  const std::int32_t* query_zero = nullptr;  // [H], relative to the int8 codes
  const std::int32_t* value_zero = nullptr;  // [H, value_depth padded to whole panels]
  std::int64_t value_zero_stride = 0;        // from one head to the next
  /// Scales of each query's and each key's codes, or both null; key scales follow each other.
  const float* query_scale = nullptr;
  const float* key_scale = nullptr;
  Strides query_scale_strides, key_scale_strides;
  /// With a mask or scales of tokens, scores are integers * score_scale (* those) + mask; without,
  /// the integers themselves.
  const float* mask = nullptr;
  Strides mask_strides;
  std::int64_t mask_column_stride = 0;  // 0 or 1
  const float* score_scale = nullptr;   // [H]
  const float* factor = nullptr;  // [H]: score - row maximum to code units (octaves, kUniform)
  SoftmaxCode code = SoftmaxCode::kLog;
  float steps = 2;
  int max_code = 15;
  bool zero_code = true;
  const float* multiplier = nullptr;                       // of the output, by head and channel
  std::int64_t multiplier_head = 0, multiplier_depth = 0;  // strides, 0 where it does not vary
  const float* offset = nullptr;
  std::int64_t offset_head = 0, offset_depth = 0;
  int output_max_code = 0;  // > 0: uint8 codes round(y multiplier + offset); 0: float32
  void* out = nullptr;      // [B, H, rows, value_depth]
  Strides out_strides;
};

/// Working memory of the attention kernel, in bytes.
std::int64_t attention_scratch(const AttentionArgs& args);

/// One table of functions per level. Ranges let callers split work over threads.
struct Kernels {
  void (*norm_quantize)(const NormArgs&, std::int64_t row_begin, std::int64_t row_end);
  void (*quantize)(const QuantizeArgs&, std::int64_t row_begin, std::int64_t row_end);
  /// `scratch`: kRowsTogether width floats, 64-byte aligned; used with a norm or a multiplier.
  void (*token_quantize)(const TokenArgs&, std::int64_t row_begin, std::int64_t row_end,
                         float* scratch);
  /// `scratch`: 4 groups * kPanel bytes, 64-byte aligned; used for nibbles and more than kFewRows.
  void (*linear)(const LinearArgs&, std::int64_t row_begin, std::int64_t row_end,
                 std::int64_t panel_begin, std::int64_t panel_end, std::uint8_t* scratch);
  void (*round_inputs)(const WeightOnlyInputs&, std::int64_t row_begin, std::int64_t row_end);
  /// `scratch`: weight_only_scratch() bytes, 64-byte aligned.
  void (*weight_only)(const WeightOnlyArgs&, std::int64_t row_begin, std::int64_t row_end,
                      std::int64_t panel_begin, std::int64_t panel_end, std::uint8_t* scratch);
  /// `scratch`: args.scratch() bytes, 64-byte aligned.
  void (*group_linear)(const GroupLinearArgs&, std::int64_t row_begin, std::int64_t row_end,
                       std::int64_t panel_begin, std::int64_t panel_end, std::uint8_t* scratch);
  /// Heads are numbered batch * heads + head.
  void (*attention)(const AttentionArgs&, std::int64_t begin, std::int64_t end,
                    std::uint8_t* scratch);
  /// Rows of the output, those of all images; `scratch`: args.scratch() floats, 64-byte aligned.
  void (*depthwise)(const DepthwiseArgs&, std::int64_t row_begin, std::int64_t row_end,
                    float* scratch);
  void (*operand_rows)(const OperandRowsArgs&, std::int64_t row_begin, std::int64_t row_end);
  /// `scratch`: args.scratch() floats, 64-byte aligned. A norm's output becomes codes only.
  void (*group_quantize)(const GroupArgs&, std::int64_t row_begin, std::int64_t row_end,
                         float* scratch);
  void (*read_cache)(const CacheArgs&, std::int64_t row_begin, std::int64_t row_end);
  /// y = activation(x), in place.
  void (*activate)(Activation, float* x, std::int64_t count);
};

/// Every level that there is, rising.
inline constexpr std::array kKnownLevels{CpuLevel::kGeneric, CpuLevel::kAvx2, CpuLevel::kAvx512Vnni,
                                         CpuLevel::kOneDnn};

/// Those that this processor has, rising.
std::vector<CpuLevel> available_levels();

/// The kernels of a level that this processor has.
const Kernels& kernels(CpuLevel level);

/// The level in use: the highest available (kOneDnn only with AMX: without it, kAvx512Vnni finishes
/// a tile beside the next one's products), or the one that the environment variable
/// REPQUANT_CPU_LEVEL names. Throws std::invalid_argument, naming the levels that there
/// are, if it says anything else.
CpuLevel current_level();

/// Uses `level`, or the highest available one below it.
void set_level(CpuLevel level);

const char* level_name(CpuLevel level);

}  // namespace repquant::ops
