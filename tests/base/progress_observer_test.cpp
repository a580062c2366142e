#include "base/progress_observer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "support/temp_dir.h"

namespace repquant {
namespace {

TEST(ProgressObserver, ReportsPhasesAndNothingElse) {
  const testing::TempDir folder;
  const std::filesystem::path file = folder / "log.txt";
  {
    LogOptions options;
    options.level = LogLevel::kError;
    options.file = file.string();
    const Log log(options);
    const Observer observer = progress_observer(log, Progress(log));
    observer.on_phase("load", 0);
    observer.on_phase("quantize", 2);
    observer.on_item("first", 0);
    observer.on_item("", 2);
    observer.info("information");
    observer.warn("warning");
    observer.check_interrupt();
  }
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  EXPECT_THAT(text.str(), ::testing::HasSubstr("load"));
  EXPECT_THAT(text.str(), ::testing::HasSubstr("quantize"));
  EXPECT_THAT(text.str(), ::testing::Not(::testing::HasSubstr("information")));
  EXPECT_THAT(text.str(), ::testing::Not(::testing::HasSubstr("warning")));
}

}  // namespace
}  // namespace repquant
