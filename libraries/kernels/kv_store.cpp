// The KV store on CPU. A step is one primitive: what eval_cpu does to the buffers happens in the
// order of the chain, and the memory it touches is kept alive by the task that touches it.
#include "kernels/kv_store.h"

#include <bit>
#include <cstring>

#include <mlx/backend/cpu/encoder.h>

#include "core/error.h"
#include "kernels/attention_mlx.h"
#include "kernels/attention_run.h"
#include "kernels/floats.h"
#include "kernels/kv_store_base.h"
#include "kernels/kv_transfer.h"
#include "kernels/quant_ops.h"
#include "kernels/rows.h"
#include "kernels/step_rows.h"
#include "kernels/thread_pool.h"

namespace mlxcpp::kernels {
namespace {

using BufferPtr = std::shared_ptr<const KvBuffer>;

// What the steps of one store change, one after the other.
struct Buffers {
  BufferPtr main, tail;
};

BufferPtr make_buffer(const KvGeometry& g, const std::optional<KvQuantization>& q, int slots) {
  auto buffer = std::make_shared<KvBuffer>();
  for (const auto& [shape, dtype] : plane_layout(g, q, slots)) {
    size_t bytes = mx::size_of(dtype);
    for (const int n : shape) bytes *= n;
    buffer->planes.emplace_back(mx::allocator::malloc(bytes), shape, dtype);
  }
  return buffer;
}

// A copy of tokens that a task makes; holds what it reads and writes.
struct Transfer {
  BufferPtr from;          // or:
  KvMemory from_memory{};  // a step's new keys and values, alive as inputs of the step
  BufferPtr to;
  std::vector<KvCopy> copies;
};

int grown(const KvStep& step, int slots) {
  if (step.capacity <= slots) return slots;
  // With room for what follows a prompt, so that its first answer does not move all of it. Slots
  // that nothing was written to are not resident.
  const int wanted = std::max((step.capacity + 128 + 255) / 256 * 256, slots + slots / 2);
  return step.limit > 0 ? std::min(wanted, step.limit) : wanted;
}

// What the steps of a store do to its buffers.
class KvPrimitive : public mx::Primitive {
 public:
  KvPrimitive(mx::Stream s, std::shared_ptr<Buffers> buffers, KvGeometry geometry,
              std::optional<KvQuantization> quantization, KvStep step, bool has_tokens)
      : Primitive(s),
        buffers_(std::move(buffers)),
        geometry_(geometry),
        quantization_(quantization),
        step_(std::move(step)),
        has_tokens_(has_tokens) {}

  void eval_gpu(const Arrays&, Arrays&) override {
    throw std::runtime_error("a KV cache made on CPU cannot go on a GPU");
  }
  Arrays vjp(const Arrays&, const Arrays&, const std::vector<int>&, const Arrays&) override {
    throw Error("a KV cache is not differentiable: train without one");
  }
  const char* name() const override { return "mlxcpp::KvStep"; }

 protected:
  static void next_version(mx::array& version) {
    version.set_data(mx::allocator::malloc(version.nbytes()));
    std::memset(version.data<std::byte>(), 0, version.nbytes());
  }

  // Takes the buffers to where the step needs them, and says what must be copied for it.
  std::vector<Transfer> prepare() {
    std::vector<Transfer> transfers;
    BufferPtr &main = buffers_->main, &tail = buffers_->tail;
    const bool quantize = step_.quantize.has_value();
    const int slots = main ? main->slots() : 0, needed = grown(step_, slots);
    if (needed > slots || (main && (step_.fresh || (quantize && !main->quantized())))) {
      const BufferPtr before = main;
      main = make_buffer(geometry_, quantization_, needed);
      if (before && step_.used > 0) transfers.push_back({before, {}, main, {{0, 0, step_.used}}});
    }
    // A tail of floats is quantised on its way to the main buffer.
    if (!step_.settle.empty()) transfers.push_back({tail, {}, main, step_.settle});
    if (has_tokens_ || !step_.settle.empty()) tail = nullptr;
    if (step_.tail > 0) tail = make_buffer(geometry_, quantization_, step_.tail);
    return transfers;
  }
  // New tokens go where prepare() made room for them.
  Transfer write(const KvPlane& k, const KvPlane& v) const {
    return {nullptr, {k, v, false}, step_.tail > 0 ? buffers_->tail : buffers_->main, step_.write};
  }
  static void run(const std::vector<Transfer>& transfers, const KvGeometry& g,
                  const std::optional<KvQuantization>& q) {
    for (const Transfer& t : transfers)
      transfer(g, q, t.from ? memory_of(*t.from) : t.from_memory, memory_of(*t.to), t.copies);
  }

