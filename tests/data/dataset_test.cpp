#include "data/dataset.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/serialization/pickle.h>

#include <fstream>
#include <limits>
#include <numeric>

#include "data/model_inputs.h"
#include "fixtures.h"
#include "support/errors.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::fixture;
using testing::TempDir;
using testing::write_text;

namespace fs = std::filesystem;

/// Writes a float32 .npy file.
void save(const fs::path& path, const at::Tensor& tensor) {
  const at::Tensor data = tensor.to(at::kFloat).contiguous();
  std::string shape;
  for (const std::int64_t size : data.sizes()) shape += std::to_string(size) + ",";
  const std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + shape + ")}\n";
  fs::create_directories(path.parent_path());
  std::ofstream file(path, std::ios::binary);
  file << std::string("\x93NUMPY\x01\x00", 8) << static_cast<char>(header.size()) << '\0' << header;
  file.write(static_cast<const char*>(data.const_data_ptr()),
             static_cast<std::streamsize>(data.nbytes()));
}

void place(const std::string& name, const fs::path& target) {
  fs::create_directories(target.parent_path());
  fs::copy_file(fixture(name), target);
}

DatasetOptions image_options() {
  DatasetOptions options;
  options.preset = ImagePreset{};
  options.preset->resize = 16;
  options.preset->crop_height = 16;
  options.preset->crop_width = 16;
  return options;
}

Batch load(const Dataset& data, const std::vector<std::int64_t>& indices) {
  return data.load(indices);
}

TEST(Dataset, FlatFolderOfImages) {
  const TempDir dir;
  place("images/rgb8.png", dir / "b.png");
  place("images/jpeg_420.jpg", dir / "a.JPEG");
  place("images/gray8.png", dir / "c");
  for (const char* junk : {".DS_Store", "Thumbs.db", ".hidden"}) write_text(dir / junk, "x");
  const Dataset data = open_dataset(dir.path(), image_options());
  ASSERT_EQ(data.size(), 3);
  EXPECT_EQ(data.sample_name(0), "a.JPEG");
  EXPECT_EQ(data.sample_name(1), "b.png");
  EXPECT_TRUE(data.class_folders().empty());
  EXPECT_TRUE(data.labels().empty());
  const Batch batch = load(data, {2, 1});
  ASSERT_EQ(batch.inputs.size(), 1U);
  EXPECT_TRUE(batch.names.empty());
  EXPECT_EQ(batch.inputs[0].sizes(), (at::IntArrayRef{2, 3, 16, 16}));
  const at::Tensor expected = preprocess(read_image(dir / "b.png"), *image_options().preset);
  EXPECT_TRUE(at::equal(batch.inputs[0][1], expected));
  EXPECT_THAT(data.describe(), ::testing::StartsWith("3 images, "));
  EXPECT_THAT(data.describe(), ::testing::HasSubstr("float32 [3, 16, 16]"));
}

TEST(Dataset, ClassFoldersAreSortedByBytes) {
  const TempDir dir;
  place("images/rgb8.png", dir / "n02/x.png");
  place("images/gray8.png", dir / "n01/z.png");
  place("images/rgba8.png", dir / "n01/deeper/a.png");
  place("images/rgb16.png", dir / "N3/a.png");
  const Dataset data = open_dataset(dir.path(), image_options());
  EXPECT_EQ(data.class_folders(), (std::vector<std::string>{"N3", "n01", "n02"}));
  EXPECT_EQ(data.folder_of_sample(), (std::vector<std::int64_t>{0, 1, 1, 2}));
  EXPECT_EQ(data.sample_name(1), "n01/deeper/a.png");
  EXPECT_TRUE(data.labels().empty());
}

TEST(Dataset, ThreadsDoNotChangeABatch) {
  DatasetOptions options = image_options();
  options.preset->color = ColorMode::kGray;
  const Dataset one = open_dataset(fixture("images"), options);
  options.threads = 3;
  const Dataset three = open_dataset(fixture("images"), options);
  std::vector<std::int64_t> all(static_cast<std::size_t>(one.size()));
  std::iota(all.begin(), all.end(), 0);
  EXPECT_TRUE(at::equal(one.load(all).inputs[0], three.load(all).inputs[0]));
}

