#include "base/log.h"

#include <sstream>

#include "base/progress.h"
#include "support/errors.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::read_text;
using testing::TempDir;

TEST(LogTest, LevelsDecideWhatIsShown) {
  const auto text_at = [](LogLevel level) {
    std::ostringstream out;
    const Log log({.level = level, .stream = &out});
    log.debug("d");
    log.info("i {} %s");
    log.warning("w");
    log.error("e");
    return out.str();
  };
  EXPECT_EQ(text_at(LogLevel::kDebug), "debug: d\ni {} %s\nwarning: w\nerror: e\n");
  EXPECT_EQ(text_at(LogLevel::kInfo), "i {} %s\nwarning: w\nerror: e\n");
  EXPECT_EQ(text_at(LogLevel::kError), "error: e\n");
  EXPECT_EQ(text_at(LogLevel::kOff), "");
}

TEST(LogTest, DefaultLogDropsEverything) {
  const Log log;
  log.error("x");
  log.status("x");
  EXPECT_FALSE(log.shows(LogLevel::kError));
  EXPECT_FALSE(log.on_terminal());
}

TEST(LogTest, ColorOnlyWhenAsked) {
  std::ostringstream out;
  Log({.stream = &out, .color = true}).warning("w");
  EXPECT_EQ(out.str(), "\x1b[33mwarning: \x1b[0mw\n");
}

TEST(LogTest, NoColorVariableWins) {
  std::ostringstream out;
  ASSERT_EQ(::setenv("NO_COLOR", "1", 1), 0);
  Log({.stream = &out, .terminal = true}).error("e");
  ASSERT_EQ(::unsetenv("NO_COLOR"), 0);
  Log({.stream = &out, .terminal = true}).error("e");
  EXPECT_EQ(out.str(), "error: e\n\x1b[31merror: \x1b[0me\n");
}

TEST(LogTest, FileGetsEverythingWithoutColor) {
  const TempDir dir;
  std::ostringstream out;
  {
    const Log log({.level = LogLevel::kOff, .file = dir / "log", .stream = &out, .color = true});
    log.debug("one");
    log.error("two");
  }
  EXPECT_EQ(out.str(), "");
  EXPECT_THAT(read_text(dir / "log"),
              ::testing::MatchesRegex("[0-9T:.-]+ debug one\n[0-9T:.-]+ error two\n"));
}

// What it reports on goes on, but its end is said, once.
TEST(LogTest, FileThatCannotBeWrittenIsSaid) {
  std::ostringstream out;
  const Log log({.level = LogLevel::kWarning, .file = "/dev/full", .stream = &out});
  log.info("one");
  log.info("two");
  EXPECT_THAT(out.str(), ::testing::MatchesRegex("warning: the log file cannot be written: .+\n"));
}

TEST(LogTest, FileThatCannotBeOpenedIsAnError) {
  const TempDir dir;
  EXPECT_ERROR(Log({.file = dir.path()}), ErrorKind::kFile, "cannot open log file");
}

TEST(LogTest, StatusLineStaysBelowTheLog) {
  std::ostringstream out;
  const Log log({.stream = &out, .terminal = true, .color = false});
  log.status("1/2");
  log.info("hello");
  log.status("");
  log.info("end");
  EXPECT_EQ(out.str(), "\r\x1b[K1/2\r\x1b[Khello\n1/2\r\x1b[Kend\n");
}

TEST(LogTest, NoStatusLineWhenQuietOrNotATerminal) {
  std::ostringstream out;
  Log({.level = LogLevel::kError, .stream = &out, .terminal = true}).status("x");
  Log({.stream = &out, .terminal = false}).status("x");
  EXPECT_EQ(out.str(), "");
}

TEST(ProgressTest, TextEstimatesTheTimeLeft) {
  EXPECT_EQ(progress_text({.phase = "fit", .item = "b.0", .done = 0, .total = 4, .seconds = 1}),
            "fit 0/4 (0 %): b.0");
  EXPECT_EQ(progress_text({.phase = "fit", .item = "b.1", .done = 1, .total = 4, .seconds = 10}),
            "fit 1/4 (25 %), 30 s left: b.1");
  EXPECT_EQ(progress_text({.phase = "fit", .item = "", .done = 4, .total = 4, .seconds = 10}),
            "fit 4/4 (100 %)");
  EXPECT_EQ(progress_text({.phase = "read", .item = "", .done = 7, .total = 0, .seconds = 10}),
            "read 7");
}

// A clock that tests turn by hand.
struct FakeTime {
  std::shared_ptr<double> now = std::make_shared<double>(100);
  Progress::Clock clock() const {
    return [now = now] { return *now; };
  }
};

TEST(ProgressTest, PlainLinesComeNowAndThen) {
  std::ostringstream out;
  const FakeTime time;
  const Progress progress(Log({.stream = &out, .terminal = false}), time.clock());
  progress.begin("read", 100);
  for (int i = 0; i < 100; ++i) {
    *time.now += 0.25;
    progress.advance();
  }
  progress.finish();
  progress.finish();
  EXPECT_EQ(out.str(),
            "read 0/100 (0 %)\n"
            "read 40/100 (40 %), 15 s left\n"
            "read 80/100 (80 %), 5.0 s left\n"
            "read: 100 in 25 s\n");
}

TEST(ProgressTest, TerminalShowsOneRewrittenLine) {
  std::ostringstream out;
  const FakeTime time;
  const Progress progress(Log({.stream = &out, .terminal = true, .color = false}), time.clock());
  progress.begin("read", 2);
  progress.item("a");  // too soon to be shown
  *time.now += 1;
  progress.advance();
  progress.finish();
  EXPECT_EQ(out.str(),
            "\r\x1b[Kread 0/2 (0 %)\r\x1b[Kread 1/2 (50 %), 1.0 s left: a\r\x1b[K"
            "read: 1 in 1.0 s\n");
}

TEST(ProgressTest, BeginEndsThePhaseBefore) {
  std::ostringstream out;
  const FakeTime time;
  const Progress progress(Log({.stream = &out, .terminal = false}), time.clock());
  progress.begin("one", 1);
  progress.begin("two", 0);
  EXPECT_EQ(out.str(), "one 0/1 (0 %)\none: 0 in 0.00 s\ntwo 0\n");
}

}  // namespace
}  // namespace repquant
