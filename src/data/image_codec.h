// The two decoders behind decode_image(). Internal to the room.
#pragma once

#include <string>

#include "data/image.h"

namespace repquant::internal {

Image decode_jpeg(Bytes bytes, const std::string& name, const ImageLimits& limits);
Image decode_png(Bytes bytes, const std::string& name, const ImageLimits& limits);

/// An image of the given size with its pixels allocated. Throws Error kFile beyond the limits.
Image allocate_image(std::int64_t width, std::int64_t height, const std::string& name,
                     const ImageLimits& limits);

}  // namespace repquant::internal
