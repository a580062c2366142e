// TorchScript source of the artifact's classes.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace repquant {

/// One class: its name, its attributes (name and type as in TorchScript) and its methods.
/// The first `stored` attributes are what __getstate__ writes, in order; the rest is derived in
/// prepare(), which __setstate__ calls.
struct ClassSource {
  std::string name;
  std::vector<std::pair<std::string, std::string>> stored;
  std::vector<std::pair<std::string, std::string>> derived;
  std::string methods;  // forward and prepare
};

/// All classes, in the order of ModuleFactory's members.
const std::vector<ClassSource>& class_sources();

/// The methods of a class including __getstate__ and __setstate__, as TorchScript text.
std::string full_source(const ClassSource& source);

}  // namespace repquant
