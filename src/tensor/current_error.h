// Exceptions of other libraries as errors of this one.
#pragma once

#include <exception>
#include <string>

#include "repquant/error.h"

namespace repquant {

/// The exception that is being handled (call it in a catch block) as an Error: an Error as it is,
/// exhausted memory as kResource, everything else as kInternal.
Error current_error();

/// True where memory or threads are exhausted, whoever says so: operators of LibTorch throw
/// c10::Error, its interpreter hands on their text alone.
bool is_out_of_memory(const std::exception& e);

/// What went wrong, from the text of an exception of the TorchScript interpreter: its last line,
/// without the trace of TorchScript code; at most 400 characters.
std::string interpreter_message(const std::string& text);

/// For catch blocks that explain why a file, an operator or a model fails: exhausted memory is
/// another cause. Throws Error kResource at `where` (may be empty) if that is the exception being
/// handled, else returns.
void rethrow_if_out_of_memory(const std::string& where);

}  // namespace repquant
