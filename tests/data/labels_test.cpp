#include "data/labels.h"

#include <gtest/gtest.h>

#include "fixtures.h"
#include "support/errors.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::fixture;
using testing::TempDir;
using testing::write_text;

DatasetOptions plain_images() {
  DatasetOptions options;
  options.preset = ImagePreset{};
  return options;
}

/// Folders n02 and n01, two images and one.
void make_folders(const TempDir& dir) {
  for (const char* name : {"data/n02/a.png", "data/n02/b.png", "data/n01/c.png"}) {
    std::filesystem::create_directories((dir / name).parent_path());
    std::filesystem::copy_file(fixture("images/rgb8.png"), dir / name);
  }
}

TEST(Labels, ClassFoldersAreNumberedOnlyWhenTheyFit) {
  const TempDir dir;
  make_folders(dir);
  const Dataset data = open_dataset(dir / "data", plain_images());
  EXPECT_EQ(resolve_labels(data, 2, std::nullopt).labels(), (std::vector<std::int64_t>{0, 1, 1}));
  EXPECT_ERROR(resolve_labels(data, 3, std::nullopt), ErrorKind::kUsage, "`classes`");
  EXPECT_ERROR(resolve_labels(data, 1, std::nullopt), ErrorKind::kUsage, "`classes`");
}

TEST(Labels, ClassesFileMapsFolders) {
  const TempDir dir;
  make_folders(dir);
  const Dataset data = open_dataset(dir / "data", plain_images());
  write_text(dir / "classes.tsv", "7\tn01\tone, with a comma\n0\tn00\n3\tn02\ttwo\n");
  EXPECT_EQ(resolve_labels(data, 8, dir / "classes.tsv").labels(),
            (std::vector<std::int64_t>{7, 3, 3}));
  EXPECT_ERROR(resolve_labels(data, 7, dir / "classes.tsv"), ErrorKind::kUsage, "n01/c.png");
  // As editors of other systems write it.
  write_text(dir / "classes.tsv",
             "\xEF\xBB\xBF"
             "7\tn01\r\n0\tn00\r\n3\tn02\r\n");
  EXPECT_EQ(read_classes(dir / "classes.tsv").at("n01"), 7);
  write_text(dir / "classes.tsv", "7\tn01\n");
  EXPECT_ERROR(resolve_labels(data, 8, dir / "classes.tsv"), ErrorKind::kUsage, "n02");
}

TEST(Labels, MalformedClassesFiles) {
  const TempDir dir;
  for (const char* text :
       {"n01\t7\n", "7 n01\n", "7\t\n", "7\tn01\n7\tn02\n", "7\tn01\n8\tn01\n", "-1\tn01\n", ""}) {
    write_text(dir / "classes.tsv", text);
    EXPECT_ERROR(read_classes(dir / "classes.tsv"), ErrorKind::kFile, "classes.tsv");
  }
}

TEST(Labels, LabelsFileOfTheFolder) {
  const TempDir dir;
  make_folders(dir);
  write_text(dir / "data/labels.txt", "n02/b.png\t5\nn01/c.png\t1\nn02/a.png\t0\nother.png\t9\n");
  const Dataset data = open_dataset(dir / "data", plain_images());
  EXPECT_EQ(data.labels(), (std::vector<std::int64_t>{1, 0, 5}));
  EXPECT_EQ(resolve_labels(data, 6, std::nullopt).labels(), data.labels());
  EXPECT_ERROR(resolve_labels(data, 5, std::nullopt), ErrorKind::kUsage, "n02/b.png");
  EXPECT_ERROR(resolve_labels(data, 6, dir / "data/labels.txt"), ErrorKind::kUsage, "two sources");
}

TEST(Labels, ImagesNeedNamesInTheirLabelsFile) {
  const TempDir dir;
  make_folders(dir);
  DatasetOptions options = plain_images();
  options.labels_file = dir / "labels.txt";
  for (const char* text :
       {"1\n2\n", "n02/a.png\t1\n", "n02/a.png\tone\n", "n02/a.png\t1\nn02/a.png\t1\n", ""}) {
    write_text(dir / "labels.txt", text);
    EXPECT_ERROR(open_dataset(dir / "data", options), ErrorKind::kFile, "labels.txt");
  }
  options.labels_file = dir / "none.txt";
  EXPECT_ERROR(open_dataset(dir / "data", options), ErrorKind::kFile, "none.txt");
}

TEST(Labels, ArraysTakeOneLabelALine) {
  const TempDir dir;
  DatasetOptions options;
  options.labels_file = dir / "labels.txt";
  write_text(dir / "labels.txt", "3\n0\n");
  EXPECT_EQ(open_dataset(fixture("arrays/c_f4.npy"), options).labels(),
            (std::vector<std::int64_t>{3, 0}));
  EXPECT_ERROR(open_dataset(fixture("arrays/deflated.npz"), options), ErrorKind::kUsage,
               "two sources");
  for (const char* text : {"3\n", "3\n0\n1\n", "3\nx\n", "3\n\n", "3\n-1\n"}) {
    write_text(dir / "labels.txt", text);
    EXPECT_ERROR(open_dataset(fixture("arrays/c_f4.npy"), options), ErrorKind::kFile, "labels.txt");
  }
}

TEST(Labels, NoneIsAnError) {
  const Dataset data = open_dataset(fixture("arrays/c_f4.npy"));
  EXPECT_ERROR(resolve_labels(data, 2, std::nullopt), ErrorKind::kUsage, "no labels");
  EXPECT_ERROR(data.with_labels({1}), ErrorKind::kUsage, "do not fit");
}

}  // namespace
}  // namespace repquant
