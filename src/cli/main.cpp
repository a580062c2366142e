// Says errors on stderr, in the names of options, and exits with their codes (see repquant --help);
// everything else happens in cli::run().
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <iostream>

#include "base/interrupt.h"
#include "base/temporary_path.h"
#include "base/text_table.h"
#include "cli/app.h"
#include "cli/exit_code.h"
#include "cli/option_names.h"
#include "repquant/error.h"
#include "tensor/current_error.h"

namespace repquant::cli {
namespace {

/// How long work has to end by itself after a signal.
constexpr std::chrono::seconds kGrace{2};

/// Says the error; its exit code.
int say(const Error& error) {
  const Error named = with_option_names(error);
  std::cerr << "repquant: error: " << without_control(named.what()) << std::endl;
  return exit_code(named.kind());
}

/// Ends a process whose work goes on.
[[noreturn]] void end_now(int argc, const char* const* argv, const Error& error) {
  // Whoever should read what is said may have stopped reading.
  std::signal(SIGALRM, [](int) { ::_exit(exit_code(ErrorKind::kInterrupted)); });
  ::alarm(1);
  remove_temporary_paths();
  if (::isatty(STDERR_FILENO) == 1) std::cerr << '\n';  // below the progress
  const int code = say(error);
  write_error(argc, argv, std::cout, error);
  std::cout.flush();
  ::_exit(code);
}

int run_program(int argc, const char* const* argv) {
  const InterruptScope interrupts(kGrace, [=](const Error& error) { end_now(argc, argv, error); });
  try {
    return run(argc, argv, std::cout, interrupts.token());
  } catch (...) {
    return say(current_error());
  }
}

}  // namespace
}  // namespace repquant::cli

int main(int argc, char** argv) {
  // A file beyond the limit of its size is an error of write(), not the end of the process.
  std::signal(SIGXFSZ, SIG_IGN);
  return repquant::cli::run_program(argc, argv);
}
