// Says errors on stderr, in the names of options, and exits with their codes (see repquant --help);
// everything else happens in cli::run().
#include <csignal>
#include <iostream>

#include "base/interrupt.h"
#include "cli/app.h"
#include "cli/exit_code.h"
#include "cli/option_names.h"
#include "repquant/error.h"
#include "tensor/current_error.h"

int main(int argc, char** argv) {
  // A file beyond the limit of its size is an error of write(), not the end of the process.
  std::signal(SIGXFSZ, SIG_IGN);
  const repquant::InterruptScope interrupts;
  try {
    return repquant::cli::run(argc, argv, std::cout, interrupts.token());
  } catch (...) {
    const repquant::Error error = repquant::cli::with_option_names(repquant::current_error());
    std::cerr << "repquant: error: " << error.what() << std::endl;
    return repquant::cli::exit_code(error.kind());
  }
}
