#include "data/folder.h"

#include <algorithm>
#include <set>
#include <system_error>
#include <utility>

namespace repquant {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxDepth = 16;  // stops at cycles of symbolic links
constexpr const char* kLabelsFile = "labels.txt";
constexpr const char* kExpected = "JPEG or PNG images, or .npy, .npz, .pt arrays";

bool is_junk(const std::string& name) {
  return name.starts_with('.') || name == "Thumbs.db" || name == "desktop.ini" ||
         name == "__MACOSX";
}

struct Walk {
  std::vector<FileEntry> files;
  std::vector<std::string> top_folders;
  std::optional<fs::path> labels_file;
};

void walk(const fs::path& folder, const std::string& prefix, int depth, Walk& found) {
  if (depth > kMaxDepth) {
    throw_file_error("the folder is nested too deeply", folder.string(),
                     "at most " + std::to_string(kMaxDepth) + " levels");
  }
  std::error_code code;
  for (fs::directory_iterator it(folder, code), end; !code && it != end; it.increment(code)) {
    const std::string leaf = it->path().filename().string();
    if (is_junk(leaf)) continue;
    const std::string name = prefix + leaf;
    std::error_code status_code;
    const fs::file_status status = it->status(status_code);
    if (fs::is_directory(status)) {
      if (depth == 0) found.top_folders.push_back(leaf);
      walk(it->path(), name + "/", depth + 1, found);
    } else if (depth == 0 && leaf == kLabelsFile) {
      found.labels_file = it->path();
    } else if (fs::is_regular_file(status)) {
      found.files.push_back({name, it->path()});
    } else {
      throw_file_error("not a regular file", it->path().string(), kExpected,
                       fs::exists(status) ? "a special file" : "a broken link");
    }
  }
  if (code) throw_file_error("cannot read the folder", folder.string(), {}, code.message());
}

/// All files that are no samples in one message.
[[noreturn]] void fail_with_junk(const std::vector<const FileEntry*>& junk) {
  constexpr std::size_t kNamed = 8;
  std::string got;
  for (std::size_t i = 0; i < std::min(kNamed, junk.size()); ++i) {
    const FileEntry& file = *junk[i];
    const bool text = file_kind(file.path) == FileKind::kText;
    got += (i > 0 ? ", " : "") + (junk.size() > 1 ? file.name + ": " : std::string()) +
           (text ? "text" : describe_content(read_head(file.path)));
  }
  if (junk.size() > kNamed) got += ", and " + std::to_string(junk.size() - kNamed) + " more";
  const bool one = junk.size() == 1;
  throw_file_error(
      one ? "a file is neither an image nor an array"
          : std::to_string(junk.size()) + " files are neither images nor arrays",
      junk.front()->path.string(), kExpected, got,
      one ? "remove it, or name the right folder" : "remove them, or name the right folder");
}

/// Checks that all files are images, or all arrays, and says which.
bool all_images(const std::vector<FileEntry>& files) {
  const FileEntry* image = nullptr;
  const FileEntry* array = nullptr;
  std::vector<const FileEntry*> junk;
  for (const FileEntry& file : files) {
    const FileKind kind = file_kind(file.path);
    if (is_image(kind)) {
      image = &file;
    } else if (is_array(kind)) {
      array = &file;
    } else {
      junk.push_back(&file);
    }
    if (image != nullptr && array != nullptr) {
      throw_file_error("images and arrays are mixed", file.path.string(), "files of one kind",
                       image->name + " and " + array->name, "put them into separate folders");
    }
  }
  if (!junk.empty()) fail_with_junk(junk);
  return image != nullptr;
}

void find_class_folders(FileList& list, std::vector<std::string> top_folders,
                        const fs::path& root) {
  if (top_folders.empty()) return;
  std::sort(top_folders.begin(), top_folders.end());
  for (const FileEntry& file : list.files) {
    const std::size_t slash = file.name.find('/');
    if (slash == std::string::npos) {
      throw_file_error("files lie beside class folders", root.string(),
                       "all files in class folders, or none",
                       file.name + " beside folder " + top_folders.front());
    }
    const auto folder =
        std::lower_bound(top_folders.begin(), top_folders.end(), file.name.substr(0, slash));
    list.folder_of_file.push_back(folder - top_folders.begin());
  }
  list.class_folders = std::move(top_folders);
}

}  // namespace

FileList list_folder(const fs::path& folder) {
  Walk found;
  walk(folder, "", 0, found);
  if (found.files.empty()) {
    throw_file_error("the folder holds no samples", folder.string(), kExpected, "no files");
  }
  std::sort(found.files.begin(), found.files.end(),
            [](const FileEntry& a, const FileEntry& b) { return a.name < b.name; });
  FileList list;
  list.files = std::move(found.files);
  list.labels_file = std::move(found.labels_file);
  list.images = all_images(list.files);
  find_class_folders(list, std::move(found.top_folders), folder);
  return list;
}

FileList list_from_file(const fs::path& list_file) {
  FileList list;
  const std::vector<std::string> lines = read_lines(list_file);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    const fs::path path = list_file.parent_path() / lines[i];
    std::error_code code;
    if (!fs::is_regular_file(path, code)) {
      throw_file_error("a listed file does not exist",
                       list_file.string() + ":" + std::to_string(i + 1),
                       "one path a line, relative to the list", lines[i].substr(0, 80),
                       "a text file is read as a list of files; token ids of a text are made by "
                       "scripts/tokenize_text.py");
    }
    list.files.push_back({lines[i], path});
  }
  if (list.files.empty()) throw_file_error("the list names no files", list_file.string());
  list.images = all_images(list.files);
  return list;
}

}  // namespace repquant
