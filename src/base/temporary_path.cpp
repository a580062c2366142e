#include "base/temporary_path.h"

#include <mutex>
#include <set>
#include <system_error>
#include <utility>

namespace repquant {
namespace {

namespace fs = std::filesystem;

// Never destroyed: another thread may end the process while main() returns.
struct Alive {
  std::mutex mutex;
  std::multiset<fs::path> paths;
};

Alive& alive() {
  static Alive& instance = *new Alive;
  return instance;
}

bool forget(const fs::path& path) {
  Alive& all = alive();
  const std::lock_guard<std::mutex> lock(all.mutex);
  const auto found = all.paths.find(path);
  if (found == all.paths.end()) return false;
  all.paths.erase(found);
  return true;
}

void remove_quietly(const fs::path& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

}  // namespace

TemporaryPath::TemporaryPath(fs::path path) : path_(std::move(path)) {
  Alive& all = alive();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.paths.insert(path_);
}

TemporaryPath::~TemporaryPath() {
  if (forget(path_)) remove_quietly(path_);
}

void TemporaryPath::keep() { forget(path_); }

void remove_temporary_paths() {
  Alive& all = alive();
  all.mutex.lock();  // for good
  for (const fs::path& path : all.paths) remove_quietly(path);
}

}  // namespace repquant