  // Attention to the step's view, as a task carries it; queries and output are the caller's.
  struct Attend {
    AttentionArgs args;
    std::vector<KvSegment> segments;
    std::vector<int> first_key;
    Buffers held;

    void run() {
      args.segments = segments.data();
      args.num_segments = static_cast<int>(segments.size());
      if (!first_key.empty()) args.first_key = first_key.data();
      run_attention(args);
    }
  };
  Attend attend_to_view() const {
    Attend attend{{}, {}, step_.view.first_key, *buffers_};
    AttentionArgs& a = attend.args;
    a.kv_heads = geometry_.heads;
    a.keys = step_.view.count();
    a.scale_format = kv_format(geometry_.dtype);
    a.kv_format = !quantization_             ? a.scale_format
                  : quantization_->bits == 8 ? KvFormat::q8
                                             : KvFormat::q4;
    if (quantization_)
      a.group_shift = std::countr_zero(static_cast<unsigned>(quantization_->group_size));
    a.chunk = step_.view.chunk;
    a.base = step_.view.base;
    const auto segment = [](KvPlane p, int begin) {
      p.data += begin * p.token;
      if (p.scales) {
        p.scales += begin * p.scale_token;
        p.biases += begin * p.scale_token;
      }
      return p;
    };
    for (const KvRun& r : step_.view.runs) {
      const auto m = memory_of(r.tail ? *buffers_->tail : *buffers_->main);
      attend.segments.push_back({segment(m.k, r.begin), segment(m.v, r.begin), r.count});
    }
    return attend;
  }

  std::shared_ptr<Buffers> buffers_;
  KvGeometry geometry_;
  std::optional<KvQuantization> quantization_;  // from this step on
  KvStep step_;
  bool has_tokens_;
};

enum class Result { none, attention, floats };

class StepPrimitive final : public KvPrimitive {
 public:
  StepPrimitive(mx::Stream s, std::shared_ptr<Buffers> buffers, KvGeometry geometry,
                std::optional<KvQuantization> quantization, KvStep step, bool has_tokens,
                Result result, AttentionOptions o)
      : KvPrimitive(s, std::move(buffers), geometry, quantization, std::move(step), has_tokens),
        result_(result),
        o_(std::move(o)) {}

  // in: version [, k, v] [, q [, mask] [, sinks]]; out: version [, y] or [, keys, values]
  void eval_cpu(const Arrays& in, Arrays& out) override {
    next_version(out[0]);
    std::vector<Transfer> transfers = prepare();
    size_t next = 1;
    if (has_tokens_) {
      const auto k = with_dense_rows(in[next++], stream()),
                 v = with_dense_rows(in[next++], stream());
      if (!step_.write.empty()) transfers.push_back(write(plane_of(k), plane_of(v)));
    }
    auto& encoder = mx::cpu::get_command_encoder(stream());
    if (!transfers.empty())
      encoder.dispatch([transfers = std::move(transfers), g = geometry_, q = quantization_] {
        run(transfers, g, q);
      });
    if (result_ == Result::attention) {
      const auto q = with_dense_rows(in[next], stream());
      Attend attend = attend_to_view();
      set_query(attend.args, q, out[1], o_, in.data() + next + 1);
      encoder.dispatch([attend = std::move(attend)]() mutable { attend.run(); });
    }
    if (result_ == Result::floats) give_floats(out[1], out[2]);
  }

