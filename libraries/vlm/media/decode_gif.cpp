// GIF by giflib: the first frame, on a canvas of the declared size, as Pillow shows it.
#include <cstring>
#include <memory>
#include <optional>

#include <gif_lib.h>

#include "vlm/media/decoders.h"

namespace mlxcpp::media::detail {
namespace {

struct Reader {
  const uint8_t* at;
  size_t left;
};

int on_read(GifFileType* gif, GifByteType* to, int n) {
  auto& r = *static_cast<Reader*>(gif->UserData);
  const size_t m = std::min(r.left, static_cast<size_t>(std::max(n, 0)));
  std::memcpy(to, r.at, m);
  r.at += m;
  r.left -= m;
  return static_cast<int>(m);
}

const char* reason(const GifFileType* gif) {
  const char* text = GifErrorString(gif->Error);
  return text ? text : "it cannot be decoded";
}

}  // namespace

Decoded decode_gif(const Input& in) {
  Reader reader{in.data(), in.bytes.size()};
  int code = 0;
  const std::unique_ptr<GifFileType, void (*)(GifFileType*)> gif(
      DGifOpen(&reader, on_read, &code), [](GifFileType* g) { DGifCloseFile(g, nullptr); });
  if (!gif) throw in.broken("GIF", "its header cannot be read");

  std::optional<int> transparent;
  for (GifRecordType type{}; type != IMAGE_DESC_RECORD_TYPE;) {
    if (DGifGetRecordType(gif.get(), &type) == GIF_ERROR) throw in.broken("GIF", reason(gif.get()));
    if (type == TERMINATE_RECORD_TYPE) throw in.broken("GIF", "it has no frame");
    if (type != EXTENSION_RECORD_TYPE) continue;
    int kind = 0;
    GifByteType* data = nullptr;
    if (DGifGetExtension(gif.get(), &kind, &data) == GIF_ERROR)
      throw in.broken("GIF", reason(gif.get()));
    GraphicsControlBlock block;
    if (kind == GRAPHICS_EXT_FUNC_CODE && data && DGifExtensionToGCB(data[0], data + 1, &block) &&
        block.TransparentColor != NO_TRANSPARENT_COLOR)
      transparent = block.TransparentColor;
    while (data)
      if (DGifGetExtensionNext(gif.get(), &data) == GIF_ERROR)
        throw in.broken("GIF", reason(gif.get()));
  }
  if (DGifGetImageDesc(gif.get()) == GIF_ERROR) throw in.broken("GIF", reason(gif.get()));

  const GifImageDesc& frame = gif->Image;
  // As Pillow: a frame that reaches beyond the canvas makes it larger.
  const uint64_t width = std::max<int64_t>(gif->SWidth, int64_t{frame.Left} + frame.Width);
  const uint64_t height = std::max<int64_t>(gif->SHeight, int64_t{frame.Top} + frame.Height);
  if (frame.Width <= 0 || frame.Height <= 0 || frame.Left < 0 || frame.Top < 0)
    throw in.broken("GIF", "its first frame is empty");
  Decoded out;
  out.picture = in.allocate(width, height);

  uint8_t palette[256][3];
  for (int i = 0; i < 256; ++i)
    palette[i][0] = palette[i][1] = palette[i][2] = static_cast<uint8_t>(i);
  const ColorMapObject* colours = frame.ColorMap ? frame.ColorMap : gif->SColorMap;
  for (int i = 0; colours && i < std::min(colours->ColorCount, 256); ++i) {
    const GifColorType& c = colours->Colors[i];
    palette[i][0] = c.Red, palette[i][1] = c.Green, palette[i][2] = c.Blue;
  }
  const uint8_t* background = palette[transparent.value_or(0) & 255];
  for (size_t i = 0; i < out.picture.rgb.size(); i += 3)
    std::memcpy(&out.picture.rgb[i], background, 3);

  std::vector<GifByteType> line(static_cast<size_t>(frame.Width));
  const auto read_line = [&](int y) {
    if (DGifGetLine(gif.get(), line.data(), frame.Width) == GIF_ERROR)
      throw in.broken("GIF", reason(gif.get()));
    uint8_t* to = out.picture.row(frame.Top + y) + size_t{3} * frame.Left;
    for (size_t x = 0; x < line.size(); ++x) std::memcpy(to + 3 * x, palette[line[x]], 3);
  };
  if (frame.Interlace) {
    constexpr int kFirst[] = {0, 4, 2, 1}, kStep[] = {8, 8, 4, 2};
    for (int pass = 0; pass < 4; ++pass)
      for (int y = kFirst[pass]; y < frame.Height; y += kStep[pass]) read_line(y);
  } else {
    for (int y = 0; y < frame.Height; ++y) read_line(y);
  }
  return out;
}

}  // namespace mlxcpp::media::detail
