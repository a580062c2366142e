#include "tensor/current_error.h"

#include <c10/util/Exception.h>

#include <exception>
#include <new>
#include <string>

namespace repquant {
namespace {

Error out_of_memory() {
  return {ErrorKind::kResource,
          {.what = "out of memory", .hint = "a smaller batch size or fewer samples"}};
}

Error internal_error(const std::string& text) {
  return {ErrorKind::kInternal, {.what = "internal error: " + text}};
}

}  // namespace

Error current_error() {
  try {
    throw;
  } catch (const Error& e) {
    return e;
  } catch (const std::bad_alloc&) {
    return out_of_memory();
  } catch (const c10::Error& e) {
    const std::string text = e.what_without_backtrace();
    const bool memory = text.find("allocate memory") != std::string::npos;
    return memory ? out_of_memory() : internal_error(text);
  } catch (const std::exception& e) {
    return internal_error(e.what());
  } catch (...) {
    return internal_error("an exception of unknown kind");
  }
}

}  // namespace repquant