 private:
  // The view as arrays: the buffer itself where the slots lie in order, else a copy.
  void give_floats(mx::array& keys, mx::array& values) {
    const auto& runs = step_.view.runs;
    if (!quantization_ && runs.size() == 1 && !runs[0].tail && runs[0].begin == 0) {
      share(buffers_->main->planes[0], runs[0].count, keys);
      share(buffers_->main->planes[1], runs[0].count, values);
      return;
    }
    for (auto* a : {&keys, &values}) a->set_data(mx::allocator::malloc(a->nbytes()));
    mx::cpu::get_command_encoder(stream()).dispatch(
        [g = geometry_, q = quantization_, held = *buffers_, runs, k = keys.data<std::byte>(),
         v = values.data<std::byte>()] {
          read_floats(g, q, held.main ? memory_of(*held.main) : KvMemory{},
                      held.tail ? memory_of(*held.tail) : KvMemory{}, runs, k, v);
        });
  }
  static void share(const mx::array& plane, int count, mx::array& out) {
    const bool dense = plane.shape(0) * plane.shape(1) == 1 || plane.shape(2) == count;
    mx::array::Flags flags{};
    flags.contiguous = flags.row_contiguous = dense;
    const size_t gap = static_cast<size_t>(plane.shape(2) - count) * plane.shape(3);
    out.copy_shared_buffer(plane, plane.strides(), flags, dense ? out.size() : plane.size() - gap);
  }

  Result result_;
  AttentionOptions o_;
};

// A whole layer around the append (decoder_step.h), as one task.
class LayerStepPrimitive final : public KvPrimitive {
 public:
  LayerStepPrimitive(mx::Stream s, std::shared_ptr<Buffers> buffers, KvGeometry geometry,
                     std::optional<KvQuantization> quantization, KvStep kv, LayerPlan::Step step,
                     std::shared_ptr<const LayerPlan> plan, const AttentionOptions& o)
      : KvPrimitive(s, std::move(buffers), geometry, quantization, std::move(kv),
                    !plan->heads()->shared),
        layer_(step),
        plan_(std::move(plan)),
        scale_(o.scale),
        softcap_(o.softcap),
        causal_(o.causal),
        window_(o.causal ? o.window.value_or(0) : 0) {}

  const char* name() const override { return "mlxcpp::LayerStep"; }

  // in: version, x [, per_layer] [, inv_freq [, positions]]; out: version, y
  void eval_cpu(const Arrays& in, Arrays& out) override {
    next_version(out[0]);
    const auto x = quant::dense(in[1], stream());
    out[1].set_data(mx::allocator::malloc(out[1].nbytes()));
    LayerPlan::Step s = layer_;
    s.x = s.residual = x.data<float>();
    s.y = out[1].data<float>();
    size_t next = 2;
    if (plan_->per_layer() > 0) s.per_layer = quant::dense(in[next++], stream()).data<float>();
    if (in.size() > next) s.inv_freq = in[next++].data<float>();
    if (in.size() > next) {
      const auto starts = quant::dense(in[next], stream());
      s.starts = starts.data<int>();
      s.one_start = starts.size() == 1;
    }

    std::vector<Transfer> transfers = prepare();
    Attend attend = attend_to_view();
    AttentionArgs& a = attend.args;
    a.scale = scale_;
    a.softcap = softcap_;
    a.causal = causal_;
    a.window = window_;
    mx::cpu::get_command_encoder(stream()).dispatch(
        [s, plan = plan_, attend = std::move(attend), transfers = std::move(transfers),
         to = write({}, {}), g = geometry_, q = quantization_, runs = step_.view.runs]() mutable {
          plan->run(s, [&](const StepHeads& heads, float* y) {
            const LayerPlan::Heads h = *plan->heads();
            if (!h.shared) {
              to.from_memory = {plane(heads.k, s), plane(heads.v, s), false};
              transfers.push_back(to);
            }
            run(transfers, g, q);
            set_heads(attend.args, heads.q, s, h, y);
            if (h.latent) join(attend, g, q, runs);
            attend.run();
          });
        });
  }

