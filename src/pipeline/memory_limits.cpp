#include "pipeline/memory_limits.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <system_error>

#include "base/memory.h"
#include "base/text_table.h"
#include "fit/memory_need.h"
#include "repquant/error.h"
#include "tensor/samples.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;

void require_room(const MemoryNeed& need, const char* hint) {
  const std::optional<MemoryRoom> room = memory_room();
  if (!room || need.bytes <= room->bytes) return;
  throw Error(ErrorKind::kResource,
              {.what = "this does not fit into memory",
               .where = "the limit " + room->limit,
               .expected = "at least " + format_bytes(static_cast<double>(need.bytes)) +
                           " more, for " + need.what,
               .got = format_bytes(static_cast<double>(room->bytes)),
               .hint = hint});
}

}  // namespace

SpillPlace spill_place(const std::string& workdir, const std::string& output) {
  const std::optional<MemoryRoom> room = memory_room();
  SpillPlace place;
  if (!workdir.empty()) {
    place.folder = workdir;
    if (room) place.least_bytes = std::min(place.least_bytes, room->bytes / 4);
  } else if (room) {
    place.folder = output.empty() ? fs::temp_directory_path().string()
                                  : fs::absolute(output).parent_path().string();
    place.least_bytes = room->bytes / 8;
  }
  return place;
}

void check_model_fits(const std::string& model) {
  std::error_code missing;  // what reads the file says so
  const auto bytes = fs::file_size(model, missing);
  if (missing) return;
  require_room({static_cast<std::int64_t>(bytes), "the weights of " + model},
               "allow more memory, or use a machine that has it");
}

void check_run_fits(const PreparedRun& run, const WeightRecipe& recipe) {
  // The largest: samples may differ in their shapes.
  const auto elements = [](const std::vector<at::Tensor>& inputs) {
    std::int64_t sum = 0;
    for (const at::Tensor& tensor : inputs) sum += tensor.numel();
    return sum;
  };
  const Batches& all = run.calibration.batches;
  const auto& batch = *std::max_element(all.begin(), all.end(), [&](const auto& a, const auto& b) {
    return elements(a) < elements(b);
  });
  const std::int64_t samples = run.any_number ? 1 : sample_count(batch);
  require_room(
      least_memory(
          run.model, run.search.sites, run.bits, recipe, samples_of(batch, 0, samples),
          {.in_batch = sample_count(batch) / samples, .in_all = run.calibration.samples / samples}),
      "use a smaller `batch_size`, `exclude` the site, or allow more memory");
}

}  // namespace repquant
