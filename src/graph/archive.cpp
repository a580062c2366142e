#include "graph/archive.h"

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/frontend/error_report.h>
#include <torch/csrc/jit/serialization/import.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include "format/validate.h"
#include "graph/portable_code.h"
#include "repquant/artifact.h"
#include "repquant/error.h"
#include "tensor/current_error.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;

torch::jit::Module read_module(const std::string& path) {
  const auto fail = [&](const std::string& message) {
    rethrow_if_out_of_memory(path);
    throw Error(ErrorKind::kFile, unreadable_model(path, interpreter_message(message)));
  };
  try {
    return torch::jit::load(path, at::kCPU);
  } catch (const c10::Error& e) {
    fail(e.what_without_backtrace());
  } catch (const torch::jit::ErrorReport& e) {
    fail(e.what());
  } catch (const std::exception& e) {
    fail(e.what());
  }
  return torch::jit::Module();
}

}  // namespace

Error model_file_error(const std::string& path, std::string what, std::string got,
                       std::string hint) {
  return Error(ErrorKind::kFile, {.what = std::move(what),
                                  .where = path,
                                  .expected = "a TorchScript file saved with torch.jit.save",
                                  .got = std::move(got),
                                  .hint = std::move(hint)});
}

void check_model_path(const std::string& path) {
  std::error_code ec;
  if (!fs::exists(path, ec)) {
    throw model_file_error(path, "the model file does not exist", "", "check the path");
  }
  if (fs::is_directory(path, ec)) {
    throw model_file_error(
        path, "the model path is a folder", "a folder",
        fs::exists(fs::path(path) / "config.json", ec)
            ? "a folder of transformers is exported by scripts/export_transformers.py --model"
            : "name the .pt file");
  }
  if (!fs::is_regular_file(path, ec) && !ec) {
    throw model_file_error(path, "the model path is no file", "a device, a pipe or a socket",
                           "save what it gives to a file first");
  }
  const auto size = fs::file_size(path, ec);
  if (ec) {
    throw model_file_error(path, "the model file cannot be read", ec.message(),
                           "check its permissions");
  }
  if (!std::ifstream(path, std::ios::binary)) {
    throw model_file_error(path, "the model file cannot be read", std::strerror(errno),
                           "check its permissions");
  }
  if (size == 0) {
    throw model_file_error(path, "the model file is empty", "0 bytes", "export the model again");
  }
}

void check_archive(const std::string& path) {
  check_model_path(path);
  std::ifstream file(path, std::ios::binary);
  char magic[4] = {};
  if (!file.read(magic, 4)) {
    throw model_file_error(path, "the model file cannot be read", "", "check its permissions");
  }
  if (std::string(magic, 4) != std::string("PK\x03\x04", 4)) {
    throw model_file_error(
        path, "the model file is not a TorchScript archive", "a file that is no zip archive",
        "export with torch.jit.trace or torch.jit.script and save with torch.jit.save");
  }
}

torch::jit::Module load_archive(const std::string& path, bool trusted,
                                std::vector<std::string>* notes) {
  check_archive(path);
  validate_archive(path, trusted);
  check_checksums(path);
  torch::jit::Module module = read_module(path);
  if (!module.find_method("forward")) {
    throw Error(ErrorKind::kUnsupported,
                {.what = "the model has no forward method", .where = path});
  }
  if (!is_artifact(path)) {
    const std::vector<std::string> changes = make_portable(module);
    if (notes != nullptr) *notes = changes;
  }
  return module;
}

}  // namespace repquant
