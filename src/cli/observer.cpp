#include "cli/observer.h"

#include "base/progress_observer.h"
#include "cli/option_names.h"

namespace repquant::cli {

Observer observer_of(const Context& context) {
  Observer observer = progress_observer(context.log, context.progress);
  observer.info = [context](const std::string& text) { context.log.info(with_option_names(text)); };
  observer.warn = [context](const std::string& text) {
    context.log.warning(with_option_names(text));
  };
  observer.check_interrupt = [context] { context.interrupt.throw_if_interrupted(); };
  return observer;
}

}  // namespace repquant::cli
