// Real photographs against PIL itself. Needs the shared folder and a Python with PIL and numpy.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>

#include "data/dataset.h"
#include "data/labels.h"
#include "data/sampling.h"
#include "fixtures.h"
#include "support/temp_dir.h"

namespace repquant {
namespace {

using testing::largest_difference;
using testing::TempDir;
using testing::write_text;

std::string quoted(const std::filesystem::path& path) {
  std::ostringstream text;
  text << '\'' << path.string() << '\'';
  return text.str();
}

std::optional<std::string> python() {
  const auto local = testing::source_dir() / ".venv/bin/python";
  std::string command = std::filesystem::exists(local) ? quoted(local) : std::string("python3");
  const int status = std::system((command + " -c 'import PIL, numpy' 2>/dev/null").c_str());
  if (status != 0) return std::nullopt;
  return command;
}

ImagePreset vit_preset() {
  ImagePreset preset;
  preset.resize = 248;
  preset.crop_height = 224;
  preset.crop_width = 224;
  preset.mean = {0.5F, 0.5F, 0.5F};
  preset.std = {0.5F, 0.5F, 0.5F};
  return preset;
}

TEST(Photographs, EqualPilWithinOneLevel) {
  const auto shared = testing::shared_dir();
  if (!shared) GTEST_SKIP() << "no shared folder with photographs";
  const auto interpreter = python();
  if (!interpreter) GTEST_SKIP() << "no Python with PIL and numpy";

  const auto root = *shared / "data/imagenet/eval";
  DatasetOptions options;
  options.preset = vit_preset();
  const Dataset data = open_dataset(root, options);
  const auto drawn = draw_samples(data.size(), 24, 0);

  const TempDir dir;
  write_text(dir / "preset.json", preset_to_json(vit_preset()));
  std::string names;
  for (const std::int64_t index : drawn) {
    names.append((root / data.sample_name(index)).string()).append("\n");
  }
  write_text(dir / "images.txt", names);
  std::ostringstream command;
  command << *interpreter << ' ' << quoted(testing::source_dir() / "tests/data/pil_reference.py")
          << ' ' << quoted(dir / "preset.json") << ' ' << quoted(dir / "images.txt") << ' '
          << quoted(dir.path());
  ASSERT_EQ(std::system(command.str().c_str()), 0);

  for (std::size_t i = 0; i < drawn.size(); ++i) {
    const Image image =
        resize_and_crop(read_image(root / data.sample_name(drawn[i])), vit_preset());
    const at::Tensor expected = read_npy(dir / (std::to_string(i) + ".npy"));
    EXPECT_LE(largest_difference(image, expected), 1) << data.sample_name(drawn[i]);
  }
}

TEST(Photographs, AllLoadAndHaveLabels) {
  const auto shared = testing::shared_dir();
  if (!shared) GTEST_SKIP() << "no shared folder with photographs";
  DatasetOptions options;
  options.preset = vit_preset();
  options.threads = 2;
  const Dataset data = open_dataset(*shared / "data/imagenet/eval", options);
  EXPECT_EQ(data.size(), 372);
  const Dataset labelled = resolve_labels(data, 1000, *shared / "data/imagenet/classes.tsv");
  std::vector<std::int64_t> indices;
  for (std::int64_t i = 0; i < data.size(); ++i) indices.push_back(i);
  const Batch batch = labelled.load(indices);
  EXPECT_EQ(batch.inputs[0].sizes(), (at::IntArrayRef{372, 3, 224, 224}));
  EXPECT_EQ(batch.labels, labelled.labels());
}

}  // namespace
}  // namespace repquant
