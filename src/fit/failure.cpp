#include "fit/failure.h"

#include <c10/util/Exception.h>

#include <exception>

#include "tensor/current_error.h"

namespace repquant {
namespace {

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

bool is_of_one_site(ErrorKind kind) {
  return kind == ErrorKind::kNumerical || kind == ErrorKind::kUnsupported ||
         kind == ErrorKind::kInternal;
}

std::string reason_of_failure() {
  rethrow_if_out_of_memory("");
  try {
    throw;
  } catch (const Error& e) {
    if (!is_of_one_site(e.kind())) throw;
    return first_line(e.parts().what);
  } catch (const c10::Error& e) {
    return first_line(e.what_without_backtrace());
  } catch (const std::exception& e) {
    return first_line(e.what());
  }
}

}  // namespace repquant