TEST(Dataset, BadFoldersAreErrors) {
  const TempDir dir;
  const auto open = [&](const char* name) { return open_dataset(dir / name, image_options()); };
  EXPECT_ERROR(open("missing"), ErrorKind::kFile, "missing");
  fs::create_directory(dir / "empty");
  EXPECT_ERROR(open("empty"), ErrorKind::kFile, "no samples");
  place("images/rgb8.png", dir / "mixed/a.png");
  place("arrays/c_f4.npy", dir / "mixed/b.npy");
  EXPECT_ERROR(open("mixed"), ErrorKind::kFile, "mixed");
  place("images/rgb8.png", dir / "text/a.png");
  write_text(dir / "text/notes.txt", "hello");
  EXPECT_ERROR(open("text"), ErrorKind::kFile, "notes.txt");
  place("images/rgb8.png", dir / "gif/a.png");
  write_text(dir / "gif/b.gif", std::string("GIF89a\0\0", 8));
  EXPECT_ERROR(open("gif"), ErrorKind::kFile, "a GIF image");
  place("images/rgb8.png", dir / "beside/a.png");
  place("images/rgb8.png", dir / "beside/class/b.png");
  EXPECT_ERROR(open("beside"), ErrorKind::kFile, "beside");
  place("images/rgb8.png", dir / "zero/a.png");
  write_text(dir / "zero/b.png", "");
  EXPECT_ERROR(open("zero"), ErrorKind::kFile, "b.png");
}

TEST(Dataset, ImagesNeedAPreset) {
  EXPECT_ERROR(open_dataset(fixture("images")), ErrorKind::kUsage, "preset");
}

TEST(Dataset, CorruptImageIsNamed) {
  const TempDir dir;
  place("images/rgb8.png", dir / "a.png");
  const auto bytes = read_bytes(fixture("images/jpeg_420.jpg"));
  write_text(dir / "b.jpg", std::string(bytes.begin(), bytes.end() - 40));
  const Dataset data = open_dataset(dir.path(), image_options());
  EXPECT_NO_THROW(load(data, {0}));
  EXPECT_ERROR(load(data, {0, 1}), ErrorKind::kFile, "b.jpg");
}

TEST(Dataset, ImagesOfOneBatchMustAgreeInShape) {
  const TempDir dir;
  place("images/rgb8.png", dir / "a.png");
  place("images/one_pixel.png", dir / "b.png");
  DatasetOptions options;
  options.preset = ImagePreset{};
  const Dataset data = open_dataset(dir.path(), options);
  EXPECT_EQ(load(data, {1}).inputs[0].sizes(), (at::IntArrayRef{1, 3, 1, 1}));
  EXPECT_ERROR(load(data, {0, 1}), ErrorKind::kFile, "b.png");
}

TEST(Dataset, ConsecutiveSamplesOfOneShapeShareABatch) {
  const TempDir dir;
  const std::vector<std::int64_t> lengths{4, 4, 5, 4};
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const auto value = static_cast<double>(i);
    save(dir / ("x/" + std::to_string(i) + ".npy"), at::full({3, lengths[i]}, value));
  }
  const Dataset data = open_dataset(dir / "x").with_labels({7, 8, 9, 6});
  const std::vector<std::int64_t> all{0, 1, 2, 3};
  const std::vector<Batch> batches = data.load_batches(all);
  ASSERT_EQ(batches.size(), 3U);
  EXPECT_EQ(batches[0].inputs[0].sizes(), (at::IntArrayRef{2, 3, 4}));
  EXPECT_EQ(batches[1].inputs[0].sizes(), (at::IntArrayRef{1, 3, 5}));
  EXPECT_EQ(batches[2].inputs[0].sizes(), (at::IntArrayRef{1, 3, 4}));
  EXPECT_EQ(batches[0].labels, (std::vector<std::int64_t>{7, 8}));
  EXPECT_EQ(batches[2].labels, (std::vector<std::int64_t>{6}));
  EXPECT_EQ(batches[2].inputs[0].max().item<float>(), 3.0F);
  EXPECT_ERROR(load(data, all), ErrorKind::kFile, "2.npy");

  save(dir / "x/4.npy", at::zeros({3, 4, 1}));
  EXPECT_ERROR(open_dataset(dir / "x").load_batches(std::vector<std::int64_t>{0, 4}),
               ErrorKind::kFile, "4.npy");
}