 private:
  static KvPlane plane(const StepHeads::Plane& p, const LayerPlan::Step& s) {
    KvPlane out;
    out.data = reinterpret_cast<const std::byte*>(p.data);
    out.token = static_cast<ptrdiff_t>(p.token * sizeof(float));
    out.head = static_cast<ptrdiff_t>(p.head * sizeof(float));
    out.batch = out.token * s.length;
    return out;
  }
  static void set_heads(AttentionArgs& a, const StepHeads::Plane& q, const LayerPlan::Step& s,
                        const LayerPlan::Heads& h, float* y) {
    a.batch = s.batch;
    a.heads = h.heads;
    a.queries = s.length;
    a.dim = h.latent ? h.key_dim + h.value_dim : h.key_dim;
    a.value_dim = h.latent ? h.key_dim : h.value_dim;
    const KvPlane from = plane(q, s);
    a.q = from.data;
    a.q_batch = from.batch;
    a.q_head = from.head;
    a.q_token = from.token;
    const auto row = static_cast<ptrdiff_t>(a.value_dim * sizeof(float));
    a.out = reinterpret_cast<std::byte*>(y);
    a.out_token = h.latent ? row : row * h.heads;
    a.out_batch = a.out_token * s.length;
    a.out_head = h.latent ? a.out_batch * s.batch : row;
  }

  // Of latent attention a key is the latent and what the cache holds beside it; the latent is the
  // value. They are laid out side by side for as long as the step takes.
  static void join(Attend& attend, const KvGeometry& g, const std::optional<KvQuantization>& q,
                   const std::vector<KvRun>& runs) {
    thread_local Floats keys_room, latent_room, turned_room;
    const auto B = static_cast<size_t>(g.batch), S = static_cast<size_t>(attend.args.keys),
               rank = static_cast<size_t>(g.dim), turned = static_cast<size_t>(g.value_dim);
    float* latents = latent_room.reserve(B * S * rank);
    float* rest = turned_room.reserve(B * S * turned);
    const Buffers& held = attend.held;
    read_floats(g, q, held.main ? memory_of(*held.main) : KvMemory{},
                held.tail ? memory_of(*held.tail) : KvMemory{}, runs,
                reinterpret_cast<std::byte*>(latents), reinterpret_cast<std::byte*>(rest));
    float* keys = keys_room.reserve(B * S * (rank + turned));
    parallel_for(B * S, row_grain(rank + turned), [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) {
        float* key = keys + i * (rank + turned);
        std::memcpy(key, latents + i * rank, rank * sizeof(float));
        std::memcpy(key + rank, rest + i * turned, turned * sizeof(float));
      }
    });
    const auto plane = [&](const float* data, size_t dim) {
      KvPlane p;
      p.data = reinterpret_cast<const std::byte*>(data);
      p.token = static_cast<ptrdiff_t>(dim * sizeof(float));
      p.head = p.batch = p.token * static_cast<ptrdiff_t>(S);
      return p;
    };
    attend.segments = {{plane(keys, rank + turned), plane(latents, rank), static_cast<int>(S)}};
    attend.args.kv_format = KvFormat::f32;
  }

  LayerPlan::Step layer_;
  std::shared_ptr<const LayerPlan> plan_;
  float scale_, softcap_;
  bool causal_;
  int window_;
};

class CpuKvStore final : public KvStoreBase {
 public:
  CpuKvStore() : buffers_(std::make_shared<Buffers>()), version_(mx::zeros({1}, mx::int32)) {}

