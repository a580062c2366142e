#include "base/progress.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <utility>

#include "base/text_table.h"

namespace repquant {
namespace {

constexpr double kTerminalInterval = 0.1;  // seconds between two rewritten lines
constexpr double kPlainInterval = 10;      // seconds between two plain lines

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

struct Progress::State {
  Log log;
  Clock clock;
  std::mutex mutex{};
  ProgressState progress{};
  double began = 0;
  double shown = 0;
  bool active = false;

  void show(bool now) {
    const double time = clock();
    const double interval = log.on_terminal() ? kTerminalInterval : kPlainInterval;
    if (!now && time - shown < interval) return;
    shown = time;
    progress.seconds = time - began;
    if (log.on_terminal()) {
      log.status(progress_text(progress));
    } else {
      log.info(progress_text(progress));
    }
  }

  void end() {
    if (!active) return;
    active = false;
    log.status("");
    log.info(progress.phase + ": " + std::to_string(progress.done) + " in " +
             format_duration(clock() - began));
  }
};

std::string progress_text(const ProgressState& state) {
  std::string text = state.phase + " " + std::to_string(state.done);
  if (state.total > 0) {
    const std::size_t percent = state.done * 100 / state.total;
    text += "/" + std::to_string(state.total) + " (" + std::to_string(percent) + " %)";
    if (state.done > 0 && state.done < state.total) {
      const double rate = state.seconds / static_cast<double>(state.done);
      text +=
          ", " + format_duration(rate * static_cast<double>(state.total - state.done)) + " left";
    }
  }
  if (!state.item.empty()) text += ": " + state.item;
  return text;
}

Progress::Progress(Log log) : Progress(std::move(log), steady_seconds) {}

Progress::Progress(Log log, Clock clock)
    : state_(new State{.log = std::move(log), .clock = std::move(clock)}) {}

void Progress::begin(std::string_view phase, std::size_t total) const {
  if (state_ == nullptr) return;
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->end();
  state_->progress = {.phase = std::string(phase), .item = "", .done = 0, .total = total};
  state_->began = state_->clock();
  state_->active = true;
  state_->show(true);
}

void Progress::item(std::string_view name) const {
  if (state_ == nullptr) return;
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->progress.item = name;
  if (state_->active) state_->show(false);
}

void Progress::advance(std::size_t count) const {
  if (state_ == nullptr) return;
  const std::lock_guard<std::mutex> lock(state_->mutex);
  ProgressState& progress = state_->progress;
  progress.done += count;
  if (progress.total > 0) progress.done = std::min(progress.done, progress.total);
  if (state_->active) state_->show(false);
}

void Progress::finish() const {
  if (state_ == nullptr) return;
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->end();
}

}  // namespace repquant
