#include "base/progress_observer.h"

#include <cstddef>
#include <memory>
#include <string>

namespace repquant {

Observer progress_observer(const Log& log, const Progress& progress) {
  Observer observer;
  auto reported = std::make_shared<std::size_t>(0);  // items done of the phase
  observer.on_phase = [log, progress, reported](const std::string& phase, std::size_t items) {
    *reported = 0;
    progress.finish();
    if (items > 0) {
      progress.begin(phase, items);
    } else {  // short, or of unknown length
      log.debug(phase);
      log.status(phase);
    }
  };
  observer.on_item = [progress, reported](const std::string& item, std::size_t done) {
    if (done > *reported) progress.advance(done - *reported);
    *reported = done;
    if (!item.empty()) progress.item(item);
  };
  return observer;
}

}  // namespace repquant
