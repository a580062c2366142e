// Bounds of options, the same on the command line, in plans and for Python.
#pragma once

namespace repquant {

inline constexpr int kMostThreads = 1024;
inline constexpr int kMostBatchSize = 65536;

}  // namespace repquant
