// llm-tool convert: a model, a GGUF file included, as a folder of safetensors.
#include "llm-tool/training_commands.h"

#include "llm/presets.h"
#include "llm/registry.h"
#include "lm_common/write_model.h"
#include "support/program.h"

namespace mlxcpp::tools {
namespace {

namespace fs = std::filesystem;

struct ConvertOptions {
  ModelOptions model;
  std::string output = "mlx_model", dtype, mode = "affine";
  bool quantize = false, dequantize = false;
  std::optional<int> bits, group_size;
};

// What a mode has when nothing is said, as mlx.core.quantize has it.
kernels::QuantType type_of(const ConvertOptions& o) {
  const auto mode = *kernels::quant_mode_from_name(o.mode);
  const bool affine = mode == kernels::QuantMode::affine, nvfp4 = o.mode == "nvfp4";
  return kernels::quant_type(mode,
                             o.group_size.value_or(affine  ? 64
                                                   : nvfp4 ? 16
                                                           : 32),
                             o.bits.value_or(o.mode == "mxfp8" ? 8 : 4));
}

int convert(const ConvertOptions& o) {
  if (!o.quantize && (o.bits || o.group_size))
    throw Error("--bits and --group-size need --quantize");
  WriteModelOptions options{.dequantize = o.dequantize};
  if (!o.dtype.empty())
    options.dtype = o.dtype == "float16"    ? mx::float16
                    : o.dtype == "bfloat16" ? mx::bfloat16
                                            : mx::float32;
  if (o.quantize) options.quantize = type_of(o);
  check_new_folder(o.output);
  const auto container = interruptible([&](std::stop_token stop) {
    return load_model_container(llm::presets().configuration(o.model.model), llm::model_types(),
                                o.model.download_options(false, std::move(stop)));
  });
  const ModelFiles files = files_of(o.model);
  container->update([&](ModelContext& context) { write_model(o.output, context, files, options); });
  fmt::print(stderr, "{} written\n", o.output);
  return 0;
}

}  // namespace

ModelFiles files_of(const ModelOptions& model) {
  DownloadOptions options = model.download_options(true);
  options.offline = true;
  return resolve_model(llm::presets().configuration(model.model).reference(), options);
}

void check_new_folder(const fs::path& folder) {
  if (fs::exists(folder / "config.json"))
    throw Error("{}: there is a model already; name another folder", folder.string());
}

Command add_convert(CLI::App& app) {
  const auto o = std::make_shared<ConvertOptions>();
  o->model.add(app);
  app.add_option("--output", o->output, "folder to write")->capture_default_str();
  app.add_option("--dtype", o->dtype,
                 "of what is not quantised: float32, bfloat16 or float16 [as it is; bfloat16 for "
                 "GGUF's blocks]")
      ->check(CLI::IsMember({"float32", "bfloat16", "float16"}));
  auto* quantize = app.add_flag("--quantize", o->quantize, "quantise every layer that can be");
  app.add_option("--bits", o->bits, "2, 3, 4, 5, 6 or 8 [4; 8 for mxfp8]");
  app.add_option("--group-size", o->group_size,
                 "weights that share a scale: 32, 64 or 128 [64; as the other modes have it]");
  app.add_option("--mode", o->mode, "affine, mxfp4, mxfp8 or nvfp4")
      ->check(CLI::IsMember({"affine", "mxfp4", "mxfp8", "nvfp4"}))
      ->capture_default_str();
  app.add_flag("--dequantize", o->dequantize, "nothing stays quantised")->excludes(quantize);
  return [o] { return convert(*o); };
}

}  // namespace mlxcpp::tools
