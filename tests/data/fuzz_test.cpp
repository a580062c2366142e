// Seeded mutations of valid files: every one must be read or end in an Error, nothing else.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <zip.h>

#include <algorithm>
#include <cstdlib>
#include <random>

#include "archive/zip_reader.h"
#include "fixtures.h"
#include "support/errors.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::fixture;
using testing::fixture_files;
using testing::TempDir;
using testing::write_text;

/// REPQUANT_FUZZ_FACTOR in the environment multiplies the number of mutations.
int rounds(int count) {
  const char* factor = std::getenv("REPQUANT_FUZZ_FACTOR");
  return factor != nullptr ? count * std::max(std::atoi(factor), 1) : count;
}

std::vector<std::uint8_t> mutate(std::vector<std::uint8_t> bytes, std::mt19937_64& random) {
  const std::uint64_t kind = random() % 4;
  const std::size_t head = std::min<std::size_t>(bytes.size(), 512);
  // Headers are where the decisions are made, so half of the changes go there.
  const auto place = [&] { return random() % 2 == 0 ? random() % head : random() % bytes.size(); };
  const std::uint64_t changes = 1 + random() % 4;
  for (std::uint64_t i = 0; i < changes && kind != 3; ++i) {
    std::uint8_t& byte = bytes[place()];
    if (kind == 0) byte = static_cast<std::uint8_t>(byte ^ (1U << random() % 8));
    if (kind == 1) byte = static_cast<std::uint8_t>(random());
    if (kind == 2) byte = random() % 2 == 0 ? 0x00 : 0xFF;
  }
  if (kind == 3) bytes.resize(random() % bytes.size());
  return bytes;
}

/// Returns true if `read` succeeded, false if it threw an Error about a file.
template <typename Read>
bool survives(const Read& read) {
  const auto error = testing::error_of(read);
  if (error) {
    EXPECT_EQ(error->kind(), ErrorKind::kFile) << error->what();
  }
  return !error;
}

TEST(Fuzz, Images) {
  std::mt19937_64 random(1);
  ImageLimits limits;
  limits.max_pixels = 1 << 20;
  int read = 0;
  int refused = 0;
  for (const auto& file : fixture_files("images")) {
    const auto bytes = read_bytes(file);
    for (int i = 0; i < rounds(60); ++i) {
      const auto mutated = mutate(bytes, random);
      ++(survives([&] { decode_image(mutated, "fuzz", limits); }) ? read : refused);
    }
  }
  EXPECT_GT(read, 20);
  EXPECT_GT(refused, 500);
}

TEST(Fuzz, NpyHeaders) {
  std::mt19937_64 random(2);
  int read = 0;
  int refused = 0;
  for (const auto& file : fixture_files("arrays", ".npy")) {
    const auto bytes = read_bytes(file);
    for (int i = 0; i < rounds(100); ++i) {
      const auto mutated = mutate(bytes, random);
      ++(survives([&] { parse_npy(mutated, "fuzz"); }) ? read : refused);
    }
  }
  EXPECT_GT(read, 100);
  EXPECT_GT(refused, 500);
}

void fuzz_archives(const std::string& extension, std::uint64_t seed, int count) {
  const TempDir dir;
  std::mt19937_64 random(seed);
  int read = 0;
  int refused = 0;
  for (const auto& file : fixture_files("arrays", extension)) {
    const auto bytes = read_bytes(file);
    for (int i = 0; i < rounds(count); ++i) {
      const auto mutated = mutate(bytes, random);
      write_text(dir / "fuzz", std::string(mutated.begin(), mutated.end()));
      const bool done = survives([&] {
        for (const at::Tensor& tensor : read_arrays(dir / "fuzz").tensors) {
          // Touches every element, so that a sanitizer sees a tensor beyond its storage.
          const at::Tensor copy = tensor.clone();
          EXPECT_EQ(copy.numel(), tensor.numel());
        }
      });
      ++(done ? read : refused);
    }
  }
  EXPECT_GT(read, 5);
  EXPECT_GT(refused, 50);
}

TEST(Fuzz, NpzArchives) { fuzz_archives(".npz", 3, 150); }

TEST(Fuzz, PtArchives) { fuzz_archives(".pt", 4, 60); }

void write_zip(const std::filesystem::path& path, const ZipReader& from, const std::string& changed,
               const std::vector<std::uint8_t>& content) {
  std::filesystem::remove(path);
  int code = 0;
  zip_t* archive = zip_open(path.c_str(), ZIP_CREATE, &code);
  ASSERT_NE(archive, nullptr) << code;
  std::vector<std::vector<std::uint8_t>> entries;  // libzip reads them at the end
  for (const std::string& name : from.names()) {
    entries.push_back(name == changed ? content : from.read(name));
    zip_source_t* source =
        zip_source_buffer(archive, entries.back().data(), entries.back().size(), 0);
    ASSERT_GE(zip_file_add(archive, name.c_str(), source, 0), 0);
  }
  ASSERT_EQ(zip_close(archive), 0);
}

// The checksums of the archive keep most changes from the unpickler, so these are made up anew.
TEST(Fuzz, Pickles) {
  const TempDir dir;
  std::mt19937_64 random(5);
  int read = 0;
  int refused = 0;
  for (const char* name : {"tensor", "dict", "list", "module"}) {
    const ZipReader archive(fixture(std::string("arrays/") + name + ".pt"));
    const std::string pickle = std::string(name) + "/data.pkl";
    for (int i = 0; i < rounds(250); ++i) {
      auto bytes = archive.read(pickle);
      for (std::uint64_t change = random() % 3; change < 3; ++change) {
        bytes[random() % bytes.size()] = static_cast<std::uint8_t>(random());
      }
      write_zip(dir / "fuzz", archive, pickle, bytes);
      const bool done = survives([&] {
        for (const at::Tensor& tensor : read_arrays(dir / "fuzz").tensors) (void)tensor.clone();
      });
      ++(done ? read : refused);
    }
  }
  EXPECT_GT(read, 10);
  EXPECT_GT(refused, 500);
}

}  // namespace
}  // namespace repquant
