#include "tensor/parallel.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/random.h"

namespace repquant {
namespace {

TEST(ParallelFor, RunsEveryItemOnce) {
  for (const int threads : {0, 1, 2, 7}) {
    std::vector<std::atomic<int>> runs(100);
    parallel_for(100, threads, [&](std::int64_t i) { ++runs[static_cast<std::size_t>(i)]; });
    for (const auto& count : runs) EXPECT_EQ(count, 1);
  }
}

TEST(ParallelFor, NothingToDo) {
  parallel_for(0, 4, [](std::int64_t) { FAIL() << "no item to run"; });
}

TEST(ParallelFor, UsesSeveralThreads) {
  std::atomic<int> arrived{0};
  // Both items wait for each other, which one thread could not do.
  std::atomic<bool> met{true};
  parallel_for(2, 2, [&](std::int64_t) {
    ++arrived;
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (arrived < 2 && met) {
      std::this_thread::yield();
      if (std::chrono::steady_clock::now() > end) met = false;
    }
  });
  EXPECT_TRUE(met);
}

TEST(ParallelFor, RethrowsTheLowestIndex) {
  for (const int threads : {1, 2, 4}) {
    std::string caught;
    std::atomic<int> arrived{0};
    try {
      parallel_for(4, threads, [&](std::int64_t i) {
        // All running items throw, and none before all of them run.
        ++arrived;
        while (arrived < threads) std::this_thread::yield();
        throw std::runtime_error("item " + std::to_string(i));
      });
    } catch (const std::runtime_error& error) {
      caught = error.what();
    }
    EXPECT_EQ(caught, "item 0");
  }
}

TEST(ParallelFor, StartsNothingAfterAFailure) {
  std::atomic<int> ran{0};
  EXPECT_THROW(parallel_for(1000, 1,
                            [&](std::int64_t i) {
                              ++ran;
                              if (i == 3) throw std::runtime_error("stop");
                            }),
               std::runtime_error);
  EXPECT_EQ(ran, 4);
}

TEST(ParallelFor, OperatorsInsideUseOneThreadAndNoAutograd) {
  const int before = at::get_num_threads();
  at::set_num_threads(2);
  std::atomic<int> most{0};
  std::atomic<bool> grad{false};
  parallel_for(4, 2, [&](std::int64_t) {
    most = std::max(most.load(), at::get_num_threads());
    if (at::GradMode::is_enabled()) grad = true;
  });
  EXPECT_EQ(most, 1);
  EXPECT_FALSE(grad);
  EXPECT_EQ(at::get_num_threads(), 2) << "the caller's setting must survive";
  at::set_num_threads(before);
}

int threads_of_process() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("Threads:")) return std::stoi(line.substr(8));
  }
  return -1;
}

// at::get_num_threads() speaks for ATen; this sees OpenMP, MKL and oneDNN threads as well.
TEST(ParallelFor, LibrariesInsideStartNoThreads) {
  const int before = threads_of_process();
  if (before < 0) GTEST_SKIP() << "no /proc/self/status here";
  std::atomic<int> most{0};
  parallel_for(2, 2, [&](std::int64_t) {
    const at::Tensor a = at::ones({600, 600});
    const at::Tensor b = at::mm(a, a);                                        // MKL
    const at::Tensor c = at::linear(a, a, at::ones({600}));                   // oneDNN or MKL
    const at::Tensor d = at::mm(a.to(at::kDouble), a.to(at::kDouble)).exp();  // OpenMP in ATen
    const auto [lower, info] =
        at::linalg_cholesky_ex(at::eye(600, at::kDouble) + a.to(at::kDouble));
    most = std::max(most.load(), threads_of_process());
  });
  EXPECT_LE(most, before + 1);
}

TEST(ParallelFor, NestedCallsStayOnTheirThread) {
  std::atomic<bool> moved{false};
  parallel_for(2, 2, [&](std::int64_t) {
    const auto outer = std::this_thread::get_id();
    parallel_for(8, 4, [&](std::int64_t) {
      if (std::this_thread::get_id() != outer) moved = true;
    });
  });
  EXPECT_FALSE(moved);
}

TEST(ParallelFor, ResultsDoNotDependOnThreads) {
  testing::Random random(1);
  const at::Tensor x = random.normal({8, 300, 64});
  std::vector<at::Tensor> results;
  for (const int threads : {1, 2, 3}) {
    std::vector<at::Tensor> parts(8);
    parallel_for(8, threads, [&](std::int64_t i) {
      parts[static_cast<std::size_t>(i)] = at::mm(x[i].t(), x[i]);
    });
    results.push_back(at::stack(parts));
  }
  EXPECT_TRUE(at::equal(results[0], results[1]));
  EXPECT_TRUE(at::equal(results[0], results[2]));
}

}  // namespace
}  // namespace repquant
