// Data parallelism over independent items, with one thread inside every LibTorch operator.
//
// The order in which an operator reduces depends on how many threads it uses, so repquant never
// uses threads inside an operator: it runs whole items (samples, rows, heads) side by side. Results
// therefore do not depend on the number of threads.
#pragma once

#include <cstdint>
#include <functional>

namespace repquant {

/// Within its scope every LibTorch operator that the calling thread runs (ATen, OpenMP, MKL and
/// oneDNN) uses `threads` threads. Then the number is what it was.
class OperatorThreads {
 public:
  explicit OperatorThreads(int threads);
  ~OperatorThreads();
  OperatorThreads(const OperatorThreads&) = delete;
  OperatorThreads& operator=(const OperatorThreads&) = delete;

 private:
  int before_;
};

/// Runs body(i) once for every i in [0, count), on at most `threads` threads (the caller's among
/// them; values below 1 mean 1). Operators inside the body run on one thread and without autograd.
/// Items are handed out in rising order; nested calls run on the thread they are made from.
/// If bodies throw, no further items are started and the exception of the lowest index is rethrown
/// once all running bodies have ended.
void parallel_for(std::int64_t count, int threads, const std::function<void(std::int64_t)>& body);

}  // namespace repquant
