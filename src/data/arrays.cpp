#include "data/arrays.h"

#include "data/file_kind.h"

namespace repquant {

Arrays read_arrays(const std::filesystem::path& path) {
  switch (file_kind(path)) {
    case FileKind::kNpy:
      return {{}, {read_npy(path)}};
    case FileKind::kNpz:
      return read_npz(path);
    case FileKind::kPt:
      return read_pt(path);
    case FileKind::kEmpty:
      throw_file_error("the file is empty", path.string());
    case FileKind::kText:
      throw_file_error("the file holds text, no arrays", path.string(), "token ids or other arrays",
                       "text",
                       "make token ids of it with the model's tokenizer: scripts/tokenize_text.py");
    default:
      throw_file_error(
          "the file holds no arrays", path.string(),
          ".npy, .npz, or tensors saved by torch.save (zip format, PyTorch 1.6 or newer)");
  }
}

}  // namespace repquant
