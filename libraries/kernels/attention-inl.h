// Attention in one pass over the keys (online softmax: Milakov and Gimelshein, arXiv 1805.02867;
// tiles as in FlashAttention, arXiv 2205.14135). Included once per instruction set, inside an
// anonymous namespace, after these: the vector F of W floats with zero set1 load store add sub mul
// fma max round_nearest pow2 select_below hsum hmax hsum4 load_bf16 load_f16 load_u8 load_u4
// store_bf16 store_f16 f16_to_float, transpose_square with its kTransposeSide (W is a multiple),
// and the register blocking kFewRows, kTileRows, kTileVectors.

constexpr float kMinusInfinity = -__builtin_inff();

inline float bf16_to_float(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float y;
  __builtin_memcpy(&y, &bits, sizeof y);
  return y;
}

// exp(x) for x <= 0, about one unit in the last place; 0 below -87.
inline F exp_negative(F x) {
  const F n = round_nearest(mul(x, set1(1.44269504088896341f)));
  F r = fma(n, set1(-0.693359375f), x);
  r = fma(n, set1(2.12194440e-4f), r);
  F p = set1(1.9875691500e-4f);
  p = fma(p, r, set1(1.3981999507e-3f));
  p = fma(p, r, set1(8.3334519073e-3f));
  p = fma(p, r, set1(4.1665795894e-2f));
  p = fma(p, r, set1(1.6666665459e-1f));
  p = fma(p, r, set1(5.0000001201e-1f));
  p = add(fma(mul(p, r), r, r), set1(1.0f));
  return select_below(x, -87.0f, zero(), mul(p, pow2(n)));
}

inline float exp_negative(float x) {
  float lanes[W];
  store(lanes, exp_negative(set1(x)));
  return lanes[0];
}

// softcap * tanh(x / softcap), with tanh(|y|) = (1 - exp(-2|y|)) / (1 + exp(-2|y|)).
inline F capped(F x, F cap, F inverse) {
  const F y = mul(x, inverse);
  const F magnitude = max(y, sub(zero(), y));
  const F e = exp_negative(mul(magnitude, set1(-2.0f)));
  const F t = div(sub(set1(1.0f), e), add(set1(1.0f), e));
  return mul(cap, select_below(y, 0.0f, sub(zero(), t), t));
}

// One token's keys or values as floats: at(d) is W of them from element d (a multiple of W), run()
// N times as many, at(d, n) the last n < W and zeros.
struct RowF32 {
  const float* data;
  RowF32(const KvPlane& p, ptrdiff_t token, const AttentionArgs&)
      : data(reinterpret_cast<const float*>(p.data + token * p.token)) {}
  F at(int d) const { return load(data + d); }
  template <int N>
  void run(int d, F (&x)[N]) const {
    for (int n = 0; n < N; ++n) x[n] = load(data + d + n * W);
  }
  F at(int d, int n) const {
    float part[W] = {};
    for (int i = 0; i < n; ++i) part[i] = data[d + i];
    return load(part);
  }
};

template <F (*Load)(const uint16_t*)>
struct RowHalf {
  const uint16_t* data;
  RowHalf(const KvPlane& p, ptrdiff_t token, const AttentionArgs&)
      : data(reinterpret_cast<const uint16_t*>(p.data + token * p.token)) {}
  F at(int d) const { return Load(data + d); }
  template <int N>
  void run(int d, F (&x)[N]) const {
    for (int n = 0; n < N; ++n) x[n] = Load(data + d + n * W);
  }
  F at(int d, int n) const {
    uint16_t part[W] = {};
    for (int i = 0; i < n; ++i) part[i] = data[d + i];
    return Load(part);
  }
};

inline float scale_at(KvFormat format, const std::byte* p, int i) {
  switch (format) {
    case KvFormat::bf16:
      return bf16_to_float(reinterpret_cast<const uint16_t*>(p)[i]);
    case KvFormat::f16:
      return f16_to_float(reinterpret_cast<const uint16_t*>(p)[i]);
    default:
      return reinterpret_cast<const float*>(p)[i];
  }
}

