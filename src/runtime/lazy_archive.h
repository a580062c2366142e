// Reads an artifact without running the set-up of its submodules, so that those that get fused
// never pay for packing weights twice.
#pragma once

#include <ATen/core/ivalue.h>
#include <torch/csrc/jit/api/module.h>

#include <map>
#include <string>

namespace repquant {

/// What a submodule of an artifact stores, by attribute name (format/class_source.h).
struct StoredState {
  std::string kind;  // class name: Linear, NormQuantize, ..
  c10::IValue tuple;
  std::map<std::string, c10::IValue> values;

  at::Tensor tensor(const std::string& name) const { return values.at(name).toTensor(); }
  std::int64_t integer(const std::string& name) const { return values.at(name).toInt(); }
  double number(const std::string& name) const { return values.at(name).toDouble(); }
  bool flag(const std::string& name) const { return values.at(name).toBool(); }
  const std::string& text(const std::string& name) const { return values.at(name).toStringRef(); }
};

/// Submodules that are not to be fused, and why.
using PortableSites = std::map<std::string, std::string>;

struct LazyArchive {
  torch::jit::Module root;
  /// By name of the submodule: those whose set-up has not run.
  std::map<std::string, StoredState> stored;
  PortableSites portable;  // as the description says
};

/// In a catch block: the exception that is being handled as an Error, kFile at `path` for what
/// LibTorch throws, kResource where memory is exhausted.
[[noreturn]] void rethrow_load_error(const std::string& path);

/// `trusted`: as in validate_archive(). Throws Error kFile (missing, damaged), kUnsupported (not an
/// artifact, of another major version, or with operators that a model does not need).
LazyArchive read_lazily(const std::string& path, bool trusted = false);

/// The same of a file that validate_archive() has found nothing in.
LazyArchive read_validated(const std::string& path);

/// Runs the set-up that loading left out. A submodule is set up once.
void prepare(LazyArchive& archive, const std::string& name);

}  // namespace repquant
