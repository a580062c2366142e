// repquant verify: is an artifact what it says?
#include "repquant/verify.h"

#include <ostream>

#include "cli/command.h"
#include "cli/observer.h"
#include "cli/option_names.h"
#include "cli/render.h"
#include "cli/sample_options.h"
#include "repquant/error.h"

namespace repquant::cli {
namespace {

struct VerifyCommandOptions {
  VerifyOptions verify;
  SampleOptions samples;
  std::string calib;
};

void run_verify(const Context& context, const VerifyOptions& options) {
  const VerifyReport report = verify(options, observer_of(context));
  context.progress.finish();
  if (context.json) {
    write_json(*context.out, verify_json(options.artifact, report));
  } else {
    *context.out << verify_text(report, context.layout);
  }
  if (report.holds()) return;
  throw Error(ErrorKind::kGate,
              {.what = report.claims.back().sentence,
               .where = options.artifact + ", claim " + report.claims.back().name});
}

}  // namespace

Command add_verify(CLI::App& parent) {
  Command command;
  command.app = parent.add_subcommand(
      "verify", "Look whether an artifact is what it says, claim by claim; exit code 1 if not");
  CLI::App& app = *command.app;
  auto options = std::make_shared<VerifyCommandOptions>();
  app.add_option("ARTIFACT", options->verify.artifact, "what repquant quantize has written")
      ->required();
  auto* reference = app.add_option("--reference", options->verify.reference,
                                   "the floating-point model that it was made from")
                        ->type_name("FILE");
  app.add_option("--data", options->samples.data,
                 "data to run its forms on, as for quantize --calib")
      ->type_name("DATA");
  app.add_option("--input-shape", options->samples.input_shape,
                 "shape of one random sample to run its forms on, such as 3,224,224")
      ->type_name("SIZES")
      ->delimiter(',');
  app.add_option("--preprocess", options->verify.preset,
                 "preprocessing preset (default: the files' own)")
      ->type_name("FILE");
  auto* calib = app.add_option("--calib", options->calib,
                               "the calibration data, with --reproduce; or the word synthetic")
                    ->type_name("DATA");
  app.add_flag("--reproduce", options->verify.reproduce,
               "quantize the reference again with the recipe in the artifact, and compare bytes")
      ->needs(reference)
      ->needs(calib);
  add_token_options(app, options->samples.tokens);
  command.example = "repquant verify vit.w8a8.pt --reference vit.pt --data images/";
  command.common = add_common_options(app);
  command.run = [options](const Context& context) {
    VerifyOptions& verification = options->verify;
    verification.data = samples_of(options->samples);
    // What is said of the data holds for the samples to calibrate on, as far as they have it.
    const bool random = options->calib == "synthetic";
    verification.calib = calibration_of(
        {.data = options->calib,
         .tokens = random ? TokenOptions{} : options->samples.tokens,
         .input_shape = random ? options->samples.input_shape : std::vector<std::int64_t>{}});
    verification.threads = context.threads;
    verification.trust = context.trust;
    run_verify(context, verification);
  };
  return command;
}

}  // namespace repquant::cli
