#include "fit/checkpoint.h"

#include <c10/util/Exception.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/sha256.h"
#include "plan/serialize.h"
#include "repquant/error.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kVersion = 1;
constexpr std::size_t kDigest =
    64;  // SHA-256 in hexadecimal, before the content that it belongs to

fs::path file_of(const std::string& workdir, std::size_t index) {
  std::string number = std::to_string(index);
  number.insert(0, number.size() < 4 ? 4 - number.size() : 0, '0');
  return fs::path(workdir) / ("site_" + number + ".pt");
}

[[noreturn]] void damaged(const fs::path& file) {
  throw Error(ErrorKind::kFile, {.what = "a checkpoint file is damaged",
                                 .where = file.string(),
                                 .hint = "delete the work folder and start again"});
}

}  // namespace

void append_checkpoint(const std::string& workdir, const std::string& fingerprint,
                       std::size_t index, const SitePlan& plan) {
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
  // LibTorch follows sizes that a damaged file states: nothing is parsed that has not this digest.
  const auto digest = sha256_of({bytes.data(), bytes.size()});
  const auto target = file_of(workdir, index);
  const auto temporary = fs::path(target.string() + ".tmp");
  {
    std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
    file << digest;
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (!file.flush()) {
      fs::remove(temporary, ec);
      fail("write failed");
    }
  }
  // Reading ends at a gap, so that plans of an older run in this folder are not taken for ours.
  fs::remove(file_of(workdir, index + 1), ec);
  fs::rename(temporary, target, ec);
  if (ec) fail(ec.message());
}

SweepState read_checkpoint(const std::string& workdir, const std::string& fingerprint) {
  SweepState state{fingerprint, {}};
  for (std::size_t index = 0;; ++index) {
    const auto path = file_of(workdir, index);
    std::ifstream file(path, std::ios::binary);
    if (!file) return state;
    const std::string content{std::istreambuf_iterator<char>(file), {}};
    const std::string bytes = content.substr(std::min(kDigest, content.size()));
    if (content.substr(0, kDigest) != sha256_of(bytes)) damaged(path);
    try {
      const auto value = torch::jit::pickle_load({bytes.begin(), bytes.end()});
      const auto& parts = value.toTupleRef().elements();
      if (parts.size() != 3 || parts[0].toInt() != kVersion) damaged(path);
      if (parts[1].toStringRef() != fingerprint) {
        throw Error(ErrorKind::kUsage, {.what = "the checkpoint belongs to another run",
                                        .where = workdir,
                                        .expected = "the same model, calibration data and recipe",
                                        .hint = "use another `workdir`, or run without `resume`"});
      }
      state.plans.push_back(plan_from_ivalue(parts[2]));
    } catch (const Error&) {
      throw;
    } catch (const std::exception&) {
      damaged(path);
    }
  }
}

}  // namespace repquant