// The width of a quantised row is a multiple of its group, so of W: no part vectors.
template <int Bits>
struct RowQuantized {
  const uint8_t* data;
  const std::byte* scales;
  const std::byte* biases;
  int shift;
  KvFormat format;
  RowQuantized(const KvPlane& p, ptrdiff_t token, const AttentionArgs& a)
      : data(reinterpret_cast<const uint8_t*>(p.data + token * p.token)),
        scales(p.scales + token * p.scale_token),
        biases(p.biases + token * p.scale_token),
        shift(a.group_shift),
        format(a.scale_format) {}
  F scale(int group) const { return set1(scale_at(format, scales, group)); }
  F bias(int group) const { return set1(scale_at(format, biases, group)); }
  F codes(int d) const { return Bits == 8 ? load_u8(data + d) : load_u4(data + d / 2); }
  F at(int d) const { return fma(codes(d), scale(d >> shift), bias(d >> shift)); }
  template <int N>
  void run(int d, F (&x)[N]) const {
    F s = scale(d >> shift), b = bias(d >> shift);
    for (int n = 0; n < N; ++n) {
      const int i = d + n * W;
      if (n > 0 && (i & ((1 << shift) - 1)) == 0) s = scale(i >> shift), b = bias(i >> shift);
      x[n] = fma(codes(i), s, b);
    }
  }
  F at(int, int) const { return zero(); }
};

// Calls f.template operator()<Row>() for the format of the keys and values.
template <class Fn>
inline void with_row_type(const AttentionArgs& a, Fn&& f) {
  switch (a.kv_format) {
    case KvFormat::f32:
      return f.template operator()<RowF32>();
    case KvFormat::bf16:
      return f.template operator()<RowHalf<load_bf16>>();
    case KvFormat::f16:
      return f.template operator()<RowHalf<load_f16>>();
    case KvFormat::q8:
      return f.template operator()<RowQuantized<8>>();
    case KvFormat::q4:
      return f.template operator()<RowQuantized<4>>();
  }
}

constexpr int bits_of(KvFormat f) {
  return f == KvFormat::f32 ? 32 : f == KvFormat::q8 ? 8 : f == KvFormat::q4 ? 4 : 16;
}

inline KvPlane at_head(KvPlane p, int b, int g) {
  p.data += b * p.batch + g * p.head;
  if (p.scales) {
    p.scales += b * p.scale_batch + g * p.scale_head;
    p.biases += b * p.scale_batch + g * p.scale_head;
  }
  return p;
}

// f(segment, first token in it, count, first column) for the segments' parts of [begin, end).
template <class Fn>
inline void for_each_part(const AttentionArgs& a, int begin, int end, Fn&& f) {
  int start = 0;
  for (int i = 0; i < a.num_segments && start < end; ++i) {
    const KvSegment& s = a.segments[i];
    const int from = begin > start ? begin : start;
    const int to = end < start + s.count ? end : start + s.count;
    if (from < to) f(s, from - start, to - from, from - begin);
    start += s.count;
  }
}

// The rows' queries as floats times the scale, padded with zeros to whole vectors.
inline void load_queries(const AttentionArgs& a, int b, int g, int row_begin, int row_end,
                         float* out, int stride) {
  const int group = a.group_heads();
  for (int r = row_begin; r < row_end; ++r, out += stride) {
    const std::byte* row = a.q + b * a.q_batch + (g * group + r % group) * a.q_head +
                           static_cast<ptrdiff_t>(r / group) * a.q_token;
    const auto* f = reinterpret_cast<const float*>(row);
    const auto* h = reinterpret_cast<const uint16_t*>(row);
    for (int d = 0; d < a.dim; ++d)
      out[d] = a.scale * (a.q_format == KvFormat::f32    ? f[d]
                          : a.q_format == KvFormat::bf16 ? bf16_to_float(h[d])
                                                         : f16_to_float(h[d]));
    for (int d = a.dim; d < stride; ++d) out[d] = 0.0f;
  }
}

