#include "cli/hooks.h"

#include <memory>

namespace repquant::cli {

QuantizeHooks quantize_hooks(const Context& context) {
  QuantizeHooks hooks;
  auto done = std::make_shared<std::size_t>(0);
  hooks.on_phase = [context, done](const std::string& phase, std::size_t items) {
    *done = 0;
    context.progress.finish();
    if (items > 0) {
      context.progress.begin(phase, items);
    } else {  // short, or of unknown length
      context.log.debug(phase);
      context.log.status(phase);
    }
  };
  hooks.on_item = [context, done](const std::string& item, std::size_t finished) {
    if (finished > *done) context.progress.advance(finished - *done);
    *done = finished;
    if (!item.empty()) context.progress.item(item);
  };
  hooks.info = [context](const std::string& text) { context.log.info(text); };
  hooks.warn = [context](const std::string& text) { context.log.warning(text); };
  hooks.check_interrupt = [context] { context.interrupt.throw_if_interrupted(); };
  return hooks;
}

EvaluationHooks evaluation_hooks(const Context& context) {
  EvaluationHooks hooks;
  auto reported = std::make_shared<std::int64_t>(0);
  hooks.on_progress = [context, reported](std::int64_t done, std::int64_t samples) {
    // Hooks may serve several evaluations: a count that falls begins another one.
    if (done < *reported) *reported = 0;
    if (*reported == 0) context.progress.begin("evaluate", static_cast<std::size_t>(samples));
    context.progress.advance(static_cast<std::size_t>(done - *reported));
    *reported = done;
    if (done < samples) return;
    context.progress.finish();
    *reported = 0;
  };
  hooks.check_interrupt = [context] { context.interrupt.throw_if_interrupted(); };
  hooks.warn = [context](const std::string& text) { context.log.warning(text); };
  return hooks;
}

}  // namespace repquant::cli
