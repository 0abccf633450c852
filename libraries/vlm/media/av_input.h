#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/error.h"
#include "vlm/media/film.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
}

// FFmpeg over bytes in memory. Nothing else is ever opened: no protocol is allowed, references to
// other files are refused, and only the demuxers of kDemuxers are tried, so that a playlist or a
// list of files is no film.
namespace mlxcpp::media::detail {

struct FreeFormat {
  void operator()(AVFormatContext* f) const { avformat_close_input(&f); }
};
struct FreeIo {
  void operator()(AVIOContext* io) const {
    av_freep(static_cast<void*>(&io->buffer));
    avio_context_free(&io);
  }
};
struct FreeCodec {
  void operator()(AVCodecContext* c) const { avcodec_free_context(&c); }
};
struct FreeFrame {
  void operator()(AVFrame* f) const { av_frame_free(&f); }
};
struct FreePacket {
  void operator()(AVPacket* p) const { av_packet_free(&p); }
};
using Codec = std::unique_ptr<AVCodecContext, FreeCodec>;
using Frame = std::unique_ptr<AVFrame, FreeFrame>;
using Packet = std::unique_ptr<AVPacket, FreePacket>;

// FFmpeg's text for an error code.
std::string av_reason(int code);

// One stream of a file: its packets and decoder. Not thread-safe.
class AvInput {
 public:
  // `kind` is what is looked for, "sound" or "film" in messages. Error when there is none. The
  // bytes must outlive the object. Frames of more than `max_pixels` are not decoded.
  AvInput(std::span<const std::byte> bytes, std::string_view where, AVMediaType type,
          size_t max_pixels = FilmOptions().max_pixels);
  AvInput(const AvInput&) = delete;
  AvInput& operator=(const AvInput&) = delete;

  const AVStream& stream() const { return *stream_; }
  AVFormatContext& format() { return *format_; }
  AVCodecContext& codec() { return *codec_; }
  const std::string& where() const { return where_; }

  // The stream's next packet; false at the end. A fault of the file is an Error.
  bool read(AVPacket& packet);
  // The next decoded frame; false at the end.
  bool decode(AVFrame& frame);
  // Back to the first packet.
  void rewind();

  Error broken(std::string_view what) const;

 private:
  struct Memory {
    std::span<const std::byte> bytes;
    size_t at = 0;
  };
  void probe(size_t max_pixels);
  void check_sizes(size_t max_pixels) const;
  static int on_read(void* opaque, uint8_t* to, int n);
  static int64_t on_seek(void* opaque, int64_t offset, int whence);

  std::string where_;
  const char* kind_;
  Memory memory_;
  std::unique_ptr<AVIOContext, FreeIo> io_;
  std::unique_ptr<AVFormatContext, FreeFormat> format_;
  AVStream* stream_ = nullptr;
  Codec codec_;
  Packet packet_;
  bool drained_ = false;  // the decoder knows that no packet follows
};

}  // namespace mlxcpp::media::detail
