#include "data/tokens.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <random>

#include "data/dataset.h"
#include "support/errors.h"
#include "support/paths.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::TempDir;
using testing::write_text;

at::Tensor stream(std::vector<std::int64_t> ids) { return at::tensor(ids, at::kLong); }

std::vector<std::int64_t> values(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.to(at::kLong).flatten().contiguous();
  return {flat.const_data_ptr<std::int64_t>(), flat.const_data_ptr<std::int64_t>() + flat.numel()};
}

/// Little-endian ids without a header.
template <class Element>
std::string raw(std::initializer_list<int> ids) {
  std::string bytes;
  for (const int id : ids) {
    const auto element = static_cast<Element>(id);
    bytes.append(reinterpret_cast<const char*>(&element), sizeof(element));
  }
  return bytes;
}

TEST(TokenWindows, WithoutOverlapTheFirstIdOfEachIsNotPredicted) {
  const auto windows = cut_windows(at::arange(10, at::kLong), {.window = 4}, false);
  ASSERT_EQ(windows.size(), 3U);
  EXPECT_EQ(windows[1].begin, 4);
  EXPECT_EQ(windows[1].end, 8);
  for (const auto& window : windows) EXPECT_EQ(window.targets.begin, 1);
  EXPECT_EQ(windows[2].targets, (TokenSpan{1, 2}));
  EXPECT_EQ(cut_windows(at::arange(10, at::kLong), {.window = 4}, true).size(), 2U);
}

TEST(TokenWindows, WithOverlapOnlyNewIdsCount) {
  const auto windows = cut_windows(at::arange(10, at::kLong), {.window = 4, .stride = 2}, false);
  ASSERT_EQ(windows.size(), 4U);
  EXPECT_EQ(windows[0].targets, (TokenSpan{1, 4}));
  EXPECT_EQ(windows[1].targets, (TokenSpan{2, 4}));
  EXPECT_EQ(windows[3].end, 10);
}

TEST(TokenWindows, BosTakesAPlaceAndPredictsTheFirstId) {
  const at::Tensor ids = stream({5, 6, 7, 8, 9});
  const TokenOptions options{.window = 3, .bos = 1};
  const auto windows = cut_windows(ids, options, false);
  ASSERT_EQ(windows.size(), 3U);
  EXPECT_EQ(windows[0].targets, (TokenSpan{1, 3}));
  EXPECT_EQ(values(window_ids(ids, windows, options)),
            (std::vector<std::int64_t>{1, 5, 6, 1, 7, 8, 1, 9, 0}));
  // A window that begins with BOS gets no second one.
  const auto once = cut_windows(stream({1, 5, 6}), options, false);
  ASSERT_EQ(once.size(), 1U);
  EXPECT_FALSE(once[0].bos);
  EXPECT_EQ(once[0].targets, (TokenSpan{1, 3}));
}

TEST(TokenWindows, DoNotCrossDocuments) {
  const at::Tensor ids = stream({1, 5, 6, 7, 1, 1, 8});
  const auto windows = cut_windows(ids, {.window = 3, .document = 1}, false);
  // [1 5 6], then 7 alone, which nothing predicts, and 1 alone: both are left out.
  ASSERT_EQ(windows.size(), 2U);
  EXPECT_EQ(windows[0].end, 3);
  EXPECT_EQ(windows[1].begin, 5);
  EXPECT_EQ(windows[1].targets, (TokenSpan{1, 2}));
  // With BOS before the rest of a document, its first id is predicted, too.
  EXPECT_EQ(cut_windows(ids, {.window = 3, .bos = 1, .document = 1}, false).size(), 3U);
}

TEST(TokenWindows, EveryIdCountsOnceForAnyOptions) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::int64_t> ids(1 + random() % 60);
    for (auto& id : ids) id = static_cast<std::int64_t>(random() % 8);
    TokenOptions options{.window = 2 + static_cast<std::int64_t>(random() % 12)};
    if (random() % 2 == 0) options.bos = 3;
    if (random() % 2 == 0) options.document = 5;
    const std::int64_t longest = options.window - (options.bos >= 0 ? 1 : 0);
    if (random() % 2 == 0) {
      options.stride = 1 + static_cast<std::int64_t>(random() % static_cast<unsigned>(longest));
    }
    std::vector<int> counted(ids.size());
    for (const auto& window : cut_windows(stream(ids), options, false)) {
      ASSERT_GE(window.targets.begin, 1);
      ASSERT_EQ(window.targets.end, window.length());
      ASSERT_LE(window.length(), options.window);
      const std::int64_t head = window.bos ? 1 : 0;
      for (std::int64_t at = window.targets.begin; at < window.targets.end; ++at) {
        ++counted[static_cast<std::size_t>(window.begin + at - head)];
      }
    }
    for (std::size_t i = 0; i < ids.size(); ++i) {
      ASSERT_LE(counted[i], 1);
      const bool starts = i == 0 || ids[i] == options.document;
      const bool overlaps = options.stride > 0 && options.stride < longest;
      if (options.bos >= 0 && ids[i] != options.bos) {
        ASSERT_EQ(counted[i], 1);
      } else if (options.bos < 0 && overlaps && !starts) {
        ASSERT_EQ(counted[i], 1);
      }
    }
  }
}

