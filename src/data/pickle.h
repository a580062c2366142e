// A reader for the small part of Python's pickle format that saved tensors use. Internal.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "data/bytes.h"

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

/// Reads a pickle of protocol 2 (what PyTorch and LibTorch write). Calls are recorded, not made.
/// Throws Error kFile for malformed data and for operations that saved tensors do not need.
Pickle read_pickle(Bytes bytes, const std::string& name);

}  // namespace repquant::internal
