// JPEG by libjpeg-turbo, with the choices that PIL's decoder makes.
//
// libjpeg reports errors by a call that must not return; we leave with longjmp. The functions that
// a jump can cross therefore hold no object with a destructor: those live in decode_jpeg().
#include <csetjmp>
#include <cstdio>  // before jpeglib.h, which needs FILE

#include <jpeglib.h>

#include <jerror.h>

#include <array>
#include <memory>

#include "data/image_codec.h"

namespace repquant::internal {
namespace {

struct JpegState {
  jpeg_decompress_struct decoder{};
  jpeg_error_mgr errors{};
  jpeg_progress_mgr progress{};
  std::jmp_buf escape{};
  int max_scans = 0;
  std::array<char, JMSG_LENGTH_MAX> message{};

  JpegState() = default;
  JpegState(const JpegState&) = delete;
  JpegState& operator=(const JpegState&) = delete;
  // Does nothing on a decoder that was never created, and never jumps.
  ~JpegState() { jpeg_destroy_decompress(&decoder); }
};

JpegState* state_of(j_common_ptr common) { return static_cast<JpegState*>(common->client_data); }

[[noreturn]] void leave(j_common_ptr common) {
  JpegState* state = state_of(common);
  common->err->format_message(common, state->message.data());
  std::longjmp(state->escape, 1);
}

// Warnings that mean lost pixels. Others (bytes between markers, odd metadata) are harmless.
void on_message(j_common_ptr common, int level) {
  if (level >= 0) return;
  switch (common->err->msg_code) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_MUST_RESYNC:
      leave(common);
    default:
      break;
  }
}

void no_output(j_common_ptr /*common*/) {}

// A small progressive file can ask for thousands of passes over a large image.
void on_progress(j_common_ptr common) {
  JpegState* state = state_of(common);
  if (state->decoder.input_scan_number <= state->max_scans) return;
  static_cast<void>(std::snprintf(state->message.data(), state->message.size(),
                                  "more than %d scans", state->max_scans));
  std::longjmp(state->escape, 1);
}

// Returns false with state.message set on an error.
bool read_header(JpegState* state, const std::uint8_t* data, std::size_t size) {
  if (setjmp(state->escape) != 0) return false;
  jpeg_decompress_struct& decoder = state->decoder;
  decoder.err = jpeg_std_error(&state->errors);
  decoder.client_data = state;
  state->errors.error_exit = leave;
  state->errors.emit_message = on_message;
  state->errors.output_message = no_output;
  jpeg_create_decompress(&decoder);
  decoder.client_data = state;
  state->progress.progress_monitor = on_progress;
  decoder.progress = &state->progress;
  jpeg_mem_src(&decoder, data, static_cast<unsigned long>(size));
  jpeg_read_header(&decoder, TRUE);
  // As PIL: YCCK becomes CMYK here and RGB only afterwards, grey is replicated.
  decoder.out_color_space = decoder.num_components == 4 ? JCS_CMYK : JCS_RGB;
  return true;
}

// PIL's conversion (Convert.c, cmyk2rgb): 255-k scaled down by c, m, y, with rounded division.
void cmyk_to_rgb(const std::uint8_t* cmyk, int width, std::uint8_t* rgb) {
  for (int x = 0; x < width; ++x, cmyk += 4, rgb += 3) {
    // Adobe stores the complement, and PIL takes it so for every four-component JPEG.
    const unsigned light = cmyk[3];
    for (int channel = 0; channel < 3; ++channel) {
      const unsigned ink = 255U - cmyk[channel];
      const unsigned product = ink * light + 128U;
      const unsigned scaled = ((product >> 8) + product) >> 8;
      rgb[channel] = static_cast<std::uint8_t>(light > scaled ? light - scaled : 0U);
    }
  }
}

// `row` holds one row of four components and is used for CMYK only.
bool read_pixels(JpegState* state, std::uint8_t* pixels, std::uint8_t* row) {
  if (setjmp(state->escape) != 0) return false;
  jpeg_decompress_struct& decoder = state->decoder;
  jpeg_start_decompress(&decoder);
  const bool cmyk = decoder.out_color_space == JCS_CMYK;
  const int width = static_cast<int>(decoder.output_width);
  while (decoder.output_scanline < decoder.output_height) {
    std::uint8_t* target = pixels + std::size_t{decoder.output_scanline} *
                                        static_cast<std::size_t>(width) * std::size_t{3};
    std::uint8_t* line = cmyk ? row : target;
    jpeg_read_scanlines(&decoder, &line, 1);
    if (cmyk) cmyk_to_rgb(row, width, target);
  }
  // Reads up to the end marker, so that a cut-off tail is noticed.
  jpeg_finish_decompress(&decoder);
  return true;
}

}  // namespace

Image decode_jpeg(Bytes bytes, const std::string& name, const ImageLimits& limits) {
  constexpr const char* kCorrupt = "the JPEG image is corrupt or truncated";
  const auto state = std::make_unique<JpegState>();
  state->max_scans = limits.max_scans;
  if (!read_header(state.get(), bytes.data(), bytes.size())) {
    throw_file_error(kCorrupt, name, {}, state->message.data());
  }
  Image image =
      allocate_image(state->decoder.image_width, state->decoder.image_height, name, limits);
  std::vector<std::uint8_t> row(static_cast<std::size_t>(image.width) * 4);
  if (!read_pixels(state.get(), image.pixels.data(), row.data())) {
    throw_file_error(kCorrupt, name, {}, state->message.data());
  }
  return image;
}

}  // namespace repquant::internal
