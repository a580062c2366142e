// What quantization changes in the model's outputs.
#pragma once

#include <string>

#include "fit/streams.h"

namespace repquant {

/// Runs the streams to the end, batch by batch, and returns the signal-to-noise ratio in dB of the
/// quantized stream's floating-point outputs over all batches (infinity without noise). What is not
/// finite in the model's own outputs does not count.
/// Throws Error kNumerical, with `where`, if nothing is finite there or a quantized one alone is
/// not.
double output_sqnr_db(Streams& streams, const std::string& where);

}  // namespace repquant
