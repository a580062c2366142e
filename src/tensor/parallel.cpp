#include "tensor/parallel.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace repquant {
namespace {

thread_local bool inside_worker = false;

// Restores what the calling thread had; the setting of OpenMP and MKL is per thread.
class OneThreadGuard {
 public:
  OneThreadGuard() : before_(at::get_num_threads()), was_inside_(inside_worker) {
    if (before_ != 1) at::set_num_threads(1);
    inside_worker = true;
  }
  ~OneThreadGuard() {
    inside_worker = was_inside_;
    if (before_ != 1) at::set_num_threads(before_);
  }
  OneThreadGuard(const OneThreadGuard&) = delete;
  OneThreadGuard& operator=(const OneThreadGuard&) = delete;

 private:
  int before_;
  bool was_inside_;
};

// The state that the threads of one parallel_for share.
class Work {
 public:
  Work(std::int64_t count, const std::function<void(std::int64_t)>& body)
      : count_(count), body_(body) {}

  void run() {
    const at::NoGradGuard no_grad;
    while (!failed_.load(std::memory_order_relaxed)) {
      const std::int64_t index = next_.fetch_add(1);
      if (index >= count_) return;
      try {
        body_(index);
      } catch (...) {
        keep(index, std::current_exception());
      }
    }
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void keep(std::int64_t index, std::exception_ptr error) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!error_ || index < error_index_) {
      error_ = std::move(error);
      error_index_ = index;
    }
    failed_.store(true, std::memory_order_relaxed);
  }

  std::int64_t count_;
  const std::function<void(std::int64_t)>& body_;
  std::atomic<std::int64_t> next_{0};
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  std::exception_ptr error_;
  std::int64_t error_index_ = 0;
};

}  // namespace

OperatorThreads::OperatorThreads(int threads) : before_(at::get_num_threads()) {
  at::set_num_threads(threads);
}

OperatorThreads::~OperatorThreads() { at::set_num_threads(before_); }

void parallel_for(std::int64_t count, int threads, const std::function<void(std::int64_t)>& body) {
  if (count <= 0) return;
  Work work(count, body);
  const std::int64_t wanted = inside_worker ? 1 : std::clamp<std::int64_t>(threads, 1, count);
  {
    const OneThreadGuard guard;
    // A fresh thread starts with OpenMP's and MKL's own default, not with the caller's setting, so
    // each sets it for itself. (The process-wide value that at::set_num_threads also stores is
    // put back by the caller's guard.) jthread joins even if a later thread cannot be started.
    std::vector<std::jthread> workers;
    workers.reserve(static_cast<std::size_t>(wanted - 1));
    for (std::int64_t i = 1; i < wanted; ++i) {
      workers.emplace_back([&work] {
        inside_worker = true;
        at::set_num_threads(1);
        work.run();
      });
    }
    work.run();
  }
  work.rethrow();
}

}  // namespace repquant