TEST(Dataset, FolderOfArrays) {
  const TempDir dir;
  save(dir / "x/b.npy", at::full({2, 3}, 2));
  save(dir / "x/a.npy", at::full({2, 3}, 1));
  const Dataset data = open_dataset(dir / "x");
  EXPECT_EQ(data.size(), 2);
  const Batch batch = load(data, {0, 1});
  EXPECT_EQ(batch.inputs[0].sizes(), (at::IntArrayRef{2, 2, 3}));
  EXPECT_EQ(batch.inputs[0][0][0][0].item<float>(), 1.0F);
  EXPECT_EQ(batch.inputs[0][1][0][0].item<float>(), 2.0F);
}

TEST(Dataset, SingleFiles) {
  const Dataset npy = open_dataset(fixture("arrays/c_f8.npy"));
  EXPECT_EQ(npy.size(), 2);
  EXPECT_EQ(load(npy, {1}).inputs[0].scalar_type(), at::kFloat);
  EXPECT_EQ(load(npy, {1}).inputs[0].sum().item<float>(), 12 * 12 + 66);
  EXPECT_EQ(npy.sample_name(1), "c_f8.npy[1]");
  EXPECT_ERROR(load(npy, {2}), ErrorKind::kUsage, "0 to 1");
  EXPECT_ERROR(load(npy, {}), ErrorKind::kUsage, "at least one");

  const Dataset npz = open_dataset(fixture("arrays/stored.npz"));
  EXPECT_EQ(npz.input_names(), (std::vector<std::string>{"pixels", "ids"}));
  EXPECT_EQ(load(npz, {0, 1}).inputs[1].scalar_type(), at::kLong);

  const Dataset labelled = open_dataset(fixture("arrays/deflated.npz"));
  EXPECT_EQ(labelled.labels(), (std::vector<std::int64_t>{4, 2}));
  EXPECT_EQ(load(labelled, {1, 1, 0}).labels, (std::vector<std::int64_t>{2, 2, 4}));
  EXPECT_EQ(labelled.input_names(), (std::vector<std::string>{"pixels"}));

  const Dataset dict = open_dataset(fixture("arrays/dict.pt"));
  EXPECT_EQ(dict.labels(), (std::vector<std::int64_t>{5, 6}));
  EXPECT_EQ(load(open_dataset(fixture("arrays/list.pt")), {0}).inputs.size(), 2U);

  EXPECT_ERROR(open_dataset(fixture("arrays/scalar.npy")), ErrorKind::kFile, "no dimension");
  EXPECT_ERROR(open_dataset(fixture("arrays/model.pt")), ErrorKind::kFile, "submodules");
}

