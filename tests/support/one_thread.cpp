// Linked into test executables whose subjects run inside repquant's own parallel loops: operators
// use one thread there, and so they do here.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

namespace {

class OneThread : public ::testing::Environment {
 public:
  void SetUp() override { at::set_num_threads(1); }
};

// gtest owns the environment.
[[maybe_unused]] const ::testing::Environment* const kOneThread =
    ::testing::AddGlobalTestEnvironment(new OneThread);

}  // namespace
