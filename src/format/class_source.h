// TorchScript source of the artifact's classes: the files of format/classes, which the build
// embeds.
//
// A file is a Python class. Its annotated attributes under "# Stored" are what __getstate__ writes,
// in order; those under "# Derived" are made by prepare(), which __setstate__ calls. Constants of
// the file stand before the class; their values replace their names in the methods. In the methods,
// `torch` means the operators of LibTorch's name space aten, which has more than Python's module,
// and scalar types are integers, since source that is compiled from C++ cannot name them:
// 0 uint8, 1 int8, 2 int16, 3 int32, 4 int64, 6 float32.
//
// float32 -> uint8 goes through int8 or int16 there: LibTorch converts float32 to those with vector
// instructions, to uint8 element by element (7 times slower). Values are within range by then.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace repquant {

/// The classes, in the order of class_sources().
enum class ClassKind {
  kNormQuantize,
  kQuantize,
  kLinear,
  kWeightOnlyLinear,
  kSideColumns,
  kScores,
  kAttend,
  kEmbedding,
  kTokenRange,
  kTokenQuantize,
  kTokenScale,
  kConvolution,
  kCacheQuantize,
  kCacheDequantize,
  kRowScale,
  kRowQuantize,
  kGroupQuantize
};

/// One class: its name, its attributes (name and type as in TorchScript) and its methods.
struct ClassSource {
  std::string name;
  std::vector<std::pair<std::string, std::string>> stored;
  std::vector<std::pair<std::string, std::string>> derived;
  std::string methods;                           // prepare, forward and what they call
  std::map<std::string, std::string> constants;  // already replaced in `methods`
};

/// All classes.
const std::vector<ClassSource>& class_sources();

const ClassSource& class_source(ClassKind kind);

/// The class of that name within an archive ("__torch__.repquant.Linear"), or null.
const ClassSource* find_class(std::string_view qualified_name);

/// The class called so, such as "Linear", or none.
std::optional<ClassKind> find_class_kind(std::string_view name);

/// "__torch__.repquant.Linear".
std::string qualified_name(const ClassSource& source);

/// From the number of multiply-accumulates per head upwards that it names, Scores uses integer
/// products: fewer run faster in float32, on the same codes.
std::int64_t integer_scores_work();

/// The methods of a class including __getstate__ and __setstate__, as TorchScript text.
std::string full_source(const ClassSource& source);

/// A class from a file's text. Throws Error kInternal if it has no class.
ClassSource parse_class(std::string_view text);

}  // namespace repquant
