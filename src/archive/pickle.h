// A reader for the small part of Python's pickle format that saved tensors use. Internal.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "archive/bytes.h"

namespace repquant::internal {

/// Values live in one vector and refer to each other by position, so that nested, shared or even
/// cyclic values need no recursion anywhere.
using PickleIndex = std::size_t;

enum class PickleKind {
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kGlobal,   // text: "module.name"
  kList,     // also tuples
  kDict,     // items: key, value, key, value, ...
  kStorage,  // of a tensor; items: the persistent id, a tuple
  kCall,     // text: "module.name"; items: the arguments. Nothing is ever called.
  kObject,   // an instance; text: class; items: its state as a dict, once it was set
};

struct PickleValue {
  PickleKind kind = PickleKind::kNone;
  std::int64_t number = 0;
  double real = 0;  // kFloat
  std::string text;
  std::vector<PickleIndex> items;
};

struct Pickle {
  std::vector<PickleValue> values;
  PickleIndex root = 0;

  const PickleValue& at(PickleIndex index) const { return values.at(index); }
  const PickleValue& item(const PickleValue& value, std::size_t position) const {
    return values.at(value.items.at(position));
  }
};

/// Levels of nesting that a pickle may have. LibTorch walks values recursively, and a model needs
/// two or three levels for each level of its modules.
inline constexpr int kMaxPickleDepth = 512;
/// Values that a pickle may have: a site of an artifact takes about forty.
inline constexpr std::size_t kMaxPickleValues = std::size_t{1} << 22;
/// And references to them: two bytes of a file can make one.
inline constexpr std::size_t kMaxPickleReferences = std::size_t{1} << 24;

/// Throws Error kFile if a value contains itself or is nested deeper than kMaxPickleDepth.
void check_pickle_depth(const Pickle& pickle, const std::string& name);

/// Reads a pickle of protocol 2 (what PyTorch and LibTorch write). Calls are recorded, not made.
/// Throws Error kFile for malformed data, for operations that saved tensors do not need, for more
/// values than kMaxPickleValues or references than kMaxPickleReferences, and for memo keys that a
/// writer would not use: LibTorch's own reader allocates a table up to the largest key.
Pickle read_pickle(Bytes bytes, const std::string& name);

}  // namespace repquant::internal
