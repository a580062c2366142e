#include "artifact/save.h"

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/export.h>

#include <optional>
#include <string_view>

#include "base/atomic_file.h"
#include "repquant/error.h"
#include "tensor/current_error.h"

namespace repquant {

void save_artifact(const torch::jit::Module& module,
                   const std::map<std::string, std::string>& extra_files, AtomicFile& file) {
  // Written through a function: with a file name, that name would become part of the content.
  std::optional<Error> failure;
  const auto write = [&](const void* bytes, std::size_t size) -> std::size_t {
    if (failure) return size;
    try {
      file.write(std::string_view(static_cast<const char*>(bytes), size));
      return size;
    } catch (const Error& e) {
      // LibTorch's writer ends the process when a write fails while it is being destroyed: let it
      // write into nothing, and fail afterwards.
      failure = e;
      return size;
    }
  };
  try {
    torch::jit::ExportModule(module, write, {extra_files.begin(), extra_files.end()});
  } catch (const std::exception& e) {
    if (failure) throw Error(failure->kind(), failure->parts());
    rethrow_if_out_of_memory(file.target().string());
    throw Error(ErrorKind::kFile, {.what = "the artifact cannot be written",
                                   .where = file.target().string(),
                                   .got = e.what()});
  }
  if (failure) throw Error(failure->kind(), failure->parts());
}

}  // namespace repquant
