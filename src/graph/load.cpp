#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/frontend/error_report.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/freeze_module.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/serialization/import.h>

#include <filesystem>
#include <fstream>

//#include "base/sha256.h"
#include "graph/model.h"
#include "graph/normalize.h"
#include "graph/rewrite.h"
#include "repquant/error.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;

/// Rejects what is plainly no TorchScript archive before LibTorch sees it.
void check_archive(const std::string& path) {
  std::error_code ec;
  const auto fail = [&](std::string what, std::string got, std::string hint) {
    throw Error(ErrorKind::kFile, {.what = std::move(what), .where = path,
                                   .expected = "a TorchScript file saved with torch.jit.save",
                                   .got = std::move(got), .hint = std::move(hint)});
  };
  if (!fs::exists(path, ec)) fail("the model file does not exist", "", "check the path");
  if (fs::is_directory(path, ec)) fail("the model path is a folder", "a folder", "name the .pt file");
  const auto size = fs::file_size(path, ec);
  if (ec) fail("the model file cannot be read", ec.message(), "check its permissions");
  if (size == 0) fail("the model file is empty", "0 bytes", "export the model again");
  std::ifstream file(path, std::ios::binary);
  char magic[4] = {};
  if (!file.read(magic, 4)) fail("the model file cannot be read", "", "check its permissions");
  if (std::string(magic, 4) != std::string("PK\x03\x04", 4)) {
    fail("the model file is not a TorchScript archive", "a file that is no zip archive",
         "export with torch.jit.trace or torch.jit.script and save with torch.jit.save");
  }
}

torch::jit::Module load_module(const std::string& path, torch::jit::ExtraFilesMap& extra) {
  const auto fail = [&](std::string message) {
    throw Error(ErrorKind::kFile,
                {.what = "the model file cannot be loaded as TorchScript", .where = path,
                 .expected = "a TorchScript file saved with torch.jit.save",
                 .got = message.substr(0, 300),
                 .hint = "a state dict or a pickled nn.Module must be exported with "
                         "torch.jit.trace first; a truncated file must be copied again"});
  };
  try {
    return torch::jit::load(path, at::kCPU, extra);
  } catch (const c10::Error& e) {
    fail(e.what_without_backtrace());
  } catch (const torch::jit::ErrorReport& e) {
    fail(e.what());
  } catch (const std::exception& e) {
    fail(e.what());
  }
  return torch::jit::Module();
}

/// Freezes and inlines; afterwards the graph no longer needs `self`.
std::shared_ptr<torch::jit::Graph> flatten(torch::jit::Module module, const std::string& path) {
  const auto fail = [&](const std::string& message) {
    throw Error(ErrorKind::kUnsupported,
                {.what = "the model cannot be frozen: " + message.substr(0, 300), .where = path,
                 .hint = "models that change their own attributes in forward() are not supported"});
  };
  std::shared_ptr<torch::jit::Graph> graph;
  try {
    module.eval();
    graph = torch::jit::freeze_module(module).get_method("forward").graph()->copy();
    torch::jit::Inline(*graph);
  } catch (const c10::Error& e) {
    fail(e.what_without_backtrace());
  } catch (const std::exception& e) {
    fail(e.what());
  }
  return graph;
}

}  // namespace

Model load_model(const std::string& path, std::size_t provided_inputs) {
  check_archive(path);
  Model model;
  model.path = path;
  //model.source_hash = sha256_file(path);
  torch::jit::ExtraFilesMap extra{{"preprocess.json", ""}, {"repquant.json", ""}};
  const auto module = load_module(path, extra);
  for (const auto& [name, text] : extra) {
    if (!text.empty()) model.extra_files[name] = text;
  }
  if (!module.find_method("forward")) {
    throw Error(ErrorKind::kUnsupported, {.what = "the model has no forward method", .where = path});
  }
  model.graph = flatten(module, path);

  const auto& arguments = module.get_method("forward").function().getSchema().arguments();
  std::vector<bool> has_default;
  std::size_t required = 0;
  for (std::size_t i = 1; i < arguments.size(); ++i) {
    has_default.push_back(arguments[i].default_value().has_value());
    if (!has_default.back()) required = i;
  }
  const std::size_t total = has_default.size();
  const std::size_t kept = std::min(total, std::max(provided_inputs, required));
  for (std::size_t i = 0; i < total; ++i) {
    if (i < kept) {
      model.input_names.push_back(arguments[i + 1].name());
    } else {
      model.dropped_inputs.push_back(arguments[i + 1].name());
      torch::jit::WithInsertPoint guard(*model.graph->nodes().begin());
      auto* value = model.graph->inputs()[i + 1];
      value->replaceAllUsesWith(model.graph->insertConstant(*arguments[i + 1].default_value()));
    }
  }
  for (std::size_t i = total; i > kept; --i) model.graph->eraseInput(i);

  clean_graph(model.graph);
  canonicalize_matmul(model.graph);
  canonicalize_linear(model.graph);
  decompose_attention(model.graph);
  model.patch_embeddings = decompose_patch_embeddings(model.graph);
  if (!model.graph->inputs()[0]->uses().empty()) {
    throw Error(ErrorKind::kUnsupported,
                {.what = "the model keeps state that cannot be frozen", .where = path,
                 .hint = "export it in eval mode, without attributes that forward() changes"});
  }
  model.graph->eraseInput(0);
  return model;
}

}  // namespace repquant