inline float mask_value(const AttentionArgs& a, const std::byte* p) {
  switch (a.mask_format) {
    case MaskFormat::f32:
      return *reinterpret_cast<const float*>(p);
    case MaskFormat::bf16:
      return bf16_to_float(*reinterpret_cast<const uint16_t*>(p));
    case MaskFormat::f16:
      return f16_to_float(*reinterpret_cast<const uint16_t*>(p));
    default:
      return *reinterpret_cast<const bool*>(p) ? 0.0f : kMinusInfinity;
  }
}

// Scores s[0, n) of one row and keys [key, key + n) become exp(score - largest); the row's state
// takes them in. Columns n to the end of the vector become 0.
inline void softmax_step(const AttentionArgs& a, int b, int g, int row, int key, int n, float* s,
                         float& largest, float& sum, float* values) {
  const int group = a.group_heads(), query = row / group;
  const int padded = (n + W - 1) / W * W;
  if (a.softcap > 0.0f) {
    const F cap = set1(a.softcap), inverse = set1(1.0f / a.softcap);
    for (int j = 0; j < padded; j += W) store(s + j, capped(load(s + j), cap, inverse));
  }
  if (a.mask_format != MaskFormat::none) {
    const std::byte* m = a.mask + b * a.mask_batch + (g * group + row % group) * a.mask_head +
                         query * a.mask_query + key * a.mask_key;
    for (int j = 0; j < n; ++j) s[j] += mask_value(a, m + j * a.mask_key);
  }
  const int first = a.first_seen(b, query) - key, end = a.end_seen(query) - key;
  for (int j = 0; j < first && j < n; ++j) s[j] = kMinusInfinity;
  for (int j = end > 0 ? end : 0; j < padded; ++j) s[j] = kMinusInfinity;
  for (int j = n; j < padded; ++j) s[j] = kMinusInfinity;

  F top = set1(largest);
  for (int j = 0; j < padded; j += W) top = max(top, load(s + j));
  const float now = hmax(top);
  if (now == kMinusInfinity) {
    for (int j = 0; j < padded; ++j) s[j] = 0.0f;
    return;
  }
  F total = zero();
  for (int j = 0; j < padded; j += W) {
    const F p = exp_negative(sub(load(s + j), set1(now)));
    store(s + j, p);
    total = add(total, p);
  }
  if (now > largest) {
    const float shrink = exp_negative(largest - now);
    sum *= shrink;
    const F f = set1(shrink);
    const int width = attention_padded(a.value_dim);
    for (int d = 0; d < width; d += W) store(values + d, mul(load(values + d), f));
    largest = now;
  }
  sum += hsum(total);
}

inline void clear(const AttentionState& state, int rows, int width) {
  for (int r = 0; r < rows; ++r) {
    state.largest[r] = kMinusInfinity;
    state.sum[r] = 0.0f;
  }
  for (ptrdiff_t i = 0; i < static_cast<ptrdiff_t>(rows) * width; i += W)
    store(state.values + i, zero());
}

// --- few rows: keys and values are read once, where they lie ---

// Brings the bytes of elements [d, d + n) of one token towards the core; `bits` an element, 0:
// none.
inline void prefetch(const std::byte* row, int d, int n, int bits) {
  for (int i = d * bits / 8; i < (d + n) * bits / 8; i += 64) __builtin_prefetch(row + i, 0, 2);
}

