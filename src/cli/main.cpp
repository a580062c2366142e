// Says errors on stderr, in the names of options, and exits with their codes (see repquant --help);
// everything else happens in cli::run().
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

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
  static_cast<void>(std::signal(SIGALRM, [](int) { ::_exit(exit_code(ErrorKind::kInterrupted)); }));
  ::alarm(1);
  remove_temporary_paths();
  if (::isatty(STDERR_FILENO) == 1) std::cerr << '\n';  // below the progress
  const int code = say(error);
  write_error(argc, argv, std::cout, error);
  std::cout.flush();
  ::_exit(code);
}

/// The file that is mapped at this address.
std::string file_mapped_at(const void* address) {
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    // "begin-end permissions offset device inode path", in hexadecimal
    std::uintptr_t begin = 0, end = 0;
    char dash = 0;
    std::istringstream range(line);
    range >> std::hex >> begin >> dash >> end;
    const std::size_t path = line.find('/');
    if (wanted >= begin && wanted < end && path != std::string::npos) return line.substr(path);
  }
  return "";
}

struct Arguments {
  int count = 0;
  const char* const* words = nullptr;
};
Arguments program_arguments;  // for the handler of a signal

/// Pages of a mapped file that are no longer there. Not from inside of the standard library, so
/// that the handler may do what it wants.
void on_bus_error(int signal, siginfo_t* info, void* /*context*/) {
  static std::atomic_flag said;
  while (said.test_and_set()) ::pause();  // another thread
  const std::string file = info->si_code == BUS_ADRERR ? file_mapped_at(info->si_addr) : "";
  if (file.empty()) {
    static_cast<void>(std::signal(signal, SIG_DFL));
    static_cast<void>(std::raise(signal));
    return;
  }
  end_now(program_arguments.count, program_arguments.words,
          Error(ErrorKind::kFile, {.what = "the file became shorter while it was read",
                                   .where = file,
                                   .hint = "leave it alone until the run has ended"}));
}

void watch_mapped_files(int argc, const char* const* argv) {
  program_arguments = {argc, argv};
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
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
  static_cast<void>(std::signal(SIGXFSZ, SIG_IGN));
  repquant::cli::watch_mapped_files(argc, argv);
  return repquant::cli::run_program(argc, argv);
}
