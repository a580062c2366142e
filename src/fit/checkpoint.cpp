#include "fit/checkpoint.h"

#include <c10/util/Exception.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <filesystem>

#include "base/digested_file.h"
#include "plan/serialize.h"
#include "repquant/error.h"
#include "tensor/current_error.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kVersion = 1;

fs::path file_of(const std::string& workdir, std::size_t index) {
  std::string number = std::to_string(index);
  number.insert(0, number.size() < 4 ? 4 - number.size() : 0, '0');
  return fs::path(workdir) / ("site_" + number + ".pt");
}

/// The plan in a file; nothing if it is damaged. LibTorch follows sizes that a damaged file states:
/// nothing is parsed that has not its digest.
std::optional<SitePlan> read_plan_file(const DigestedFile& file, const std::string& workdir,
                                       const std::string& fingerprint) {
  if (!file.bytes) return std::nullopt;
  try {
    const auto value = torch::jit::pickle_load({file.bytes->begin(), file.bytes->end()});
    const auto& parts = value.toTupleRef().elements();
    if (parts.size() != 3 || parts[0].toInt() != kVersion) return std::nullopt;
    if (parts[1].toStringRef() != fingerprint) {
      throw Error(ErrorKind::kUsage, {.what = "the checkpoint belongs to another run",
                                      .where = workdir,
                                      .expected = "the same model, calibration data and recipe",
                                      .hint = "use another `workdir`, or run without `resume`"});
    }
    return plan_from_ivalue(parts[2]);
  } catch (const Error&) {
    throw;
  } catch (const std::exception&) {
    rethrow_if_out_of_memory(workdir);
    return std::nullopt;
  }
}

}  // namespace

void append_checkpoint(const std::string& workdir, const std::string& fingerprint,
                       std::size_t index, const SitePlan& plan, CheckpointEnd end) {
  const auto fail = [&](const std::string& got) {
    throw Error(ErrorKind::kFile, {.what = "the checkpoint cannot be written",
                                   .where = workdir,
                                   .got = got,
                                   .hint = "choose another `workdir`"});
  };
  std::error_code ec;
  fs::create_directories(workdir, ec);
  if (ec) fail(ec.message());
  const auto bytes =
      torch::jit::pickle_save(c10::ivalue::Tuple::create({kVersion, fingerprint, to_ivalue(plan)}));
  // Reading ends at a gap, so that plans of an older run in this folder are not taken for ours.
  if (end == CheckpointEnd::kHere) fs::remove(file_of(workdir, index + 1), ec);
  try {
    write_digested(file_of(workdir, index), {bytes.data(), bytes.size()});
  } catch (const Error& e) {
    fail(e.parts().got);
  }
}

bool has_checkpoint(const std::string& workdir) {
  std::error_code none;
  return fs::exists(file_of(workdir, 0), none);
}

FitState read_checkpoint(const std::string& workdir, const std::string& fingerprint) {
  FitState state{.fingerprint = fingerprint, .plans = {}, .damaged = {}};
  for (std::size_t index = 0;; ++index) {
    const auto path = file_of(workdir, index);
    const std::optional<DigestedFile> file = read_digested(path);
    if (!file) return state;
    state.plans.push_back(read_plan_file(*file, workdir, fingerprint));
    if (!state.plans.back()) state.damaged.push_back(path.string());
  }
}

}  // namespace repquant
