#include "cli/observer.h"

#include <memory>

#include "cli/option_names.h"

namespace repquant::cli {

Observer observer_of(const Context& context) {
  Observer observer;
  auto reported = std::make_shared<std::size_t>(0);  // items done of the phase
  observer.on_phase = [context, reported](const std::string& phase, std::size_t items) {
    *reported = 0;
    context.progress.finish();
    if (items > 0) {
      context.progress.begin(phase, items);
    } else {  // short, or of unknown length
      context.log.debug(phase);
      context.log.status(phase);
    }
  };
  observer.on_item = [context, reported](const std::string& item, std::size_t done) {
    if (done > *reported) context.progress.advance(done - *reported);
    *reported = done;
    if (!item.empty()) context.progress.item(item);
  };
  observer.info = [context](const std::string& text) { context.log.info(with_option_names(text)); };
  observer.warn = [context](const std::string& text) {
    context.log.warning(with_option_names(text));
  };
  observer.check_interrupt = [context] { context.interrupt.throw_if_interrupted(); };
  return observer;
}

}  // namespace repquant::cli
