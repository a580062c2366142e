// What an artifact says about itself (its file repquant.json), and what it runs on this machine.
// No LibTorch types here.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "repquant/coverage.h"
#include "repquant/quantize.h"

namespace repquant {

/// Readers refuse another major version and ignore keys that they do not know.
inline constexpr int kArtifactMajorVersion = 1;
inline constexpr int kArtifactMinorVersion = 9;

/// In which form a site's input arrives.
enum class SiteInput {
  kNone,        // left in floating point
  kNorm,        // codes, written by the norm before it
  kActivation,  // codes, written by the Linear before it
  kAttention,   // codes, written by the attention product before it
  kOperands,    // int8 codes of an attention product's operands
  kQuantize,    // codes, made by a module of its own
  kFloat,       // floating point (weight-only)
  kIndices,     // indices of an embedding
};

/// In which form its output leaves.
enum class SiteOutput {
  kNone,             // left in floating point
  kFloat,            // floating point
  kOperandCodes,     // int8 codes of attention operands
  kProductCodes,     // u8 codes of the next Linear's input
  kIntegerProducts,  // attention scores as integers, which the softmax scales
};

/// As written in artifacts: "norm", "operand codes"; "" for kNone.
std::string name_of(SiteInput input);
std::string name_of(SiteOutput output);

/// Which submodules realise a site. Fused kernels replace them by it.
struct SiteModules {
  std::string module{};        // submodule that computes the site; empty: left in floating point
  std::string input_module{};  // submodule that makes its input codes; empty: they arrive as codes
  std::string side_module{};   // side columns; mostly empty
  std::string scale_module{};  // per-token input: multiplies by the rows' scales; else empty
  SiteInput input = SiteInput::kNone;
  SiteOutput output = SiteOutput::kNone;
};

/// A row of the site table.
struct ArtifactSite : SiteModules {
  SiteReport site{};
};

struct ArtifactInfo {
  int major_version = kArtifactMajorVersion;
  int minor_version = kArtifactMinorVersion;
  std::string tool_version;
  std::string libtorch_version;
  std::string model_hash;        // SHA-256 of the floating-point model's file
  std::string calibration_hash;  // SHA-256 over the calibration files
  std::string protocol;          // calibration data and preprocessing
  int samples = 0;
  bool synthetic = false;
  std::string recipe;  // the whole recipe as JSON
  std::string recipe_name;
  std::vector<std::string> inputs;  // names of forward()'s inputs
  Coverage coverage;
  std::optional<BitAllocationReport> bit_allocation;  // none: bits as the recipe says
  std::vector<ArtifactSite> sites;
  double fold_deviation = 0.0;
  double output_sqnr_db = 0.0;  // simulated against FP32, on the samples that were fitted
  std::optional<HeldBackReport> judgement;  // and on samples held back
  double lowered_sqnr_db = 0.0;             // integer module against the simulation
  double changed_codes = 0.0;               // largest share over all calls, 0..1
  /// Submodules that load() is to leave portable, and why; mostly empty.
  std::map<std::string, std::string> portable;
};

/// Reads an artifact's description. Throws Error kFile (not readable, damaged), kUnsupported (not
/// an artifact of repquant, or of another major version).
ArtifactInfo read_artifact(const std::string& path);

/// True if the file is an archive that repquant has written; nothing is loaded. False for files
/// that cannot be read.
bool is_artifact(const std::string& path);

/// How a site runs on this machine with the operators of stock LibTorch.
struct RuntimeSite {
  std::string path;
  std::string module;
  std::string op;        // for example "onednn::qlinear_pointwise u8 x s8"
  bool integer = false;  // its multiply-accumulates run in integer arithmetic
  std::int64_t macs = 0;
};

struct RuntimeReport {
  std::vector<RuntimeSite> sites;
  std::vector<std::string> float_products;  // linear, matmul, convolution left in forward()
  bool vnni = false;                        // u8 x s8 products do not saturate here
  double integer_share = 0.0;               // of the quantized sites' multiply-accumulates, 0..1
};

struct ArtifactReport {
  ArtifactInfo info;
  RuntimeReport runtime;
};

/// What a submodule does for its site.
enum class SitePart {
  kNone,         // belongs to no site of the table
  kSite,         // computes it
  kInputCodes,   // makes its input codes
  kSideColumns,  // adds its side columns
  kRowScales,    // multiplies by the scales of its rows
};

/// "site", "input codes", "side columns", "scales of rows"; "" for kNone.
std::string name_of(SitePart part);

/// How one submodule of an artifact, or a site that has none, runs when repquant::load() has loaded
/// it.
struct FusedSite {
  std::string path;    // of the site; of the first one if several share the submodule
  std::string module;  // empty: a site left in floating point
  SitePart part = SitePart::kNone;
  std::string op;
  bool fused = false;
  bool integer = false;  // its multiply-accumulates run in integer arithmetic
  std::string reason;    // why it is not fused; or what was fused into it
  std::int64_t macs = 0;
};

struct FusedReport {
  std::string cpu_level;         // instruction set of the fused operators, as in repquant/load.h
  std::vector<FusedSite> sites;  // in the order in which the graph calls them
  double fused_share = 0.0;      // of all sites' multiply-accumulates, in fused operators, 0..1
  double integer_share = 0.0;    // as RuntimeReport::integer_share, fused or not
};

/// Loads the artifact in its fused form and tells what runs where. `artifact`: of the same file.
/// `trust`: as LoadOptions::trust. Throws Error as load().
FusedReport inspect_fused(const std::string& path, const ArtifactReport& artifact,
                          bool trust = false);

/// Loads the artifact and reads off its modules and its graph what runs in integers.
/// `trust`: as LoadOptions::trust. Throws Error as read_artifact() and load().
ArtifactReport inspect_artifact(const std::string& path, bool trust = false);

}  // namespace repquant
