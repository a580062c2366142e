// Scans the source text of TorchScript before it is compiled.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace repquant {

/// Throws Error kFile for text that a compiler that recurses could not survive (brackets,
/// indentation or chains of operators that are too deep), and unless `trusted` Error kUnsupported
/// for operators that reach files, processes or networks, that bypass the checks of tensors'
/// bounds, or that lie in name spaces that a model does not need. `where` names the text.
/// Returns the number of lines that are code.
std::size_t check_code(std::string_view text, const std::string& where, bool trusted);

}  // namespace repquant
