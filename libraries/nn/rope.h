// Rotary position embedding (RoFormer, arXiv 2104.09864) and the ways of stretching it to longer
// texts. The formulas are those of transformers' modeling_rope_utils.py.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/json.h"
#include "kernels/rope.h"
#include "nn/module.h"

namespace mlxcpp::nn {

enum class RopeType {
  standard,      // "default"
  linear,        // positions divided by `factor`
  dynamic,       // NTK: theta grows with the length reached; with `alpha`: by a fixed amount
  llama3,        // long wavelengths divided by `factor`, short ones kept
  yarn,          // arXiv 2309.00071; also "deepseek_yarn" and "telechat3-yarn"
  longrope,      // arXiv 2402.13753, a factor for each frequency; also "su"
  proportional,  // the last pairs of a head stand still
};

// Dimensions of the largest head: tables of a head's size are made before any weight is looked at.
inline constexpr int kLargestHead = 1 << 16;

// What config.json says about RoPE. read() takes it from `rope_theta`, `partial_rotary_factor`,
// `max_position_embeddings`, `original_max_position_embeddings`, and the object `rope_scaling` or
// (transformers 5) `rope_parameters`, strictly: an unknown type or key, a missing key or a number
// out of range is an Error that names it. Set a family's own defaults before reading.
struct RopeConfig {
  int head_dim = 0;  // the last axis of queries and keys
  RopeType type = RopeType::standard;
  double theta = 10000.0;                    // base of the wavelengths
  double partial_rotary_factor = 1.0;        // the part of a head that turns
  int max_position_embeddings = 0;           // 0: not given
  int original_max_position_embeddings = 0;  // before stretching
  std::optional<double> factor;
  std::optional<double> alpha;                           // dynamic (Hunyuan)
  std::optional<double> attention_factor;                // yarn, longrope
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn, turns within the original length
  std::optional<double> mscale, mscale_all_dim;          // yarn
  bool truncate = true;                                  // yarn
  std::vector<double> short_factor, long_factor;         // longrope, one for each frequency
  std::optional<double> short_mscale, long_mscale;       // longrope (Phi-3.5-MoE)
  std::vector<int> mrope_section;  // frequencies of time, height, width (Qwen-VL); empty: none
  bool mrope_interleaved = false;  // frequencies t h w t h w ... instead of three blocks

  // Reads the keys above at the level that `reader` stands on, for heads of `head_dim`. Where
  // `rope_parameters` holds one object for each kind of layer, `layer_type` ("full_attention") says
  // which.
  void read(ConfigReader reader, int head_dim, const std::string& layer_type = "");
  // Throws an Error, which `where` starts, unless the type has what it needs.
  void check(const std::string& where) const;
};

// Turns the vectors of queries and keys by their positions. No state: what depends on the length
// reached (dynamic, longrope) follows from the positions of the call, for each row by itself.
class RoPE final : public Module {
 public:
  // traditional: pairs (2i, 2i+1) turn together; otherwise (i, i + dims/2), as in most checkpoints.
  explicit RoPE(const RopeConfig& config, bool traditional = false);
  // mlx.nn's RoPE: turns the first `dims`; `scale` multiplies positions.
  explicit RoPE(int dims, bool traditional = false, double theta = 10000.0, double scale = 1.0);

  // x [B, H, L, head_dim] -> the same shape. expected_length: what a sequence that comes in pieces
  // is known to reach, for types that depend on the length (with one offset for all rows).
  // Positions of three axes are multimodal().
  mx::array operator()(const mx::array& x, const kernels::Positions& positions,
                       int expected_length = 0) const;
  // Multimodal positions int32 [3, B, L] (time, height, width), as mrope_section divides them. Text
  // has three equal rows, for which this is what operator() gives.
  mx::array multimodal(const mx::array& x, const mx::array& positions) const;

  // Radians per position of each pair, and the factor on the turned part, for a sequence of
  // `length` tokens.
  struct Frequencies {
    std::vector<double> inv_freq;
    double scale = 1.0;
  };
  Frequencies frequencies(int length) const;

  // A set of frequencies in the form that the kernel takes.
  struct Table {
    mx::array inv_freq;  // f32 [dims/2]
    float scale;
  };
  // The one that turns all rows of such a call on L tokens; none where each row needs its own.
  std::optional<Table> table_for(const kernels::Positions& positions, int L,
                                 int expected_length = 0) const;

  int dims() const { return dims_; }  // that turn
  bool traditional() const { return traditional_; }
  std::string settings() const override;

 private:
  static Table table(const Frequencies& f);
  bool depends_on_length() const;
  mx::array rows_of_own_length(const mx::array& x, const mx::array& offsets) const;
  mx::array rotate(const mx::array& x, const mx::array& angles, const mx::array& scale) const;

  RopeConfig config_;
  int dims_;
  bool traditional_;
  Table short_, long_;  // up to the original length, and beyond it; equal for most types
};

// RoPE of config.json in one step; layers share it, since it has no parameters.
std::shared_ptr<const RoPE> make_rope(const ConfigReader& reader, int head_dim,
                                      const std::string& layer_type = "", bool traditional = false);

}  // namespace mlxcpp::nn
