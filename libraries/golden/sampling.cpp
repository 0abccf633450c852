// golden/sampling: probabilities after each filter, logits after each processor. An array's name
// says what was applied to it: KIND_VALUE[_keepN|_special|_CONTEXT]; the chains and the bias have
// theirs in the note of the .json.
#include <regex>

#include "golden/kinds.h"
#include "golden/steps.h"
#include "lm_common/sampling.h"

namespace mlxcpp::golden {
namespace {

constexpr int kSpecialToken = 10;  // that the arrays *_special keep, unless their note says another

struct Applied {
  GenerateParameters parameters{.temperature = 1.0f};
  std::vector<int> special;
  bool logits = false;  // a processor's outcome, not probabilities
};

float number_after(const std::string& text, const std::string& word) {
  std::smatch m;
  return std::regex_search(text, m, std::regex(word + " ([0-9.]+)")) ? std::stof(m[1]) : 0.0f;
}

// "top_p 0.95, min_p 0.01, xtc(1, 0.2), top_k 12, temperature 0.8"
void read_chain(const std::string& note, GenerateParameters& p) {
  p.top_p = number_after(note, "top_p");
  p.min_p = number_after(note, "min_p");
  p.top_k = static_cast<int>(number_after(note, "top_k"));
  p.temperature = number_after(note, "temperature");
  std::smatch m;
  if (std::regex_search(note, m, std::regex(R"(xtc\(([0-9.]+), ([0-9.]+)\))"))) {
    p.xtc_probability = std::stof(m[1]);
    p.xtc_threshold = std::stof(m[2]);
  }
}

Applied parse(const std::string& name, const std::string& note, const std::string& where) {
  Applied a;
  auto& p = a.parameters;
  std::smatch m;
  static const std::regex form(
      R"(^(temperature|top_p|min_p|top_k|xtc|repetition|presence|frequency)_([0-9.]+)(?:_(?:keep)?(\d+|special))?$)");
  if (name.starts_with("chain")) {
    read_chain(note, p);
  } else if (name == "logit_bias") {
    a.logits = true;
    static const std::regex entry(R"((\d+): (-?[0-9.]+))");
    for (std::sregex_iterator it(note.begin(), note.end(), entry), end; it != end; ++it)
      p.logit_bias[std::stoi((*it)[1])] = std::stof((*it)[2]);
  } else if (std::regex_match(name, m, form)) {
    const std::string kind = m[1], extra = m[3];
    const float value = std::stof(m[2]);
    const int context = extra.empty() || extra == "special" ? 0 : std::stoi(extra);
    a.logits = kind == "repetition" || kind == "presence" || kind == "frequency";
    if (kind == "temperature") p.temperature = value;
    if (kind == "top_p") p.top_p = value;
    if (kind == "top_k") p.top_k = static_cast<int>(value);
    if (kind == "min_p") p.min_p = value;
    if (kind == "min_p" && context) p.min_tokens_to_keep = context;
    if (kind == "xtc") p.xtc_probability = 1.0f;
    if (kind == "xtc") p.xtc_threshold = value;
    if (extra == "special") {
      static const std::regex token("special token (\\d+)");
      std::smatch said;
      a.special = {std::regex_search(note, said, token) ? std::stoi(said[1]) : kSpecialToken};
    }
    if (kind == "repetition") p.repetition_penalty = value;
    if (kind == "repetition") p.repetition_context_size = context;
    if (kind == "presence") p.presence_penalty = value;
    if (kind == "presence") p.presence_context_size = context;
    if (kind == "frequency") p.frequency_penalty = value;
    if (kind == "frequency") p.frequency_context_size = context;
  } else {
    throw Error("{}: how '{}' is made is not known", where, name);
  }
  return a;
}

}  // namespace

void compare_sampling(const fs::path& json, const Options&, Comparison& out) {
  const Json info = read_json(json);
  References want(fs::path(json).replace_extension(".safetensors"));
  const auto& logits = want.at("logits");
  const auto& tokens = want.at("tokens");
  std::vector<int> history;
  for (int i = 0; i < static_cast<int>(tokens.size()); ++i) history.push_back(int_at(tokens, i));
  for (const auto& [name, note] : info.at("arrays").items()) {
    const Applied a = parse(name, note.get<std::string>(), json.string());
    Sampler sampler(a.parameters, a.special);
    sampler.prompt(history);
    const auto got =
        a.logits
            ? sampler.process(logits)
            : mx::softmax(sampler.filter(log_softmax(logits)) / mx::array(a.parameters.temperature),
                          -1);
    out.tensor(name, got, want.at(name));
  }
  for (const auto& name : want.unused()) out.check(name, false, "in the fixture, but not compared");
}

}  // namespace mlxcpp::golden
