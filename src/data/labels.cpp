#include "data/labels.h"

#include <set>
#include <string_view>
#include <utility>

#include "archive/bytes.h"
#include "base/parse_number.h"
#include "base/text_table.h"
#include "repquant/error.h"

namespace repquant {
namespace {

std::optional<std::int64_t> parse_index(std::string_view text) {
  const auto value = parse_number<std::int64_t>(text);
  return value && *value >= 0 ? value : std::nullopt;
}

[[noreturn]] void bad_line(const std::filesystem::path& path, std::size_t line,
                           const std::string& expected, const std::string& got) {
  throw_file_error("malformed line", path.string() + ":" + std::to_string(line + 1), expected,
                   got.empty() ? "an empty line" : got);
}

std::vector<std::int64_t> read_plain_labels(const std::filesystem::path& path,
                                            const std::vector<std::string>& lines,
                                            std::size_t samples) {
  std::vector<std::int64_t> labels;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const auto label = parse_index(lines[i]);
    if (!label) bad_line(path, i, "one class index, a whole number from 0", lines[i]);
    labels.push_back(*label);
  }
  if (labels.size() != samples) {
    throw_file_error("the labels file does not fit the data", path.string(),
                     counted(samples, "line") + ", one per sample", std::to_string(labels.size()));
  }
  return labels;
}

std::vector<std::int64_t> read_named_labels(const std::filesystem::path& path,
                                            const std::vector<std::string>& lines,
                                            const std::vector<std::string>& samples) {
  std::map<std::string, std::int64_t> by_name;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    const std::size_t tab = lines[i].rfind('\t');
    const auto label =
        tab == std::string::npos ? std::nullopt : parse_index(lines[i].substr(tab + 1));
    if (!label || tab == 0) bad_line(path, i, "relative path, tab, class index", lines[i]);
    if (!by_name.emplace(lines[i].substr(0, tab), *label).second) {
      bad_line(path, i, "each path once", lines[i].substr(0, tab) + " again");
    }
  }
  std::vector<std::int64_t> labels;
  for (const std::string& sample : samples) {
    const auto found = by_name.find(sample);
    if (found == by_name.end()) {
      throw_file_error("the labels file lacks a sample", path.string(),
                       "a line for each of " + counted(samples.size(), "sample"),
                       "none for " + sample, "paths are relative to the folder or list file");
    }
    labels.push_back(found->second);
  }
  return labels;
}

[[noreturn]] void usage(std::string what, std::string where, std::string expected, std::string got,
                        std::string hint) {
  throw Error(ErrorKind::kUsage, {std::move(what), std::move(where), std::move(expected),
                                  std::move(got), std::move(hint)});
}

std::vector<std::int64_t> map_folders(const Dataset& dataset, std::int64_t num_classes,
                                      const std::optional<std::filesystem::path>& classes_file) {
  const std::vector<std::string>& folders = dataset.class_folders();
  std::vector<std::int64_t> index_of_folder;
  if (!classes_file) {
    if (static_cast<std::int64_t>(folders.size()) != num_classes) {
      usage("the class folders do not fit the model", dataset.describe(),
            std::to_string(num_classes) + " class folders, one per logit",
            std::to_string(folders.size()),
            "give `classes`, a file (class index, tab, folder name) to map folders to classes");
    }
    for (std::int64_t i = 0; i < num_classes; ++i) index_of_folder.push_back(i);
  } else {
    const auto classes = read_classes(*classes_file);
    for (const std::string& folder : folders) {
      const auto found = classes.find(folder);
      if (found == classes.end()) {
        usage("the classes file has no line for a class folder", classes_file->string(), "", folder,
              "add the folder to " + classes_file->string());
      }
      index_of_folder.push_back(found->second);
    }
  }
  std::vector<std::int64_t> labels;
  for (const std::int64_t folder : dataset.folder_of_sample()) {
    labels.push_back(index_of_folder[static_cast<std::size_t>(folder)]);
  }
  return labels;
}

}  // namespace

std::map<std::string, std::int64_t> read_classes(const std::filesystem::path& path) {
  const std::vector<std::string> lines = read_lines(path);
  std::map<std::string, std::int64_t> classes;
  std::set<std::int64_t> indices;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    constexpr const char* kExpected = "class index, tab, folder name (and more columns)";
    const std::size_t first = lines[i].find('\t');
    if (first == std::string::npos) bad_line(path, i, kExpected, lines[i]);
    const auto index = parse_index(lines[i].substr(0, first));
    const std::size_t second = lines[i].find('\t', first + 1);
    const std::string folder =
        lines[i].substr(first + 1, second == std::string::npos ? second : second - first - 1);
    if (!index || folder.empty()) bad_line(path, i, kExpected, lines[i]);
    if (!indices.insert(*index).second || !classes.emplace(folder, *index).second) {
      bad_line(path, i, "each class index and each folder once", lines[i]);
    }
  }
  if (classes.empty()) throw_file_error("the classes file is empty", path.string());
  return classes;
}

std::vector<std::int64_t> read_labels(const std::filesystem::path& path,
                                      const std::vector<std::string>& samples) {
  const std::vector<std::string> lines = read_lines(path);
  if (lines.empty()) throw_file_error("the labels file is empty", path.string());
  const bool named = lines[0].find('\t') != std::string::npos;
  return named ? read_named_labels(path, lines, samples)
               : read_plain_labels(path, lines, samples.size());
}

bool has_labels(const Dataset& dataset) {
  return !dataset.labels().empty() || !dataset.class_folders().empty();
}

Dataset resolve_labels(const Dataset& dataset, std::int64_t num_classes,
                       const std::optional<std::filesystem::path>& classes_file) {
  std::vector<std::int64_t> labels = dataset.labels();
  if (!labels.empty() && classes_file) {
    usage("two sources of labels", "", "a labels file or array, or a classes file", "both",
          "leave out `classes`, or the labels");
  }
  if (labels.empty() && dataset.class_folders().empty()) {
    usage("the data has no labels", "", "class folders, a labels file, or an array named labels",
          "", "give `labels`");
  }
  if (labels.empty()) labels = map_folders(dataset, num_classes, classes_file);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] >= 0 && labels[i] < num_classes) continue;
    usage("a label does not fit the model", "",
          "0 to " + std::to_string(num_classes - 1) + ", one class per logit",
          std::to_string(labels[i]) + " for " + dataset.sample_name(static_cast<std::int64_t>(i)),
          "");
  }
  return dataset.with_labels(std::move(labels));
}

}  // namespace repquant
