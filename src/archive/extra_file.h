// Small files that ride in a TorchScript archive.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace repquant {

/// The text of an extra file of an archive (torch.jit.save, _extra_files), at most `max_size`
/// bytes; nothing if it has none of this name. Throws Error kFile as ZipReader.
std::optional<std::string> read_extra_file(const std::filesystem::path& archive,
                                           const std::string& name, std::uint64_t max_size);

}  // namespace repquant