// s[r][j] = q[r] . key j, for R rows and `count` keys from token `first`. Meanwhile the same
// tokens' values are fetched, of `ahead` bits an element.
template <class Row, int R>
[[gnu::noinline]] void few_scores(const AttentionArgs& a, const KvPlane& k, int first, int count,
                                  const float* q, int q_stride, float* s, const KvPlane& v,
                                  int ahead) {
  const int pairs = a.dim / (2 * W) * (2 * W), whole = a.dim / W * W, rest = a.dim - whole;
  int j = 0;
  for (; j + 4 <= count; j += 4) {
    const std::byte* values = v.data + static_cast<ptrdiff_t>(first + j) * v.token;
    const Row k0(k, first + j, a), k1(k, first + j + 1, a), k2(k, first + j + 2, a),
        k3(k, first + j + 3, a);
    F acc[R][4];
    for (int r = 0; r < R; ++r)
      for (int i = 0; i < 4; ++i) acc[r][i] = zero();
    const auto step = [&](int d, F x0, F x1, F x2, F x3) {
      for (int r = 0; r < R; ++r) {
        const F x = load(q + r * q_stride + d);
        acc[r][0] = fma(x, x0, acc[r][0]);
        acc[r][1] = fma(x, x1, acc[r][1]);
        acc[r][2] = fma(x, x2, acc[r][2]);
        acc[r][3] = fma(x, x3, acc[r][3]);
      }
    };
    for (int d = 0; d < pairs; d += 2 * W) {
      if (ahead)
        for (int i = 0; i < 4; ++i) prefetch(values + i * v.token, d, 2 * W, ahead);
      F x0[2], x1[2], x2[2], x3[2];
      k0.run(d, x0);
      k1.run(d, x1);
      k2.run(d, x2);
      k3.run(d, x3);
      step(d, x0[0], x1[0], x2[0], x3[0]);
      step(d + W, x0[1], x1[1], x2[1], x3[1]);
    }
    if (pairs < whole) step(pairs, k0.at(pairs), k1.at(pairs), k2.at(pairs), k3.at(pairs));
    if (rest)
      step(whole, k0.at(whole, rest), k1.at(whole, rest), k2.at(whole, rest), k3.at(whole, rest));
    for (int r = 0; r < R; ++r)
      hsum4(acc[r][0], acc[r][1], acc[r][2], acc[r][3], s + r * kAttentionBlock + j);
  }
  for (; j < count; ++j) {
    const Row key(k, first + j, a);
    F acc[R];
    for (int r = 0; r < R; ++r) acc[r] = zero();
    for (int d = 0; d < whole; d += W) {
      const F x = key.at(d);
      for (int r = 0; r < R; ++r) acc[r] = fma(load(q + r * q_stride + d), x, acc[r]);
    }
    if (rest) {
      const F x = key.at(whole, rest);
      for (int r = 0; r < R; ++r) acc[r] = fma(load(q + r * q_stride + whole), x, acc[r]);
    }
    for (int r = 0; r < R; ++r) s[r * kAttentionBlock + j] = hsum(acc[r]);
  }
}

