// Which files of a folder or list are samples.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/file_kind.h"

namespace repquant {

struct FileEntry {
  std::string name;            // relative path with forward slashes
  std::filesystem::path path;  // as to open it
};

/// Samples of one kind (images, or arrays), in the order in which they are numbered.
struct FileList {
  bool images = false;
  std::vector<FileEntry> files;
  std::vector<std::string> class_folders;    // sorted; empty if the files lie in no class folders
  std::vector<std::int64_t> folder_of_file;  // position in class_folders
  std::optional<std::filesystem::path> labels_file;  // labels.txt of the folder
};

/// Walks a folder. Dot files, Thumbs.db, desktop.ini and __MACOSX are passed over; any other file
/// that is neither image nor array (but for labels.txt at the top), a mixture of images and arrays,
/// or of files beside class folders, and an empty folder are Errors of kind kFile.
FileList list_folder(const std::filesystem::path& folder);

/// Reads a list file: one path a line, relative to the list; empty lines are skipped, the order
/// stands. Throws Error kFile for missing or unknown files, a mixture, an empty list.
FileList list_from_file(const std::filesystem::path& list);

}  // namespace repquant
