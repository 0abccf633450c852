// WebP by libwebp, through its animation decoder, which Pillow uses for still pictures too.
#include <cstring>
#include <memory>

#include <webp/demux.h>

#include "vlm/media/decoders.h"

namespace mlxcpp::media::detail {
namespace {

// The contents of the file's first chunk of a kind.
Bytes chunk(const WebPDemuxer* demuxer, const char* kind, WebPChunkIterator& it) {
  if (!WebPDemuxGetChunk(demuxer, kind, 1, &it)) return {};
  return std::as_bytes(std::span(it.chunk.bytes, it.chunk.size));
}

}  // namespace

Decoded decode_webp(const Input& in) {
  const WebPData data{in.data(), in.bytes.size()};
  const std::unique_ptr<WebPDemuxer, void (*)(WebPDemuxer*)> demuxer(WebPDemux(&data),
                                                                     WebPDemuxDelete);
  if (!demuxer) throw in.broken("WebP", "its parts do not fit together");
  Decoded out;
  // Checked before the decoder makes canvases of that size.
  out.picture = in.allocate(WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_WIDTH),
                            WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_HEIGHT));

  WebPAnimDecoderOptions options;
  WebPAnimDecoderOptionsInit(&options);
  options.color_mode = MODE_RGBA;
  const std::unique_ptr<WebPAnimDecoder, void (*)(WebPAnimDecoder*)> decoder(
      WebPAnimDecoderNew(&data, &options), WebPAnimDecoderDelete);
  uint8_t* rgba = nullptr;
  int time = 0;
  if (!decoder || !WebPAnimDecoderGetNext(decoder.get(), &rgba, &time))
    throw in.broken("WebP", "its first frame cannot be decoded");
  const size_t pixels = out.picture.rgb.size() / 3;
  for (size_t i = 0; i < pixels; ++i) std::memcpy(&out.picture.rgb[3 * i], rgba + 4 * i, 3);

  WebPChunkIterator it;
  if (Bytes exif = chunk(demuxer.get(), "EXIF", it); !exif.empty()) {
    if (exif.size() > 6 && std::memcmp(exif.data(), "Exif\0", 6) == 0) exif = exif.subspan(6);
    out.orientation = exif_orientation(exif);
    WebPDemuxReleaseChunkIterator(&it);
  }
  if (in.options.icc)
    if (const Bytes icc = chunk(demuxer.get(), "ICCP", it); !icc.empty()) {
      out.icc.assign(icc.begin(), icc.end());
      WebPDemuxReleaseChunkIterator(&it);
    }
  return out;
}

}  // namespace mlxcpp::media::detail
