#include "base/temporary_path.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/atomic_file.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;
using testing::TempDir;
using testing::write_text;

TEST(TemporaryPathTest, RemovedWithWhatIsInIt) {
  const TempDir dir;
  fs::create_directory(dir / "folder");
  write_text(dir / "folder" / "inside", "text");
  { const TemporaryPath temporary(dir / "folder"); }
  EXPECT_EQ(dir.entries(), 0);
}

TEST(TemporaryPathTest, KeptStays) {
  const TempDir dir;
  write_text(dir / "file", "text");
  { TemporaryPath(dir / "file").keep(); }
  EXPECT_EQ(dir.entries(), 1);
}

TEST(TemporaryPathDeathTest, ProcessWithoutDestructorsLeavesNothing) {
  const TempDir dir;
  write_text(dir / "kept", "text");
  const auto end_in_the_middle = [&] {
    const AtomicFile file(dir / "out", false);
    TemporaryPath(dir / "kept").keep();
    remove_temporary_paths();
    std::_Exit(static_cast<int>(dir.entries()));
  };
  EXPECT_EXIT(end_in_the_middle(), ::testing::ExitedWithCode(1), "");
}

}  // namespace
}  // namespace repquant
