// PNG by libpng, with the conversions that PIL makes on the way to RGB.
//
// As in jpeg.cpp, errors leave by longjmp and the functions they cross hold no object with a
// destructor.
#include <png.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include "data/image_codec.h"

namespace repquant::internal {
namespace {

struct PngState {
  png_structp reader = nullptr;
  png_infop info = nullptr;
  const std::uint8_t* data = nullptr;
  std::size_t left = 0;
  bool grey16 = false;  // rows arrive as big-endian 16-bit grey
  std::array<char, 256> message{};

  PngState() = default;
  PngState(const PngState&) = delete;
  PngState& operator=(const PngState&) = delete;
  ~PngState() { png_destroy_read_struct(&reader, &info, nullptr); }
};

[[noreturn]] void on_error(png_structp reader, png_const_charp text) {
  auto* state = static_cast<PngState*>(png_get_error_ptr(reader));
  static_cast<void>(std::snprintf(state->message.data(), state->message.size(), "%s", text));
  png_longjmp(reader, 1);
}

void on_warning(png_structp /*reader*/, png_const_charp /*text*/) {}

void on_read(png_structp reader, png_bytep target, png_size_t size) {
  auto* state = static_cast<PngState*>(png_get_io_ptr(reader));
  if (size > state->left) png_error(reader, "unexpected end of file");
  std::memcpy(target, state->data, size);
  state->data += size;
  state->left -= size;
}

bool read_header(PngState* state) {
  state->reader = png_create_read_struct(PNG_LIBPNG_VER_STRING, state, on_error, on_warning);
  if (state->reader == nullptr) return false;
  if (setjmp(png_jmpbuf(state->reader)) != 0) return false;
  state->info = png_create_info_struct(state->reader);
  if (state->info == nullptr) return false;
  png_set_crc_action(state->reader, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
  png_set_read_fn(state->reader, state, on_read);
  png_read_info(state->reader, state->info);
  return true;
}

bool read_pixels(PngState* state, std::uint8_t* pixels, std::size_t row_bytes, std::size_t rows) {
  if (setjmp(png_jmpbuf(state->reader)) != 0) return false;
  png_structp reader = state->reader;
  const int depth = png_get_bit_depth(reader, state->info);
  const int color = png_get_color_type(reader, state->info);
  if (!state->grey16) {
    if (color == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(reader);
    if (color == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(reader);
    if (depth == 16) png_set_strip_16(reader);  // high byte, as PIL's "RGB;16B"
    png_set_strip_alpha(reader);
    if ((color & PNG_COLOR_MASK_COLOR) == 0) png_set_gray_to_rgb(reader);
  }
  const int passes = png_set_interlace_handling(reader);
  png_read_update_info(reader, state->info);
  if (png_get_rowbytes(reader, state->info) != row_bytes) png_error(reader, "unexpected row size");
  for (int pass = 0; pass < passes; ++pass) {
    for (std::size_t row = 0; row < rows; ++row) {
      png_read_row(reader, pixels + row * row_bytes, nullptr);
    }
  }
  png_read_end(reader, nullptr);
  return true;
}

// PIL's mode "I;16" to "RGB": values above 255 are clipped, not scaled.
void clip_grey16(const std::vector<std::uint8_t>& grey, std::vector<std::uint8_t>& rgb) {
  for (std::size_t i = 0; i < grey.size() / 2; ++i) {
    const std::uint8_t value = grey[2 * i] != 0 ? std::uint8_t{255} : grey[2 * i + 1];
    std::fill_n(rgb.begin() + static_cast<std::ptrdiff_t>(3 * i), 3, value);
  }
}

}  // namespace

Image decode_png(Bytes bytes, const std::string& name, const ImageLimits& limits) {
  constexpr const char* kCorrupt = "the PNG image is corrupt or truncated";
  PngState state;
  state.data = bytes.data();
  state.left = bytes.size();
  if (!read_header(&state)) throw_file_error(kCorrupt, name, {}, state.message.data());

  Image image = allocate_image(png_get_image_width(state.reader, state.info),
                               png_get_image_height(state.reader, state.info), name, limits);
  const auto width = static_cast<std::size_t>(image.width);
  const auto height = static_cast<std::size_t>(image.height);
  state.grey16 = png_get_color_type(state.reader, state.info) == PNG_COLOR_TYPE_GRAY &&
                 png_get_bit_depth(state.reader, state.info) == 16;
  std::vector<std::uint8_t> grey(state.grey16 ? width * height * 2 : 0);
  const bool done = state.grey16 ? read_pixels(&state, grey.data(), width * 2, height)
                                 : read_pixels(&state, image.pixels.data(), width * 3, height);
  if (!done) throw_file_error(kCorrupt, name, {}, state.message.data());
  if (state.grey16) clip_grey16(grey, image.pixels);
  return image;
}

}  // namespace repquant::internal