  mx::array attend(const KvStep& step, const mx::array& q, const mx::array& k, const mx::array& v,
                   const AttentionOptions& o) override {
    const auto [keys, values] = begin(step, k, v);
    return attend(step, Arrays{keys, values}, q, o);
  }
  std::pair<mx::array, mx::array> append(const KvStep& step, const mx::array& k,
                                         const mx::array& v) override {
    const auto [keys, values] = begin(step, k, v);
    const KvGeometry& g = *geometry_;
    const int count = step.view.count();
    const auto out = run(step, {keys, values}, true, Result::floats, {},
                         {{g.batch, g.heads, count, g.dim}, {g.batch, g.heads, count, g.value_dim}},
                         {g.dtype, g.dtype});
    return {out[1], out[2]};
  }
  std::optional<mx::array> layer_step(const KvStep& step, const mx::array& x,
                                      const std::optional<mx::array>& per_layer,
                                      const std::shared_ptr<const LayerPlan>& plan,
                                      const std::optional<StepRope>& rope,
                                      const AttentionOptions& o) override {
    const LayerPlan::Heads p = *plan->heads();
    const int64_t rows = x.ndim() == 3 ? int64_t{x.shape(0)} * x.shape(1) : 0;
    const bool fits = x.ndim() == 3 && x.dtype() == mx::float32 && x.size() > 0 &&
                      rows <= max_step_rows(*plan) && x.shape(2) == plan->width() &&
                      fits_tokens(per_layer, x, plan->per_layer()) && !o.mask && !o.sinks &&
                      o.window.value_or(1) >= 1 && o.softcap >= 0.0f;
    const KvGeometry geometry{fits ? x.shape(0) : 0, p.kv_heads, p.key_dim, p.value_dim,
                              mx::float32};
    if (!fits || (geometry_ ? *geometry_ != geometry : p.shared)) return std::nullopt;
    if (p.shared && step.view.count() == 0) return std::nullopt;
    LayerPlan::Step s{.batch = x.shape(0),
                      .length = x.shape(1),
                      .precision = precision(),
                      .x = nullptr,
                      .residual = nullptr,
                      .y = nullptr};
    Arrays inputs{version_, x};
    if (per_layer) inputs.push_back(*per_layer);
    if (rope) {
      const StepRope& t = *rope;
      if (t.dims > p.rope_dim || t.inv_freq.shape() != mx::Shape{t.dims / 2}) return std::nullopt;
      s.rope_dims = t.dims;
      s.traditional = t.traditional;
      s.rope_scale = t.scale;
      inputs.push_back(t.inv_freq);
      if (const int* start = std::get_if<int>(&rope->positions)) {
        s.start = *start;
      } else {
        const auto& starts = std::get<mx::array>(rope->positions);
        if (starts.dtype() != mx::int32 || starts.ndim() > 1 ||
            (starts.size() != 1 && starts.size() != static_cast<size_t>(s.batch)))
          return std::nullopt;
        inputs.push_back(starts);
      }
    }
    geometry_ = geometry;
    begin(step);
    const auto stream = mx::default_stream(mx::Device::cpu);
    auto out =
        mx::array::make_arrays({{1}, x.shape()}, {mx::int32, mx::float32},
                               std::make_shared<LayerStepPrimitive>(
                                   stream, buffers_, *geometry_, quantization_, step, s, plan, o),
                               inputs);
    version_ = out[0];
    return out[1];
  }
  mx::array attend(const KvView& view, const mx::array& q, const AttentionOptions& o) override {
    KvStep step;
    step.view = view;
    return attend(step, Arrays{}, q, o);
  }
  void settle(const KvStep& step) override {
    begin(step);
    if (geometry_) run(step, {}, false, Result::none, {}, {}, {});
  }