TEST(TokenWindows, BadOptions) {
  const auto check = [](TokenOptions options) { check_token_options(options); };
  EXPECT_ERROR(check({.window = 1}), ErrorKind::kUsage, "`window`");
  EXPECT_ERROR(check({.window = 4, .stride = 5}), ErrorKind::kUsage, "1 to 4");
  EXPECT_ERROR(check({.window = 4, .stride = 4, .bos = 0}), ErrorKind::kUsage, "1 to 3");
  EXPECT_ERROR(check({.window = 4, .stride = -1}), ErrorKind::kUsage, "`stride`");
  EXPECT_ERROR(check({.window = 4, .dtype = "int8"}), ErrorKind::kUsage, "`dtype`");
  EXPECT_NO_THROW(check({.window = 4, .stride = 4}));
}

TEST(TokenStream, RawFilesOfEachType) {
  const TempDir dir;
  const auto read = [&](const char* dtype) {
    return values(read_token_stream(dir / "ids.bin", {.window = 2, .dtype = dtype}));
  };
  const std::vector<std::int64_t> expected{1, 511, 40000};
  write_text(dir / "ids.bin", raw<std::uint16_t>({1, 511, 40000}));
  EXPECT_EQ(read("uint16"), expected);
  EXPECT_ERROR(read("int32"), ErrorKind::kFile, "`dtype`");
  write_text(dir / "ids.bin", raw<std::int32_t>({1, 511, 40000}));
  EXPECT_EQ(read("int32"), expected);
  EXPECT_EQ(read("uint32"), expected);
  write_text(dir / "ids.bin", raw<std::int64_t>({1, 511, 40000}));
  EXPECT_EQ(read("int64"), expected);
  write_text(dir / "ids.bin", raw<std::int32_t>({1, -2}));
  EXPECT_ERROR(read("int32"), ErrorKind::kFile, "negative");
  write_text(dir / "ids.bin", "");
  EXPECT_ERROR(read("uint16"), ErrorKind::kFile, "ids.bin");
  EXPECT_ERROR(read_token_stream(dir / "none.bin", {.window = 2, .dtype = "int32"}),
               ErrorKind::kFile, "none.bin");
}

/// A .npy file of one dimension.
void save_npy(const std::filesystem::path& path, const std::string& descr, std::size_t count,
              const std::string& bytes) {
  const std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (" +
                             std::to_string(count) + ",)}\n";
  std::string text("\x93NUMPY\x01\x00", 8);
  text += static_cast<char>(header.size());
  text += '\0';
  write_text(path, text + header + bytes);
}

TEST(TokenStream, AsDataset) {
  const TempDir dir;
  save_npy(dir / "ids.npy", "<u2", 5, raw<std::uint16_t>({7, 8, 9, 10, 65000}));
  DatasetOptions options;
  options.tokens = {.window = 3};
  const Dataset data = open_dataset(dir / "ids.npy", options);
  EXPECT_TRUE(data.holds_tokens());
  ASSERT_EQ(data.size(), 2);
  EXPECT_EQ(data.sample_name(1), "ids.npy[3:5]");
  EXPECT_EQ(data.targets(1), (TokenSpan{1, 2}));
  EXPECT_THAT(data.describe(), ::testing::HasSubstr("windows of 3 ids, no overlap"));
  const std::vector<std::int64_t> both{1, 0};
  const Batch batch = data.load(both);
  EXPECT_EQ(batch.inputs[0].scalar_type(), at::kLong);
  EXPECT_EQ(values(batch.inputs[0]), (std::vector<std::int64_t>{10, 65000, 0, 7, 8, 9}));

  options.whole_windows = true;
  EXPECT_EQ(open_dataset(dir / "ids.npy", options).size(), 1);
  options.tokens.window = 6;
  EXPECT_ERROR(open_dataset(dir / "ids.npy", options), ErrorKind::kFile, "smaller `window`");
  // Other windows are other samples: the hash must tell them apart.
  options.tokens.window = 2;
  EXPECT_NE(open_dataset(dir / "ids.npy", options).hash(), data.hash());
  // A stream that nothing says how to cut is no data: samples without dimensions fit no model.
  EXPECT_ERROR(open_dataset(dir / "ids.npy"), ErrorKind::kFile, "`window=N`");
}

TEST(TokenStream, OtherArraysAreErrors) {
  const TempDir dir;
  DatasetOptions options;
  options.tokens = {.window = 2};
  save_npy(dir / "floats.npy", "<f4", 2, raw<float>({1, 2}));
  EXPECT_ERROR(open_dataset(dir / "floats.npy", options), ErrorKind::kFile, "integers");
  save_npy(dir / "negative.npy", "<i4", 2, raw<std::int32_t>({1, -1}));
  EXPECT_ERROR(open_dataset(dir / "negative.npy", options), ErrorKind::kFile, "negative");
  const auto rows = testing::source_dir() / "tests/data/fixtures/arrays/c_f4.npy";
  EXPECT_ERROR(open_dataset(rows, options), ErrorKind::kFile, "one dimension");
  const auto named = testing::source_dir() / "tests/data/fixtures/arrays/stored.npz";
  EXPECT_ERROR(open_dataset(named, options), ErrorKind::kFile, "2 arrays");
  write_text(dir / "text.txt", "1 2 3\n");
  EXPECT_ERROR(open_dataset(dir / "text.txt", options), ErrorKind::kFile, "no arrays");
}

}  // namespace
}  // namespace repquant
