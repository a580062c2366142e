// Checks of files that come from anywhere, before LibTorch reads them (docs/security.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "repquant/error.h"

namespace repquant {

/// Checks a TorchScript archive, ours or any other: entries and their sizes, pickles and what they
/// claim about storages and tensors, the values that classes of an artifact store, and the code.
/// `trusted`: the code may use operators that reach files and processes.
/// LibTorch believes what a file claims; after this it may.
/// Throws Error kFile (damaged or forged, with the entry in `where`), kUnsupported (operators that
/// a model does not need, formats of PyTorch before 1.4).
void validate_archive(const std::string& path, bool trusted = false);

struct ArchiveSize {
  std::size_t entries = 0;
  std::uint64_t bytes = 0;  // of all entries
};

/// Compares the checksum of every entry, which LibTorch's reader does not look at. Of a file that
/// validate_archive() has found nothing in. Throws Error kFile (damaged, with the entry in
/// `where`).
ArchiveSize check_checksums(const std::string& path);

/// What is said of a file that LibTorch cannot load.
ErrorParts unreadable_model(const std::string& path, const std::string& got);

}  // namespace repquant
