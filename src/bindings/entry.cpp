// call() as an operator, so that Python reaches it without bindings of its own.
#include <torch/library.h>

#include "bindings/call.h"

TORCH_LIBRARY_FRAGMENT(repquant, m) {
  m.def("call(str function, str arguments) -> str",
        [](std::string function, std::string arguments) {
          return repquant::call(function, arguments);
        });
}
