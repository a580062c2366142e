// Checkpoints: what was written is read, everything else is refused, whatever the bytes are.
#include "fit/checkpoint.h"

#include <ATen/ATen.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <random>

#include "plan/serialize.h"
#include "support/errors.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::read_text;
using testing::TempDir;
using testing::write_text;

SitePlan plan(int index) {
  const auto scale = at::full({1}, 0.1 * (index + 1), at::kFloat);
  SitePlan result;
  result.path = "blocks." + std::to_string(index) + ".scores";
  result.kind = SiteKind::kScores;
  const OperandQuantizer operand{4, scale.reciprocal(), scale, at::full({1}, 7.0, at::kFloat)};
  result.plan = ScoresPlan{operand, operand};
  result.note = "per tensor";
  return result;
}

std::vector<char> pickled(const SitePlan& value) {
  return torch::jit::pickle_save(to_ivalue(value));
}

class CheckpointTest : public ::testing::Test {
 protected:
  void write(int count, const std::string& fingerprint = "run") {
    for (int i = 0; i < count; ++i) {
      append_checkpoint(work(), fingerprint, static_cast<std::size_t>(i), plan(i));
    }
  }
  std::string work() const { return (folder_ / "work").string(); }
  std::filesystem::path file(int index) const {
    return folder_ / ("work/site_000" + std::to_string(index) + ".pt");
  }
  std::size_t plans() const { return read_checkpoint(work(), "run").plans.size(); }

  TempDir folder_;
};

TEST_F(CheckpointTest, PlansComeBackBitForBit) {
  write(3);
  const FitState state = read_checkpoint(work(), "run");
  EXPECT_EQ(state.fingerprint, "run");
  ASSERT_EQ(state.plans.size(), 3U);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(pickled(state.plans[static_cast<std::size_t>(i)].value()), pickled(plan(i)));
  }
}

TEST_F(CheckpointTest, NothingWrittenIsNothingRead) {
  EXPECT_EQ(plans(), 0U);
  std::filesystem::create_directory(work());
  EXPECT_EQ(plans(), 0U);
}

TEST_F(CheckpointTest, ReadingStopsAtAGap) {
  write(4);
  std::filesystem::remove(file(2));
  EXPECT_EQ(plans(), 2U);
}

TEST_F(CheckpointTest, HalfWrittenFilesDoNotCount) {
  write(2);
  // What a run leaves that is killed while it writes.
  write_text(folder_ / "work/site_0002.pt.tmp", read_text(file(0)).substr(0, 100));
  EXPECT_EQ(plans(), 2U);
  append_checkpoint(work(), "run", 2, plan(2));
  EXPECT_EQ(plans(), 3U);
}

TEST_F(CheckpointTest, AnotherRunIsRefused) {
  write(2, "other");
  EXPECT_ERROR(read_checkpoint(work(), "run"), ErrorKind::kUsage, "another run");
}

TEST_F(CheckpointTest, ANewRunReplacesWhatAnOlderOneLeft) {
  write(4, "older");
  write(2);
  EXPECT_EQ(plans(), 2U);
}

TEST_F(CheckpointTest, FolderThatCannotBeMade) {
  write_text(folder_ / "work", "a file");
  EXPECT_ERROR(append_checkpoint(work(), "run", 0, plan(0)), ErrorKind::kFile, "`workdir`");
}

TEST_F(CheckpointTest, ADamagedFileCostsItsSiteAlone) {
  write(3);
  const std::string whole = read_text(file(1));
  for (const std::string& content :
       {std::string(), std::string("no checkpoint"), whole.substr(0, whole.size() / 2),
        whole.substr(0, whole.size() - 1), whole + "x"}) {
    write_text(file(1), content);
    const FitState state = read_checkpoint(work(), "run");
    ASSERT_EQ(state.plans.size(), 3U);
    EXPECT_TRUE(state.plans[0] && !state.plans[1] && state.plans[2]);
    EXPECT_EQ(state.damaged, std::vector<std::string>{file(1).string()});
  }
  append_checkpoint(work(), "run", 1, plan(1), CheckpointEnd::kLater);
  const FitState mended = read_checkpoint(work(), "run");
  EXPECT_TRUE(mended.damaged.empty());
  EXPECT_EQ(mended.plans.size(), 3U);
}

// A changed byte anywhere must not become a changed plan, and must not be followed into memory that
// is not there.
TEST_F(CheckpointTest, EveryChangedByteIsFound) {
  write(1);
  const std::string whole = read_text(file(0));
  std::mt19937_64 random(5);
  for (int round = 0; round < 400; ++round) {
    std::string bytes = whole;
    for (std::uint64_t changes = 1 + random() % 3; changes > 0; --changes) {
      char& byte = bytes[random() % bytes.size()];
      byte = static_cast<char>(byte ^ static_cast<char>(1U << (random() % 8)));
    }
    if (bytes == whole) continue;
    write_text(file(0), bytes);
    EXPECT_EQ(read_checkpoint(work(), "run").damaged.size(), 1U);
  }
}

}  // namespace
}  // namespace repquant