// values[r][d] += sum over j of p[r][j] * value j [d], for N vectors from d.
template <class Row, int R, int N>
[[gnu::noinline]] void few_values(const AttentionArgs& a, const KvPlane& v, int first, int count,
                                  int d, const float* p, float* values, int width, const KvPlane& k,
                                  int ahead) {
  F acc[R][N];
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) acc[r][n] = load(values + r * width + d + n * W);
  [[maybe_unused]] const bool part = d + W > a.value_dim;
  const std::byte* keys = k.data + static_cast<ptrdiff_t>(first + kAttentionBlock) * k.token;
  for (int j = 0; j < count; ++j, keys += k.token) {
    if (ahead) prefetch(keys, d, N * W, ahead);
    const Row value(v, first + j, a);
    F x[N];
    if constexpr (N > 1)
      value.run(d, x);
    else
      x[0] = part ? value.at(d, a.value_dim - d) : value.at(d);
    for (int r = 0; r < R; ++r) {
      const F weight = set1(p[r * kAttentionBlock + j]);
      for (int n = 0; n < N; ++n) acc[r][n] = fma(weight, x[n], acc[r][n]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) store(values + r * width + d + n * W, acc[r][n]);
}

// All columns, few keys at a time: they stay in the first cache while columns are walked. The keys
// of the next block are fetched meanwhile.
template <class Row, int R>
inline void few_values(const AttentionArgs& a, const KvPlane& v, int first, int count,
                       const float* p, float* values, int width, const KvPlane& k, int ahead) {
  constexpr int kAtATime = 16;
  for (int j = 0; j < count; j += kAtATime) {
    const int n = count - j < kAtATime ? count - j : kAtATime;
    int d = 0;
    for (; d + 4 * W <= a.value_dim; d += 4 * W)
      few_values<Row, R, 4>(a, v, first + j, n, d, p + j, values, width, k, ahead);
    for (; d < a.value_dim; d += W)
      few_values<Row, R, 1>(a, v, first + j, n, d, p + j, values, width, k, ahead);
  }
}

// Calls f.template operator()<R>(row) for rows in groups of kFewRows, then for what is left.
template <class Fn>
inline void in_row_groups(int rows, Fn&& f) {
  int r = 0;
  for (; r + kFewRows <= rows; r += kFewRows) f.template operator()<kFewRows>(r);
  switch (rows - r) {
    case 1:
      f.template operator()<1>(r);
      break;
    case 2:
      f.template operator()<2>(r);
      break;
    case 3:
      f.template operator()<3>(r);
      break;
    default:
      break;
  }
}

void few(const AttentionArgs& a, int b, int g, int row_begin, int row_end, int key_begin,
         int key_end, const AttentionState& state, float* scratch) {
  const int rows = row_end - row_begin, width = attention_padded(a.value_dim);
  const int q_stride = attention_padded(a.dim);
  float* q = scratch;
  float* s = q + static_cast<ptrdiff_t>(attention_padded_rows(rows)) * q_stride;
  const int bits = bits_of(a.kv_format);
  load_queries(a, b, g, row_begin, row_end, q, q_stride);
  clear(state, rows, width);
  with_row_type(a, [&]<class Row>() {
    for (int key = key_begin; key < key_end; key += kAttentionBlock) {
      const int n = key_end - key < kAttentionBlock ? key_end - key : kAttentionBlock;
      for_each_part(a, key, key + n,
                    [&](const KvSegment& segment, int first, int count, int column) {
                      const KvPlane k = at_head(segment.k, b, g), v = at_head(segment.v, b, g);
                      in_row_groups(rows, [&]<int R>(int r) {
                        few_scores<Row, R>(a, k, first, count, q + r * q_stride, q_stride,
                                           s + r * kAttentionBlock + column, v, r == 0 ? bits : 0);
                      });
                    });
      for (int r = 0; r < rows; ++r)
        softmax_step(a, b, g, row_begin + r, key, n, s + r * kAttentionBlock, state.largest[r],
                     state.sum[r], state.values + r * width);
      for_each_part(a, key, key + n,
                    [&](const KvSegment& segment, int first, int count, int column) {
                      const KvPlane k = at_head(segment.k, b, g), v = at_head(segment.v, b, g);
                      in_row_groups(rows, [&]<int R>(int r) {
                        few_values<Row, R>(a, v, first, count, s + r * kAttentionBlock + column,
                                           state.values + r * width, width, k, r == 0 ? bits : 0);
                      });
                    });
    }
  });
}

// --- many rows: tiles of keys and values as floats, then matrix products ---

// c[R rows][N vectors] (+)= a[R][depth] b[depth][N vectors].
template <int R, int N>
[[gnu::noinline]] void tile_product(const float* a, int a_stride, const float* b, int b_stride,
                                    int depth, float* c, int c_stride, bool accumulate) {
  F acc[R][N];
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) acc[r][n] = accumulate ? load(c + r * c_stride + n * W) : zero();
  for (int k = 0; k < depth; ++k) {
    F x[N];
    for (int n = 0; n < N; ++n) x[n] = load(b + k * b_stride + n * W);
    for (int r = 0; r < R; ++r) {
      const F y = set1(a[r * a_stride + k]);
      for (int n = 0; n < N; ++n) acc[r][n] = fma(y, x[n], acc[r][n]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int n = 0; n < N; ++n) store(c + r * c_stride + n * W, acc[r][n]);
}

// c[rows][columns] (+)= a[rows][depth] b[depth][columns]; columns a multiple of kAttentionPad, and
// rows that of kAttentionRowMultiple.
inline void product(const float* a, int a_stride, const float* b, int b_stride, int rows, int depth,
                    int columns, float* c, int c_stride, bool accumulate) {
  int n = 0;
  const auto strip = [&]<int N>() {
    int r = 0;
    for (; r + kTileRows <= rows; r += kTileRows)
      tile_product<kTileRows, N>(a + r * a_stride, a_stride, b + n, b_stride, depth,
                                 c + r * c_stride + n, c_stride, accumulate);
    for (; r < rows; r += 2)
      tile_product<2, N>(a + r * a_stride, a_stride, b + n, b_stride, depth, c + r * c_stride + n,
                         c_stride, accumulate);
    n += N * W;
  };
  while (n + kTileVectors * W <= columns) strip.template operator()<kTileVectors>();
  while (n < columns) strip.template operator()<1>();
}

// Keys become columns: out[d][column + j].
template <class Row>
inline void pack_keys(const AttentionArgs& a, const KvPlane& k, int first, int count, float* out) {
  constexpr int kSide = static_cast<int>(kTransposeSide);
  const int whole = a.dim / W * W, rest = a.dim - whole, squares = count / kSide * kSide;
  for (int j = 0; j < squares; j += kSide)
    for (int d = 0; d < whole; d += W) {
      float lanes[kSide][W];
      for (int i = 0; i < kSide; ++i) store(lanes[i], Row(k, first + j + i, a).at(d));
      for (int i = 0; i < W; i += kSide)
        transpose_square(&lanes[0][i], W, out + (d + i) * kAttentionBlock + j, kAttentionBlock);
    }
  for (int j = 0; j < count; ++j) {
    const Row key(k, first + j, a);
    float lanes[W];
    for (int d = j < squares ? whole : 0; d < whole; d += W) {
      store(lanes, key.at(d));
      for (int i = 0; i < W; ++i) out[(d + i) * kAttentionBlock + j] = lanes[i];
    }
    if (rest) {
      store(lanes, key.at(whole, rest));
      for (int i = 0; i < rest; ++i) out[(whole + i) * kAttentionBlock + j] = lanes[i];
    }
  }
}

template <class Row>
inline void pack_values(const AttentionArgs& a, const KvPlane& v, int first, int count, float* out,
                        int width) {
  const int whole = a.value_dim / W * W, rest = a.value_dim - whole;
  for (int j = 0; j < count; ++j, out += width) {
    const Row value(v, first + j, a);
    for (int d = 0; d < whole; d += W) store(out + d, value.at(d));
    if (rest) store(out + whole, value.at(whole, rest));
    for (int d = whole + (rest ? W : 0); d < width; d += W) store(out + d, zero());
  }
}

void many(const AttentionArgs& a, int b, int g, int row_begin, int row_end, int key_begin,
          int key_end, const AttentionState& state, float* scratch) {
  const int rows = row_end - row_begin, padded_rows = attention_padded_rows(rows);
  const int width = attention_padded(a.value_dim), q_stride = attention_padded(a.dim);
  float* q = scratch;
  float* s = q + static_cast<ptrdiff_t>(padded_rows) * q_stride;
  float* keys = s + static_cast<ptrdiff_t>(padded_rows) * kAttentionBlock;
  float* tile = keys + static_cast<ptrdiff_t>(q_stride) * kAttentionBlock;
  load_queries(a, b, g, row_begin, row_end, q, q_stride);
  for (ptrdiff_t i = static_cast<ptrdiff_t>(rows) * q_stride; i < padded_rows * q_stride; ++i)
    q[i] = 0.0f;
  clear(state, padded_rows, width);
  with_row_type(a, [&]<class Row>() {
    for (int key = key_begin; key < key_end; key += kAttentionBlock) {
      const int n = key_end - key < kAttentionBlock ? key_end - key : kAttentionBlock;
      const int columns = attention_padded(n);
      for_each_part(a, key, key + n,
                    [&](const KvSegment& segment, int first, int count, int column) {
                      pack_keys<Row>(a, at_head(segment.k, b, g), first, count, keys + column);
                      pack_values<Row>(a, at_head(segment.v, b, g), first, count,
                                       tile + column * width, width);
                    });
      for (int d = 0; d < a.dim; ++d)
        for (int j = n; j < columns; ++j) keys[d * kAttentionBlock + j] = 0.0f;
      product(q, q_stride, keys, kAttentionBlock, padded_rows, a.dim, columns, s, kAttentionBlock,
              false);
      for (int r = 0; r < rows; ++r)
        softmax_step(a, b, g, row_begin + r, key, n, s + r * kAttentionBlock, state.largest[r],
                     state.sum[r], state.values + static_cast<ptrdiff_t>(r) * width);
      product(s, kAttentionBlock, tile, width, padded_rows, n, width, state.values, width, true);
    }
  });
}

// --- the end ---

inline void store_row(const AttentionArgs& a, std::byte* out, int d, F x) {
  float lanes[W];
  uint16_t halves[W];
  const int n = a.value_dim - d < W ? a.value_dim - d : W;
  if (a.q_format == KvFormat::f32) {
    if (n == W) return store(reinterpret_cast<float*>(out) + d, x);
    store(lanes, x);
    for (int i = 0; i < n; ++i) reinterpret_cast<float*>(out)[d + i] = lanes[i];
    return;
  }
  if (a.q_format == KvFormat::bf16)
    store_bf16(halves, x);
  else
    store_f16(halves, x);
  for (int i = 0; i < n; ++i) reinterpret_cast<uint16_t*>(out)[d + i] = halves[i];
}

void finish(const AttentionArgs& a, int b, int g, int row_begin, int row_end,
            const AttentionState* parts, int num_parts) {
  const int group = a.group_heads(), width = attention_padded(a.value_dim);
  for (int row = row_begin; row < row_end; ++row) {
    const int r = row - row_begin, head = g * group + row % group;
    float largest = a.sinks ? a.sinks[head] : kMinusInfinity;
    for (int i = 0; i < num_parts; ++i)
      if (parts[i].largest[r] > largest) largest = parts[i].largest[r];
    float sum = a.sinks && largest > kMinusInfinity ? exp_negative(a.sinks[head] - largest) : 0.0f;
    for (int i = 0; i < num_parts; ++i)
      if (parts[i].sum[r] > 0.0f)
        sum += parts[i].sum[r] * exp_negative(parts[i].largest[r] - largest);
    const float inverse = sum > 0.0f ? 1.0f / sum : 0.0f;
    std::byte* out = a.out + b * a.out_batch + head * a.out_head +
                     static_cast<ptrdiff_t>(row / group) * a.out_token;
    for (int d = 0; d < a.value_dim; d += W) {
      F x = zero();
      for (int i = 0; i < num_parts; ++i)
        if (parts[i].sum[r] > 0.0f)
          x = fma(set1(exp_negative(parts[i].largest[r] - largest) * inverse),
                  load(parts[i].values + static_cast<ptrdiff_t>(r) * width + d), x);
      store_row(a, out, d, x);
    }
  }
}
