// Named tensors from files: .npy, .npz, and tensors saved by PyTorch or LibTorch.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "archive/bytes.h"

namespace repquant {

/// Tensors in file order. Without names they are positional.
struct Arrays {
  std::vector<std::string> names;  // as many as tensors, or none
  std::vector<at::Tensor> tensors;
};

/// Reads an array file, decided by content. Throws Error kFile for anything else.
Arrays read_arrays(const std::filesystem::path& path);

/// Reads a .npy file (versions 1 to 3; bool, integers and floats, little-endian, C or Fortran
/// order). The file is mapped, not copied, where alignment allows it. uint16 becomes int32, uint32
/// and uint64 become int64 (values above its range are an error).
/// Throws Error kFile naming the file.
at::Tensor read_npy(const std::filesystem::path& path);

/// The same from bytes in memory (always copied). `name` is used in messages.
at::Tensor parse_npy(Bytes bytes, const std::string& name);

/// Reads a .npz archive, stored or deflated. Names that are all arr_0, arr_1, ... (numpy's names
/// for positional arguments) give positional tensors. Throws Error kFile.
Arrays read_npz(const std::filesystem::path& path);

/// Reads what torch.save (zip format) or torch::pickle_save wrote: a tensor, a list or tuple of
/// tensors, a dict from name to tensor; or the attributes of a module without submodules, as
/// torch::save and torch.jit.save write for tensors. No code of the file runs, and every tensor is
/// checked to lie inside its storage. Throws Error kFile for anything else.
Arrays read_pt(const std::filesystem::path& path);

}  // namespace repquant
