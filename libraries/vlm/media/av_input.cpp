#include "vlm/media/av_input.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <vector>

namespace mlxcpp::media::detail {
namespace {

constexpr const char* kDemuxers =
    "aac,aiff,avi,caf,flac,flv,gif,matroska,webm,mov,mp4,m4a,mp3,mpeg,mpegts,ogg,w64,wav";
constexpr int kBuffer = 1 << 16;

// FFmpeg writes to stderr of itself; a library does not.
void be_quiet() {
  static std::once_flag once;
  std::call_once(once, [] { av_log_set_level(AV_LOG_QUIET); });
}

int refuse_to_open(AVFormatContext*, AVIOContext**, const char*, int, AVDictionary**) {
  return AVERROR(EPERM);
}

}  // namespace

std::string av_reason(int code) {
  char text[AV_ERROR_MAX_STRING_SIZE] = {};
  av_strerror(code, text, sizeof text);
  return text;
}

Error AvInput::broken(std::string_view what) const {
  return Error("{}: expected a whole {}, found a broken one: {}", where_, kind_, what);
}

int AvInput::on_read(void* opaque, uint8_t* to, int n) {
  auto& m = *static_cast<Memory*>(opaque);
  const size_t count = std::min(m.bytes.size() - m.at, static_cast<size_t>(std::max(n, 0)));
  if (count == 0) return AVERROR_EOF;
  std::memcpy(to, m.bytes.data() + m.at, count);
  m.at += count;
  return static_cast<int>(count);
}

int64_t AvInput::on_seek(void* opaque, int64_t offset, int whence) {
  auto& m = *static_cast<Memory*>(opaque);
  const auto size = static_cast<int64_t>(m.bytes.size());
  if (whence & AVSEEK_SIZE) return size;
  const int64_t from = whence == SEEK_CUR   ? static_cast<int64_t>(m.at)
                       : whence == SEEK_END ? size
                                            : 0;
  int64_t at = 0;
  if (__builtin_add_overflow(from, offset, &at) || at < 0 || at > size) return AVERROR(EINVAL);
  m.at = static_cast<size_t>(at);
  return at;
}

AvInput::AvInput(std::span<const std::byte> bytes, std::string_view where, AVMediaType type,
                 size_t max_pixels)
    : where_(where), kind_(type == AVMEDIA_TYPE_AUDIO ? "sound" : "film"), memory_{bytes} {
  be_quiet();
  auto* buffer = static_cast<unsigned char*>(av_malloc(kBuffer));
  if (buffer)
    io_.reset(avio_alloc_context(buffer, kBuffer, 0, &memory_, on_read, nullptr, on_seek));
  AVFormatContext* format = avformat_alloc_context();
  packet_.reset(av_packet_alloc());
  if (!io_ || !format || !packet_) throw Error("{}: FFmpeg cannot be started", where_);
  format->pb = io_.get();
  format->flags |= AVFMT_FLAG_CUSTOM_IO;
  format->io_open = refuse_to_open;
  format->format_whitelist = av_strdup(kDemuxers);
  format->protocol_whitelist = av_strdup("none");
  if (const int code = avformat_open_input(&format, nullptr, nullptr, nullptr); code < 0)  // frees
    throw Error(
        "{}: expected a {} (wav, mp3, flac, ogg, aac, mp4, mov, matroska, webm, avi, ...), "
        "found something else ({})",
        where_, kind_, av_reason(code));
  format_.reset(format);
  probe(max_pixels);
  const int index = av_find_best_stream(format, type, -1, -1, nullptr, 0);
  if (index < 0) throw Error("{}: expected a {}, found a file without one", where_, kind_);
  stream_ = format->streams[index];
  for (unsigned i = 0; i < format->nb_streams; ++i)
    if (static_cast<int>(i) != index) format->streams[i]->discard = AVDISCARD_ALL;

  const AVCodec* decoder = avcodec_find_decoder(stream_->codecpar->codec_id);
  if (!decoder)
    throw Error("{}: there is no decoder for its {} ({})", where_, kind_,
                avcodec_get_name(stream_->codecpar->codec_id));
  codec_.reset(avcodec_alloc_context3(decoder));
  if (!codec_) throw Error("{}: FFmpeg cannot be started", where_);
  codec_->thread_count = 1;  // the same frames everywhere, and no threads beside the kernels'
  codec_->max_pixels = static_cast<int64_t>(max_pixels);
  codec_->pkt_timebase = stream_->time_base;
  if (const int code = avcodec_parameters_to_context(codec_.get(), stream_->codecpar); code < 0)
    throw broken(av_reason(code));
  if (const int code = avcodec_open2(codec_.get(), decoder, nullptr); code < 0)
    throw broken(av_reason(code));
}

// Some formats tell sizes and rates only in the first frames, which FFmpeg then decodes.
void AvInput::probe(size_t max_pixels) {
  check_sizes(max_pixels);  // FFmpeg's own message would not name them
  std::vector<AVDictionary*> options(format_->nb_streams, nullptr);
  for (AVDictionary*& o : options)
    av_dict_set_int(&o, "max_pixels", static_cast<int64_t>(max_pixels), 0);
  const int code = avformat_find_stream_info(format_.get(), options.data());
  for (AVDictionary*& o : options) av_dict_free(&o);
  if (code < 0) throw broken(av_reason(code));
  check_sizes(max_pixels);
}

void AvInput::check_sizes(size_t max_pixels) const {
  for (unsigned i = 0; i < format_->nb_streams; ++i) {
    const AVCodecParameters& p = *format_->streams[i]->codecpar;
    if (p.codec_type != AVMEDIA_TYPE_VIDEO || p.width <= 0 || p.height <= 0) continue;
    if (static_cast<size_t>(p.width) * static_cast<size_t>(p.height) > max_pixels)
      throw Error("{}: frames of {} x {} pixels are more than the limit of {}", where_, p.width,
                  p.height, max_pixels);
  }
}

bool AvInput::read(AVPacket& packet) {
  for (;;) {
    av_packet_unref(&packet);
    const int code = av_read_frame(format_.get(), &packet);
    if (code == AVERROR_EOF) return false;
    if (code < 0) throw broken(av_reason(code));
    if (packet.stream_index == stream_->index) return true;
  }
}

bool AvInput::decode(AVFrame& frame) {
  for (;;) {
    const int code = avcodec_receive_frame(codec_.get(), &frame);
    if (code == 0) return true;
    if (code == AVERROR_EOF) return false;
    if (code != AVERROR(EAGAIN)) throw broken(av_reason(code));
    if (drained_) return false;
    drained_ = !read(*packet_);
    const int sent = avcodec_send_packet(codec_.get(), drained_ ? nullptr : packet_.get());
    if (sent < 0 && sent != AVERROR_EOF) throw broken(av_reason(sent));
  }
}

void AvInput::rewind() {
  const int64_t start = stream_->start_time == AV_NOPTS_VALUE ? 0 : stream_->start_time;
  if (const int code = av_seek_frame(format_.get(), stream_->index, std::min<int64_t>(start, 0),
                                     AVSEEK_FLAG_BACKWARD);
      code < 0)
    throw broken(av_reason(code));
  avcodec_flush_buffers(codec_.get());
  drained_ = false;
}

}  // namespace mlxcpp::media::detail
