// Says errors on stderr and maps them to exit codes (see repquant --help); everything else happens
// in cli::run().
#include <iostream>

#include "base/interrupt.h"
#include "cli/app.h"
#include "repquant/error.h"
#include "tensor/current_error.h"

int main(int argc, char** argv) {
  const repquant::InterruptScope interrupts;
  try {
    return repquant::cli::run(argc, argv, std::cout, interrupts.token());
  } catch (...) {
    const repquant::Error error = repquant::current_error();
    std::cerr << "repquant: error: " << error.what() << std::endl;
    return error.exit_code();
  }
}
