#include "learn/state.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <filesystem>

#include "base/digested_file.h"
#include "repquant/error.h"
#include "tensor/current_error.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kVersion = 1;

fs::path file_in(const std::string& workdir) { return fs::path(workdir) / "learning.pt"; }

/// Nothing where the content is not what write_learn_state() writes, or of other sizes.
std::optional<LearnState> state_from(const c10::IValue& value,
                                     const std::vector<at::Tensor>& like) {
  const auto& parts = value.toTupleRef().elements();
  const auto tensors = parts.at(3).toTensorVector();
  if (tensors.size() != 3 * like.size()) return std::nullopt;
  LearnState state{.steps = static_cast<int>(parts.at(2).toInt()), .values = {}, .moments = {}};
  for (std::size_t i = 0; i < like.size(); ++i) {
    for (std::size_t k = 0; k < 3; ++k) {
      const at::Tensor& tensor = tensors[3 * i + k];
      if (tensor.scalar_type() != at::kFloat || tensor.sizes() != like[i].sizes()) return {};
    }
    state.values.push_back(tensors[3 * i]);
    state.moments.push_back({tensors[3 * i + 1], tensors[3 * i + 2], state.steps});
  }
  return state;
}

}  // namespace

void write_learn_state(const std::string& workdir, const std::string& fingerprint,
                       const LearnState& state) {
  std::vector<at::Tensor> tensors;
  for (std::size_t i = 0; i < state.values.size(); ++i) {
    tensors.push_back(state.values[i].detach());
    tensors.push_back(state.moments[i].first);
    tensors.push_back(state.moments[i].second);
  }
  const auto bytes = torch::jit::pickle_save(c10::ivalue::Tuple::create(
      {kVersion, fingerprint, static_cast<std::int64_t>(state.steps), tensors}));
  try {
    write_digested(file_in(workdir), {bytes.data(), bytes.size()});
  } catch (const Error& e) {
    throw Error(ErrorKind::kFile, {.what = "the checkpoint cannot be written",
                                   .where = workdir,
                                   .got = e.parts().got,
                                   .hint = "choose another `workdir`"});
  }
}

std::optional<LearnState> read_learn_state(const std::string& workdir,
                                           const std::string& fingerprint,
                                           const std::vector<at::Tensor>& like,
                                           const std::function<void(const std::string&)>& warn) {
  const std::optional<DigestedFile> file = read_digested(file_in(workdir));
  if (!file) return std::nullopt;
  std::optional<LearnState> state;
  try {
    if (file->bytes) {
      const auto value = torch::jit::pickle_load({file->bytes->begin(), file->bytes->end()});
      const auto& parts = value.toTupleRef().elements();
      const bool ours = parts.size() == 4 && parts[0].toInt() == kVersion;
      if (ours && parts[1].toStringRef() != fingerprint) return std::nullopt;
      if (ours) state = state_from(value, like);
    }
  } catch (const std::exception&) {
    rethrow_if_out_of_memory(workdir);
  }
  if (!state) {
    warn("a checkpoint is damaged, learning begins anew: " + file_in(workdir).string());
  }
  return state;
}

}  // namespace repquant