  std::vector<mx::array> state() const override { return {version_}; }
  size_t nbytes() const override {
    return (buffers_->main ? buffers_->main->nbytes() : 0) +
           (buffers_->tail ? buffers_->tail->nbytes() : 0);
  }
  std::unique_ptr<KvStore> clone() const override {
    auto version = version_;
    version.eval();
    auto copy = std::make_unique<CpuKvStore>();
    copy->geometry_ = geometry_;
    copy->quantization_ = quantization_;
    const auto deep = [](const BufferPtr& from) -> BufferPtr {
      if (!from) return nullptr;
      auto to = std::make_shared<KvBuffer>();
      for (const auto& plane : from->planes) {
        to->planes.emplace_back(mx::allocator::malloc(plane.nbytes()), plane.shape(),
                                plane.dtype());
        std::memcpy(to->planes.back().data<std::byte>(), plane.data<std::byte>(), plane.nbytes());
      }
      return to;
    };
    *copy->buffers_ = {deep(buffers_->main), deep(buffers_->tail)};
    return copy;
  }
  std::vector<mx::array> contents(const std::vector<KvRun>& runs) const override {
    auto version = version_;
    version.eval();
    if (!buffers_->main && !buffers_->tail) return {};
    std::vector<mx::array> copies;  // of its own: later steps write to the buffers
    for (const auto& a : gather(buffers_->main.get(), buffers_->tail.get(), runs)) {
      auto dense = mx::contiguous(a);
      dense.eval();
      copies.emplace_back(mx::allocator::malloc(dense.nbytes()), dense.shape(), dense.dtype());
      std::memcpy(copies.back().data<std::byte>(), dense.data<std::byte>(), dense.nbytes());
    }
    return copies;
  }
  void restore(const std::vector<mx::array>& contents, std::optional<KvQuantization> quantization,
               const std::vector<KvCopy>& copies, int capacity) override {
    adopt(contents, quantization);
    KvBuffer source;
    for (const auto& a : contents) {
      source.planes.push_back(mx::contiguous(a));
      source.planes.back().eval();
    }
    auto main = make_buffer(*geometry_, quantization, capacity);
    transfer(*geometry_, quantization, memory_of(source), memory_of(*main), copies);
    *buffers_ = {main, nullptr};
    version_ = mx::zeros({1}, mx::int32);
  }

 private:
  static bool fits_tokens(const std::optional<mx::array>& a, const mx::array& x, int dim) {
    if (!a) return dim == 0;
    return a->shape() == mx::Shape{x.shape(0), x.shape(1), dim} && a->dtype() == mx::float32;
  }

  mx::array attend(const KvStep& step, Arrays tokens, const mx::array& q,
                   const AttentionOptions& o) {
    check_query(step.view.count(), q, o);
    const bool has_tokens = !tokens.empty();
    if (!is_kernel_float(q.dtype())) throw Error("KV cache: queries must be f32, bf16 or f16");
    Arrays inputs = std::move(tokens);
    inputs.push_back(q);
    append_option_inputs(inputs, o, {q.shape(0), q.shape(1), q.shape(2), step.view.count()});
    auto shape = q.shape();
    shape[3] = geometry_->value_dim;
    return run(step, inputs, has_tokens, Result::attention, o, {shape}, {q.dtype()})[1];
  }

  // Builds the step; its first output is the next version.
  Arrays run(const KvStep& step, const Arrays& with, bool has_tokens, Result result,
             const AttentionOptions& o, std::vector<mx::Shape> shapes,
             std::vector<mx::Dtype> dtypes) {
    const auto stream = mx::default_stream(mx::Device::cpu);
    Arrays inputs{version_};
    inputs.insert(inputs.end(), with.begin(), with.end());
    shapes.insert(shapes.begin(), mx::Shape{1});
    dtypes.insert(dtypes.begin(), mx::int32);
    const auto primitive = std::make_shared<StepPrimitive>(
        stream, buffers_, *geometry_, quantization_, step, has_tokens, result, o);
    auto out = mx::array::make_arrays(std::move(shapes), dtypes, primitive, inputs);
    version_ = out[0];
    return out;
  }

  std::shared_ptr<Buffers> buffers_;
  mx::array version_;
};

}  // namespace

std::unique_ptr<KvStore> make_kv_store() {
  if (mx::default_device() != mx::Device::cpu) return make_plain_kv_store();
  return std::make_unique<CpuKvStore>();
}

}  // namespace mlxcpp::kernels
