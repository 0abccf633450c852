// golden/embedders: folders as sentence-transformers has them, and rerankers; token ids, the last
// hidden states, pooled vectors, embeddings alone and in a batch, scores of pairs. A fixture
// without config.json speaks of the real all-MiniLM-L6-v2.
#include "embedders/embedder.h"
#include "embedders/reranker.h"
#include "golden/kinds.h"
#include "golden/real_models.h"

namespace mlxcpp::golden {
namespace {

using namespace embedders;

// A text's vector is the same alone and in a batch.
constexpr Tolerance kAlone{.abs = 1e-6};

// "tolerance" of golden.json; each is absolute.
struct Bounds {
  double hidden = 0, embedding = 0, score = 0;
  void fields(ConfigReader& v) {
    v.maybe("hidden_max_abs", hidden);
    v.need("embedding_max_abs", embedding);
    v.maybe("score_max_abs", score);
  }
};

struct Run {
  const Json info;
  const Bounds bounds;
  References want;
  Comparison& out;

  Run(const fs::path& folder, Comparison& comparison)
      : info(read_json(folder / "golden.json")),
        bounds(read_fields<Bounds>(info.at("tolerance"), "golden.json: tolerance")),
        want(folder / "golden.safetensors"),
        out(comparison) {}

  void near(const std::string& name, const mx::array& got, double bound) {
    out.tensor(name, got, want.at(name), Tolerance{.abs = bound});
  }
  void ids(const std::string& name, const std::vector<int>& got) {
    const mx::array ref = mx::flatten(want.at(name));
    const mx::array have(got.data(), {static_cast<int>(got.size())}, mx::int32);
    out.check(name, mx::array_equal(have, ref).item<bool>(), "the ids differ");
  }
  void finish() {
    for (const auto& name : want.unused())
      out.check(name, false, "in golden.safetensors, but not compared");
  }
};

void compare_case(Run& r, const Embedder& embedder, const Json& c) {
  const auto name = c.at("name").get<std::string>();
  const auto texts = c.at("texts").get<std::vector<std::string>>();
  EmbedOptions options;
  if (name != "plain") options.prompt_name = name;
  const auto prompt = c.value("prompt", "");
  r.out.check(name + ": prompt", embedder.prompt(options) == prompt,
              fmt::format("'{}'", embedder.prompt(options)));

  std::vector<Tokens> tokens;
  std::vector<const Tokens*> all;
  for (const auto& text : texts) tokens.push_back(embedder.tokens(text, prompt));
  for (size_t i = 0; i < texts.size(); ++i) {
    r.ids(fmt::format("{}.ids{}", name, i), tokens[i].ids);
    all.push_back(&tokens[i]);
  }
  const TextEncoder& encoder = *embedder.model().encoder;
  if (name == "plain") {
    const Tokens* one[] = {&tokens.front()};
    const PackedTokens first(one);
    r.near("plain.hidden0", mx::expand_dims(encoder.hidden(first), 0), r.bounds.hidden);
    // Padded batches are the reference's: here texts stand one after the other.
    r.want.skip("plain.batch_input_ids");
    r.want.skip("plain.batch_attention_mask");
  }
  const PackedTokens packed(all);
  const auto pooled = embedder.pooled(encoder.hidden(packed), packed, {});
  r.near(name + ".pooled", pooled, r.bounds.hidden);
  if (r.want.has(name + ".dense"))
    r.near(name + ".dense", embedder.finish(pooled, {.normalize = false}), r.bounds.hidden);
  const auto together = embedder.embed(texts, options);
  r.near(name + ".embeddings", together, r.bounds.embedding);
  for (size_t i = 0; i < texts.size(); ++i) {
    const int row = static_cast<int>(i);
    r.out.tensor(fmt::format("{}: text {} alone", name, i), embedder.embed({texts[i]}, options),
                 mx::slice(together, {row, 0}, {row + 1, together.shape(1)}), kAlone);
  }
  if (name != "plain") return;
  for (const auto& tensor : r.want.names())
    if (tensor.starts_with("matryoshka."))
      r.near(tensor,
             embedder.embed(texts, {.dimension = std::stoi(tensor.substr(tensor.find('.') + 1)),
                                    .layer_norm = true}),
             r.bounds.embedding);
}

void compare_pairs(Run& r, const ModelFiles& files, const Json& c) {
  const Reranker reranker(files);
  RerankOptions options{.raw = true};
  if (c.contains("instruction")) options.instruction = c.at("instruction").get<std::string>();
  std::vector<float> raw, scores;
  const auto pairs = c.at("pairs").get<std::vector<std::vector<std::string>>>();
  for (size_t i = 0; i < pairs.size(); ++i) {
    const auto &query = pairs[i].at(0), &document = pairs[i].at(1);
    const Tokens tokens = reranker.tokens(query, document, options);
    r.ids(fmt::format("pair{}.input_ids", i), tokens.ids);
    if (const auto name = fmt::format("pair{}.token_type_ids", i); r.want.has(name))
      r.ids(name, tokens.type_ids);
    if (const auto name = fmt::format("pair{}.logits_last", i); r.want.has(name)) {
      const Tokens* one[] = {&tokens};
      const PackedTokens packed(one);
      const TextEncoder& encoder = *reranker.model().encoder;
      r.near(name, mx::squeeze(encoder.next_token_logits(encoder.hidden(packed), packed), 0),
             r.bounds.hidden);
    }
    raw.push_back(reranker.score(query, {document}, options).front());
    scores.push_back(reranker.score(query, {document}).front());
  }
  const auto array = [](const std::vector<float>& v) {
    return mx::array(v.data(), {static_cast<int>(v.size())}, mx::float32);
  };
  if (r.want.has("logits")) r.near("logits", array(raw), r.bounds.score);
  for (const char* name : {"sigmoid", "scores"})
    if (r.want.has(name)) r.near(name, array(scores), r.bounds.score);
  if (c.contains("order_best_first"))
    r.out.check("order", best_first(raw) == c.at("order_best_first").get<std::vector<size_t>>(),
                "the best is another");
}

void compare_minilm(Run& r) {
  ModelFiles files;
  try {
    files = resolve_model(kMiniLM, {.offline = true});
  } catch (const Error&) {  // not on this machine
    throw Skipped{fmt::format("{} is not in the cache; ./mlx-run llm-tool fetch gets it", kMiniLM)};
  }
  const Embedder embedder(files);
  const auto texts = r.info.at("cases").at(0).at("texts").get<std::vector<std::string>>();
  for (size_t i = 0; i < texts.size(); ++i)
    r.ids(fmt::format("ids{}", i), embedder.tokens(texts[i], "").ids);
  const auto together = embedder.embed(texts);
  r.near("embeddings", together, r.bounds.embedding);
  for (size_t i = 0; i < texts.size(); ++i) {
    const int row = static_cast<int>(i);
    r.out.tensor(fmt::format("text {} alone", i), embedder.embed({texts[i]}),
                 mx::slice(together, {row, 0}, {row + 1, together.shape(1)}), kAlone);
  }
}

ModelFiles resolve_files(const fs::path& folder) {
  const fs::path gguf = folder / "model.gguf";
  return fs::exists(gguf) ? ModelFiles{folder, {gguf}} : ModelFiles{folder, {}};
}

}  // namespace

void compare_embedders(const fs::path& folder, const Options&, Comparison& out) {
  // A GGUF file is held to the numbers of the folder whose weights it has.
  const Json info = read_json(folder / "golden.json");
  const fs::path golden =
      info.contains("twin") ? folder.parent_path() / info["twin"].get<std::string>() : folder;
  Run r(golden, out);
  const ModelFiles files = resolve_files(folder);
  if (!info.contains("twin") && !fs::exists(folder / "config.json")) {
    compare_minilm(r);
  } else if (r.info.at("cases").at(0).contains("pairs")) {
    compare_pairs(r, files, r.info.at("cases").at(0));
  } else {
    const Embedder embedder(files);
    for (const Json& c : r.info.at("cases")) {
      const auto name = c.at("name").get<std::string>();
      if (golden == folder || name == "plain")
        compare_case(r, embedder, c);
      else  // GGUF files have no prompts by name
        for (const auto& tensor : r.want.names())
          if (tensor.starts_with(name + ".")) r.want.skip(tensor);
    }
  }
  r.finish();
}

}  // namespace mlxcpp::golden
