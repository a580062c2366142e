#include "base/log.h"

#include <spdlog/details/null_mutex.h>
#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <mutex>
#include <utility>

#include "base/text_table.h"
#include "repquant/error.h"

namespace repquant {
namespace {

constexpr std::string_view kClearLine = "\r\x1b[K";

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      break;
  }
  return spdlog::level::off;
}

// Prefix of a console line and the colour of that prefix.
std::pair<std::string_view, std::string_view> label_of(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::debug:
      return {"debug: ", "\x1b[2m"};
    case spdlog::level::warn:
      return {"warning: ", "\x1b[33m"};
    case spdlog::level::err:
      return {"error: ", "\x1b[31m"};
    default:
      return {"", ""};
  }
}

// Writes whole lines to a stream, above a status line that it owns.
class ConsoleSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  ConsoleSink(std::ostream& stream, bool color) : stream_(stream), color_(color) {}

  void set_status(std::string_view text) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (text.empty() && status_.empty()) return;
    status_ = text;
    stream_ << kClearLine << status_ << std::flush;
  }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    const auto [label, color] = label_of(message.level);
    if (!status_.empty()) stream_ << kClearLine;
    if (color_ && !label.empty()) {
      stream_ << color << label << "\x1b[0m";
    } else {
      stream_ << label;
    }
    stream_.write(message.payload.data(), static_cast<std::streamsize>(message.payload.size()));
    stream_ << '\n' << status_ << std::flush;
  }

  void flush_() override { stream_ << std::flush; }

 private:
  std::ostream& stream_;
  bool color_ = false;
  std::string status_{};
};

/// Throws Error kFile for a file that is there and is no log: it would be lost.
void check_log_file(const std::filesystem::path& path) {
  std::error_code failed;
  if (!std::filesystem::is_regular_file(path, failed)) return;
  constexpr std::string_view kTime = "0000-00-00T00:00:00.000 ";
  std::string head(kTime.size(), '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<std::size_t>(file.gcount()));
  for (char& c : head) {
    if (c >= '0' && c <= '9') c = '0';
  }
  if (head.empty() || head == kTime) return;
  throw Error(ErrorKind::kFile, {.what = "the log would replace a file that is no log",
                                 .where = path.string(),
                                 .hint = "choose another name, or remove the file"});
}

std::shared_ptr<spdlog::sinks::sink> open_file(const std::filesystem::path& path) {
  check_log_file(path);
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path.string(), true);
    sink->set_level(spdlog::level::debug);
    sink->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
    return sink;
  } catch (const spdlog::spdlog_ex& error) {
    throw Error(ErrorKind::kFile,
                {.what = "cannot open log file", .where = path.string(), .got = error.what()});
  }
}

}  // namespace

struct Log::State {
  std::shared_ptr<ConsoleSink> console;
  std::shared_ptr<spdlog::logger> logger;
  bool terminal = false;
};

Log::Log(const LogOptions& options) : state_(std::make_shared<State>()) {
  const bool own_stderr = options.stream == nullptr;
  state_->terminal = options.terminal.value_or(own_stderr && ::isatty(STDERR_FILENO) == 1);
  const char* no_color = std::getenv("NO_COLOR");  // https://no-color.org: set and not empty
  const bool plain = no_color != nullptr && *no_color != '\0';
  state_->console = std::make_shared<ConsoleSink>(
      own_stderr ? std::cerr : *options.stream, options.color.value_or(state_->terminal && !plain));
  state_->console->set_level(spdlog_level(options.level));
  std::vector<spdlog::sink_ptr> sinks = {state_->console};
  if (options.file) sinks.push_back(open_file(*options.file));
  // Not registered with spdlog: there is no global log.
  state_->logger = std::make_shared<spdlog::logger>("repquant", sinks.begin(), sinks.end());
  state_->logger->set_level(spdlog::level::debug);
  state_->logger->flush_on(spdlog::level::debug);
  // A log that cannot be written (full disk) must not end the work it reports on.
  state_->logger->set_error_handler(
      [console = state_->console, said = false](const std::string& message) mutable {
        if (std::exchange(said, true) || !console->should_log(spdlog::level::warn)) return;
        const std::string text = "the log file cannot be written: " + without_control(message);
        console->log({"repquant", spdlog::level::warn, spdlog::string_view_t(text)});
      });
}

void Log::write(LogLevel level, std::string_view text) const {
  if (state_ == nullptr || level == LogLevel::kOff) return;
  const std::string safe = without_control(text);
  state_->logger->log(spdlog_level(level), spdlog::string_view_t(safe.data(), safe.size()));
}

bool Log::shows(LogLevel level) const {
  return state_ != nullptr && state_->console->should_log(spdlog_level(level));
}

bool Log::on_terminal() const { return state_ != nullptr && state_->terminal; }

void Log::status(std::string_view text) const {
  if (on_terminal() && shows(LogLevel::kInfo)) state_->console->set_status(without_control(text));
}

}  // namespace repquant
