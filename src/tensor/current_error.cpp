#include "tensor/current_error.h"

#include <c10/util/Exception.h>

#include <cstdint>
#include <exception>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "base/memory.h"

namespace repquant {
namespace {

constexpr std::size_t kLongestMessage = 400;

Error out_of_memory(const std::string& where) {
  return {ErrorKind::kResource,
          {.what = "out of memory",
           .where = where,
           .hint = "use a smaller `batch_size` or fewer samples"}};
}

Error internal_error(const std::string& text) {
  return {ErrorKind::kInternal, {.what = "internal error: " + text}};
}

}  // namespace

bool is_out_of_memory(const std::exception& e) {
  if (dynamic_cast<const std::bad_alloc*>(&e) != nullptr) return true;
  if (const auto* system = dynamic_cast<const std::system_error*>(&e)) {
    return system->code() == std::errc::not_enough_memory ||
           system->code() == std::errc::resource_unavailable_try_again;
  }
  const std::string_view text = e.what();
  if (text.find("could not create") != text.npos) {  // oneDNN names no reason
    constexpr std::int64_t kLittle = std::int64_t{1} << 26;
    const std::optional<MemoryRoom> room = memory_room();
    return room && room->bytes < kLittle;
  }
  return text.find("allocate memory") != text.npos || text.find("std::bad_alloc") != text.npos;
}

void rethrow_if_out_of_memory(const std::string& where) {
  try {
    throw;
  } catch (const Error&) {
    return;
  } catch (const std::exception& e) {
    if (is_out_of_memory(e)) throw out_of_memory(where);
  } catch (...) {
    return;
  }
}

std::string interpreter_message(const std::string& text) {
  constexpr auto npos = std::string::npos;
  std::string message = text;
  const std::string marker = "RuntimeError: ";
  if (const auto at = message.rfind(marker); at != npos) {
    message = message.substr(at + marker.size());
  }
  message.erase(0, message.find_first_not_of('\n'));
  while (!message.empty() && message.back() == '\n') message.pop_back();
  if (const auto end = message.find('\n'); end != npos) message.resize(end);
  // oneDNN says how to debug it, not what is wrong.
  if (const auto end = message.find(". Run workload with environment variable"); end != npos) {
    message = "an operator does not take values of these shapes (" + message.substr(0, end) + ")";
  }
  if (message.size() > kLongestMessage) message.resize(kLongestMessage);
  return message;
}

Error current_error() {
  try {
    throw;
  } catch (const Error& e) {
    return e;
  } catch (const c10::Error& e) {
    return is_out_of_memory(e) ? out_of_memory("") : internal_error(e.what_without_backtrace());
  } catch (const std::exception& e) {
    return is_out_of_memory(e) ? out_of_memory("") : internal_error(e.what());
  } catch (...) {
    return internal_error("an exception of unknown kind");
  }
}

}  // namespace repquant
