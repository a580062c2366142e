// Whether an artifact is what it says. No LibTorch types here.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "repquant/observer.h"
#include "repquant/samples.h"

namespace repquant {

struct VerifyOptions {
  std::string artifact;
  std::string reference{};  // the floating-point model it was made from; empty: not looked at
  std::optional<SampleSource> data{};  // what the forms run on; none: they are not run
  std::string preset{};                // preprocessing preset of both; empty: the files' own
  bool reproduce = false;              // quantize `reference` again and compare the files
  SampleSource calib{};                // the calibration data, with `reproduce`
  int threads = 1;
  bool trust = false;  // code of both files may reach files and processes (docs/security.md)
};

/// One statement about the artifact, looked at.
struct Claim {
  std::string name;  // "archive", "codes", "fold" ...
  bool holds = false;
  std::string sentence;  // what was seen, with figures; where it does not hold, what is wrong
};

struct VerifyReport {
  std::vector<Claim> claims;          // in order; only the last one may be one that does not hold
  std::vector<std::string> left_out;  // what was not looked at, and what it would take: sentences
  double seconds = 0.0;

  bool holds() const { return claims.empty() || claims.back().holds; }
};

/// Looks at the file from the outside in, and stops at the first claim that does not hold:
///  - archive: checksum of every entry; sizes, ranges and code as before every load
///  - format: version of the format, and who wrote it
///  - table: every site has its submodules, of the right class, with the bits that it states
///  - codes: at most 2^bits different codes in every tensor, all within their range; levels rise
///  - coverage: the sums that the description states are those of its table and of the tensors
///  - integers: every submodule of the table is called; what runs in integers, by form
///  - log grid: the weights of the softmax codes, computed by the artifact's own code, are powers
///    of two, and for base sqrt 2 the sum of two of them (docs/math.md)
///  - model: the reference has the SHA-256 that the artifact names
///  - fold: each folded norm leaves its Linears as they were, on `data`
///  - forms: fused operators equal portable ones on `data`, and with a reference whole outputs
///  - outputs: nearly as close to those of the reference as the description states, on `data`
///  - reproduction: the same recipe, model and calibration data give the same bytes
/// Throws Error for options and files that do not let it look: kFile (missing, data that cannot be
/// read), kUnsupported (not an artifact), kUsage; kInterrupted. What is wrong with the artifact is
/// no Error but a claim that does not hold.
VerifyReport verify(const VerifyOptions& options, const Observer& observer = {});

}  // namespace repquant
