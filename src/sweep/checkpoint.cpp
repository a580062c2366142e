#include "sweep/checkpoint.h"

#include <c10/util/Exception.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "plan/serialize.h"
#include "repquant/error.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kVersion = 1;

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
                                   .hint = "choose another --workdir"});
  };
  std::error_code ec;
  fs::create_directories(workdir, ec);
  if (ec) fail(ec.message());
  const auto bytes =
      torch::jit::pickle_save(c10::ivalue::Tuple::create({kVersion, fingerprint, to_ivalue(plan)}));
  const auto target = file_of(workdir, index);
  const auto temporary = fs::path(target.string() + ".tmp");
  {
    std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (!file.flush()) {
      fs::remove(temporary, ec);
      fail("write failed");
    }
  }
  fs::rename(temporary, target, ec);
  if (ec) fail(ec.message());
}

SweepState read_checkpoint(const std::string& workdir, const std::string& fingerprint) {
  SweepState state{fingerprint, {}};
  for (std::size_t index = 0;; ++index) {
    const auto path = file_of(workdir, index);
    std::ifstream file(path, std::ios::binary);
    if (!file) return state;
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    try {
      const auto value = torch::jit::pickle_load(bytes);
      const auto& parts = value.toTupleRef().elements();
      if (parts.size() != 3 || parts[0].toInt() != kVersion) damaged(path);
      if (parts[1].toStringRef() != fingerprint) {
        throw Error(ErrorKind::kUsage, {.what = "the checkpoint belongs to another run",
                                        .where = workdir,
                                        .expected = "the same model, calibration data and recipe",
                                        .hint = "use another --workdir, or run without --resume"});
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
