#include "bindings/call.h"

#include <optional>

#include "base/interrupt.h"
#include "base/json_object.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/progress_observer.h"
#include "bindings/read_arguments.h"
#include "evaluate/result_json.h"
#include "pipeline/result_json.h"
#include "repquant/error.h"
#include "tensor/current_error.h"

namespace repquant {
namespace {

constexpr const char* kSource = "arguments";

Json error_json(const Error& error) {
  const ErrorParts& parts = error.parts();
  return {{"kind", name_of(error.kind())}, {"what", parts.what}, {"where", parts.where},
          {"expected", parts.expected},    {"got", parts.got},   {"hint", parts.hint}};
}

/// Progress on stderr if so asked; warnings into `warnings`.
Observer observer_of(const CallSettings& settings, const InterruptToken& interrupt,
                     Json& warnings) {
  Observer observer;
  if (settings.progress) {
    const Log log{LogOptions{}};
    observer = progress_observer(log, Progress(log));
  }
  observer.warn = [&warnings](const std::string& text) { warnings.push_back(text); };
  observer.check_interrupt = [interrupt] { interrupt.throw_if_interrupted(); };
  return observer;
}

Json run(const std::string& function, const std::string& text, Json& warnings) {
  const Json arguments = parse_json(text, kSource);
  JsonObject object(arguments, kSource, "");
  const CallSettings settings = read_call_settings(object);
  std::optional<InterruptScope> interrupts;  // signals are handled on Python's main thread
  if (settings.interruptible) interrupts.emplace();
  const Observer observer =
      observer_of(settings, interrupts ? interrupts->token() : InterruptToken(), warnings);
  if (function == "quantize") {
    const QuantizeOptions options = read_quantize(object);
    return quantize_json(quantize(options, observer));
  }
  if (function == "evaluate") {
    const EvaluationOptions options = read_evaluate(object);
    return evaluation_json(evaluate(options, observer));
  }
  throw Error(ErrorKind::kUsage,
              {.what = "no such function", .expected = "quantize or evaluate", .got = function});
}

}  // namespace

std::string call(const std::string& function, const std::string& arguments) {
  Json json;
  json["warnings"] = Json::array();
  try {
    json["result"] = run(function, arguments, json["warnings"]);
  } catch (...) {
    json["error"] = error_json(current_error());
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace repquant
