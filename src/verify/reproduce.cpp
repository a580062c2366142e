#include "verify/reproduce.h"

#include <stdlib.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/version.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "archive/zip_reader.h"
#include "base/json_text.h"
#include "base/sha256.h"
#include "base/temporary_path.h"
#include "format/names.h"
#include "pipeline/calibration_cache.h"
#include "recipe/json.h"
#include "repquant/error.h"
#include "repquant/version.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;

/// A folder of its own.
fs::path make_scratch_folder() {
  std::string name = (fs::temp_directory_path() / "repquant-verify-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) {
    throw Error(ErrorKind::kFile, {.what = "cannot make a temporary folder",
                                   .where = name,
                                   .got = std::strerror(errno),
                                   .hint = "set TMPDIR to a folder with room for the artifact"});
  }
  return name;
}

/// The description without how bits were chosen: the recipe holds what came of it.
Json description_of(const ZipReader& archive, const std::string& entry) {
  const auto bytes = archive.read(entry);
  Json json = Json::parse(bytes.begin(), bytes.end());
  json.erase("mixed");
  return json;
}

/// The first difference in words; empty if there is none but how bits were chosen.
std::string difference(const std::string& made, const std::string& given) {
  const ZipReader left(made), right(given);
  if (left.names() != right.names()) return "the entries of the archive";
  for (const auto& name : left.names()) {
    // It is a digest of all other entries.
    if (name.ends_with(".data/serialization_id")) continue;
    if (!name.ends_with(kArtifactFile)) {
      if (left.read(name) != right.read(name)) return "the entry " + name;
      continue;
    }
    const Json a = description_of(left, name), b = description_of(right, name);
    for (const auto& item : a.items()) {
      if (!b.contains(item.key()) || b[item.key()] != item.value()) {
        return "\"" + item.key() + "\" of the description";
      }
    }
    if (a.size() != b.size()) return "the keys of the description";
  }
  return "";
}

}  // namespace

void check_reproducible(const Subject& subject, const VerifyOptions& options) {
  if (options.reference.empty()) {
    throw Error(ErrorKind::kUsage, {.what = "nothing to quantize again",
                                    .where = "`reproduce`",
                                    .expected = "`reference`: the floating-point model"});
  }
  const auto* data = std::get_if<DataPath>(&options.calib);
  if (data != nullptr && data->path.empty()) {
    throw Error(ErrorKind::kUsage, {.what = "no calibration data to quantize again with",
                                    .where = "`reproduce`",
                                    .expected = "`calib`: " + subject.info.protocol});
  }
  const ArtifactInfo& info = subject.info;
  if (info.tool_version != kVersion || info.libtorch_version != TORCH_VERSION) {
    throw Error(
        ErrorKind::kUnsupported,
        {.what = "an artifact is reproduced by the version that wrote it",
         .where = subject.path,
         .expected = "repquant " + info.tool_version + " with LibTorch " + info.libtorch_version,
         .got = std::string("repquant ") + kVersion + " with LibTorch " + TORCH_VERSION});
  }
  if (info.bit_allocation && info.bit_allocation->held_back) {
    throw Error(ErrorKind::kUnsupported,
                {.what = "an artifact of `max_kl` is not reproduced: its search fitted other "
                         "samples than its recipe alone would",
                 .where = subject.path});
  }
}

std::string look_at_reproduction(const Subject& subject, const VerifyOptions& options,
                                 const Observer& observer) {
  QuantizeOptions quantization;
  const TemporaryPath folder(make_scratch_folder());
  quantization.model = options.reference;
  quantization.output = (folder.path() / "again.pt").string();
  quantization.recipe = parse_recipe(subject.info.recipe, "recipe of the artifact").recipe;
  quantization.calib = options.calib;
  quantization.preset = options.preset;
  quantization.threads = options.threads;
  quantization.trust = options.trust;
  CalibrationCache cache;
  cache.open({.samples = options.calib,
              .preset_file = options.preset,
              .model = options.reference,
              .threads = options.threads});
  const ModelSignature signature{subject.info.inputs, subject.info.inputs.size(),
                                 find_past(subject.path)};
  const std::string hash = cache.load(quantization.recipe.calibration, signature, observer).hash;
  if (hash != subject.info.calibration_hash) {
    refute("the artifact was calibrated on data with SHA-256 " + subject.info.calibration_hash +
           ", but these have " + hash);
  }
  quantize(quantization, observer, cache);
  const std::string made = sha256_of_file(quantization.output);
  const std::string given = sha256_of_file(subject.path);
  if (made == given) return "quantizing again gives the same bytes, SHA-256 " + made;
  const std::string where = difference(quantization.output, subject.path);
  if (where.empty() && subject.info.bit_allocation) {
    return "quantizing again gives the same bytes but for how its bits were chosen, which the "
           "recipe holds site by site";
  }
  refute("quantizing again gives other bytes: " + (where.empty() ? "the archive's own" : where) +
         " differ");
}

}  // namespace repquant
