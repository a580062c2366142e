// Maps errors to exit codes (see repquant --help) and settings to options; everything else happens
// in cli::run().
#include <c10/util/Exception.h>

#include <exception>
#include <iostream>
#include <new>
#include <string>

#include "base/interrupt.h"
#include "cli/app.h"
#include "cli/option_names.h"
#include "repquant/error.h"

namespace {

int report(const std::string& text, int code) {
  std::cerr << "repquant: error: " << text << std::endl;
  return code;
}

int code_of(repquant::ErrorKind kind) {
  using repquant::ErrorKind;
  switch (kind) {
    case ErrorKind::kGate:
      return 1;
    case ErrorKind::kUsage:
      return 2;
    case ErrorKind::kDevice:
      return 3;
    case ErrorKind::kUnsupported:
      return 4;
    case ErrorKind::kFile:
      return 5;
    case ErrorKind::kResource:
      return 6;
    case ErrorKind::kNumerical:
      return 7;
    case ErrorKind::kInterrupted:
      return 130;
    case ErrorKind::kInternal:
      break;
  }
  return 70;
}

int out_of_memory() {
  return report("out of memory\n  try: a smaller batch size or fewer samples",
                code_of(repquant::ErrorKind::kResource));
}

}  // namespace

int main(int argc, char** argv) {
  using repquant::ErrorKind;
  const repquant::InterruptScope interrupts;
  try {
    return repquant::cli::run(argc, argv, std::cout, interrupts.token());
  } catch (const repquant::Error& e) {
    return report(repquant::cli::with_option_names(e).what(), code_of(e.kind()));
  } catch (const std::bad_alloc&) {
    return out_of_memory();
  } catch (const c10::Error& e) {
    const std::string text = e.what_without_backtrace();
    if (text.find("allocate memory") != std::string::npos) return out_of_memory();
    return report("internal error: " + text, code_of(ErrorKind::kInternal));
  } catch (const std::exception& e) {
    return report(std::string("internal error: ") + e.what(), code_of(ErrorKind::kInternal));
  } catch (...) {
    return report("internal error of unknown kind", code_of(ErrorKind::kInternal));
  }
}