// A model may have an input of that name, as nn.Transformer(x, y).
TEST(Dataset, AnArrayYThatIsNoLabelIsAnInput) {
  const TempDir dir;
  const auto opened = [&](const at::Tensor& y) {
    const auto path = dir / "both.pt";
    c10::Dict<std::string, at::Tensor> arrays;
    arrays.insert("x", at::randn({3, 2}));
    arrays.insert("y", y);
    write_text(path, [&] {
      const auto bytes = torch::jit::pickle_save(arrays);
      return std::string(bytes.begin(), bytes.end());
    }());
    return open_dataset(path);
  };
  EXPECT_EQ(opened(at::randn({3, 2})).input_names(), (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(opened(at::arange(6).view({3, 2})).input_names().size(), 2U);
  EXPECT_EQ(opened(at::arange(3)).labels(), (std::vector<std::int64_t>{0, 1, 2}));
}

TEST(Dataset, WhatIsNotFiniteIsFound) {
  const TempDir dir;
  at::Tensor values = at::zeros({3, 2});
  values[1][1] = -std::numeric_limits<float>::infinity();
  values[2][0] = std::numeric_limits<float>::quiet_NaN();
  save(dir / "values.npy", values);
  const Dataset data = open_dataset(dir / "values.npy");
  const auto found = [&](const std::vector<std::int64_t>& indices) {
    return find_not_finite(load(data, indices), data, indices);
  };
  EXPECT_FALSE(found({0}));
  ASSERT_TRUE(found({0, 1}));
  EXPECT_EQ(found({0, 1})->where, "an input of values.npy[1]");
  EXPECT_TRUE(found({0, 1})->only_low);
  EXPECT_EQ(found({2, 1})->where, "an input of values.npy[2]");
  EXPECT_FALSE(found({1, 2})->only_low);
}

// Such as the class or the time step of a diffusion model, or an item of a recommender.
TEST(Dataset, OneIntegerASampleNeedsTheNameOfAnInput) {
  const TempDir dir;
  const auto place_values = [&](const char* name, const c10::IValue& values) {
    const auto bytes = torch::jit::pickle_save(values);
    write_text(dir / name, std::string(bytes.begin(), bytes.end()));
  };
  place_values("stream.pt", at::arange(6));
  EXPECT_ERROR(open_dataset(dir / "stream.pt"), ErrorKind::kFile, "one stream of integers");
  c10::Dict<std::string, at::Tensor> arrays;
  arrays.insert("item", at::arange(6));
  place_values("items.pt", arrays);
  const Dataset data = open_dataset(dir / "items.pt");
  EXPECT_EQ(data.size(), 6);
  const Batch batch = load(data, {4, 1});
  EXPECT_EQ(arrange_inputs(batch, {{"item"}, 1, {}})[0].sizes(), (at::IntArrayRef{2}));
  EXPECT_ERROR(arrange_inputs(batch, {{"input_ids"}, 1, {}}), ErrorKind::kUsage,
               "one stream of integers");
}

TEST(Dataset, ListFilesKeepTheirOrder) {
  const TempDir dir;
  place("images/rgb8.png", dir / "images/a.png");
  place("images/gray8.png", dir / "images/b.png");
  write_text(dir / "list.txt", "images/b.png\r\n\nimages/a.png\n");
  const Dataset data = open_dataset(dir / "list.txt", image_options());
  EXPECT_EQ(data.size(), 2);
  EXPECT_EQ(data.sample_name(0), "images/b.png");
  write_text(dir / "list.txt", "images/a.png\nimages/c.png\n");
  EXPECT_ERROR(open_dataset(dir / "list.txt", image_options()), ErrorKind::kFile, "list.txt:2");
  write_text(dir / "list.txt", "\n\n");
  EXPECT_ERROR(open_dataset(dir / "list.txt", image_options()), ErrorKind::kFile, "no files");
}

TEST(Dataset, HashIsOfNamesAndContents) {
  const TempDir dir;
  save(dir / "x/a.npy", at::zeros({2}));
  save(dir / "x/b.npy", at::ones({2}));
  save(dir / "y/a.npy", at::zeros({2}));
  save(dir / "y/b.npy", at::ones({2}));
  const Dataset x = open_dataset(dir / "x");
  EXPECT_EQ(x.hash(), open_dataset(dir / "y").hash());
  EXPECT_EQ(x.hash().size(), 64U);
  const std::vector<std::int64_t> first{0};
  const std::vector<std::int64_t> both{1, 0, 1};
  EXPECT_NE(x.hash(first), x.hash());
  EXPECT_EQ(x.hash(both), x.hash());
  save(dir / "y/b.npy", at::full({2}, 3));
  EXPECT_NE(x.hash(), open_dataset(dir / "y").hash());
  fs::rename(dir / "x/b.npy", dir / "x/c.npy");
  EXPECT_NE(open_dataset(dir / "x").hash(), open_dataset(dir / "y").hash());
}

}  // namespace
}  // namespace repquant
