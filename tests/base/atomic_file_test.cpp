#include "base/atomic_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include "support/errors.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

namespace fs = std::filesystem;
using testing::read_text;
using testing::TempDir;
using testing::write_text;

TEST(AtomicFileTest, AppearsOnlyAtCommit) {
  const TempDir dir;
  AtomicFile file(dir / "out", false);
  file.write("ab");
  file.write("c");
  EXPECT_FALSE(fs::exists(dir / "out"));
  EXPECT_EQ(file.temporary().parent_path(), dir.path());
  file.commit();
  EXPECT_EQ(read_text(dir / "out"), "abc");
  EXPECT_EQ(dir.entries(), 1);
}

TEST(AtomicFileTest, WithoutCommitNothingIsLeft) {
  const TempDir dir;
  { AtomicFile(dir / "out", false).write("abc"); }
  EXPECT_EQ(dir.entries(), 0);
}

TEST(AtomicFileTest, OthersMayWriteTheTemporary) {
  const TempDir dir;
  AtomicFile file(dir / "out", false);
  write_text(file.temporary(), "from elsewhere");
  file.commit();
  EXPECT_EQ(read_text(dir / "out"), "from elsewhere");
}

TEST(AtomicFileTest, ExistingTargetNeedsForce) {
  const TempDir dir;
  write_text(dir / "out", "old");
  EXPECT_ERROR(AtomicFile(dir / "out", false), ErrorKind::kFile, "`force`");
  EXPECT_EQ(read_text(dir / "out"), "old");
  EXPECT_EQ(dir.entries(), 1);
  write_file(dir / "out", "new", true);
  EXPECT_EQ(read_text(dir / "out"), "new");
}

TEST(AtomicFileTest, TargetMadeMeanwhileIsNotOverwritten) {
  const TempDir dir;
  AtomicFile file(dir / "out", false);
  file.write("mine");
  write_text(dir / "out", "theirs");
  EXPECT_ERROR(file.commit(), ErrorKind::kFile, "output exists already");
  EXPECT_EQ(read_text(dir / "out"), "theirs");
}

TEST(AtomicFileTest, FailureWithForceKeepsTheOldFile) {
  const TempDir dir;
  write_text(dir / "out", "old");
  { AtomicFile(dir / "out", true).write("half"); }
  EXPECT_EQ(read_text(dir / "out"), "old");
  EXPECT_EQ(dir.entries(), 1);
}

TEST(AtomicFileTest, ThingsThatAreNoFiles) {
  const TempDir dir;
  EXPECT_ERROR(AtomicFile(dir.path(), true), ErrorKind::kFile, "output is a folder");
  EXPECT_ERROR(AtomicFile(dir.path() / "", true), ErrorKind::kFile, "not a file name");
  EXPECT_ERROR(AtomicFile("", true), ErrorKind::kFile, "not a file name");
  EXPECT_ERROR(AtomicFile(dir / "no/out", false), ErrorKind::kFile, "does not exist");
  EXPECT_ERROR(AtomicFile("/dev/null", true), ErrorKind::kFile, "not a regular file");
  ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_ERROR(AtomicFile(dir / "pipe", true), ErrorKind::kFile, "not a regular file");
}

TEST(AtomicFileTest, UnwritableFolderIsAnError) {
  // /proc refuses new files even to root.
  EXPECT_ERROR(AtomicFile("/proc/self/out", false), ErrorKind::kFile, "/proc/self/out");
}

TEST(AtomicFileTest, WriteErrorsAreReported) {
  const TempDir dir;
  AtomicFile file(dir / "out", false);
  // /dev/full answers every write with ENOSPC, as a full disk does.
  fs::remove(file.temporary());
  fs::create_symlink("/dev/full", file.temporary());
  EXPECT_ERROR(file.write("abc"), ErrorKind::kFile, "No space left");
  EXPECT_FALSE(fs::exists(dir / "out"));
}

TEST(AtomicFileTest, SymbolicLinkStaysALink) {
  const TempDir dir;
  fs::create_directory(dir / "real");
  write_text(dir / "real/out", "old");
  fs::create_symlink("real/out", dir / "link");
  write_file(dir / "link", "new", true);
  EXPECT_TRUE(fs::is_symlink(dir / "link"));
  EXPECT_EQ(read_text(dir / "real/out"), "new");
}

TEST(AtomicFileTest, DanglingLinkIsFollowed) {
  const TempDir folder;
  std::filesystem::create_symlink("there.txt", folder / "link.txt");
  write_file(folder / "link.txt", "new", false);
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link.txt"));
  EXPECT_EQ(read_text(folder / "there.txt"), "new");
  std::filesystem::create_symlink("nowhere/there.txt", folder / "broken.txt");
  EXPECT_ERROR(check_output(folder / "broken.txt", false), ErrorKind::kFile, "nowhere");
}

TEST(AtomicFileTest, WhatAKilledRunLeftIsRemoved) {
  const TempDir folder;
  write_text(folder / ".out.txt.4194999-0.tmp", "half");
  write_text(folder / ".out.txt.notes.tmp", "of somebody else");
  const AtomicFile other(folder / "out.txt", false);  // alive: it stays
  AtomicFile file(folder / "out.txt", false);
  EXPECT_FALSE(std::filesystem::exists(folder / ".out.txt.4194999-0.tmp"));
  EXPECT_TRUE(std::filesystem::exists(folder / ".out.txt.notes.tmp"));
  EXPECT_TRUE(std::filesystem::exists(other.temporary()));
  file.commit();
}

TEST(AtomicFileTest, LongNames) {
  const TempDir folder;
  const std::string longest(255, 'x');
  write_file(folder / longest, "text", false);
  EXPECT_EQ(read_text(folder / longest), "text");
  EXPECT_ERROR(check_output(folder / (longest + "x"), false), ErrorKind::kFile, "too long");
}

TEST(AtomicFileTest, RoomIsLookedAtBeforeTheWork) {
  const TempDir folder;
  check_room(folder / "out.txt", 1);
  EXPECT_ERROR(check_room(folder / "out.txt", std::uint64_t{1} << 60), ErrorKind::kFile, "room");
}

TEST(AtomicFileTest, ModeFollowsTheUmask) {
  const TempDir dir;
  const mode_t before = ::umask(0027);
  write_file(dir / "out", "x", false);
  ::umask(before);
  EXPECT_EQ(static_cast<unsigned>(fs::status(dir / "out").permissions()), 0640U);
}

TEST(AtomicFileTest, CheckOutputWritesNothing) {
  const TempDir dir;
  check_output(dir / "out", false);
  EXPECT_EQ(dir.entries(), 0);
  write_text(dir / "out", "old");
  EXPECT_ERROR(check_output(dir / "out", false), ErrorKind::kFile, "output exists already");
  check_output(dir / "out", true);
}

}  // namespace
}  // namespace repquant
