#include "optimizers/by_name.h"

#include <cmath>
#include <cstdlib>
#include <string>

#include <fmt/ranges.h>

namespace mlxcpp::optimizers {
namespace {

struct Row {
  std::string_view name;
  std::unique_ptr<Optimizer> (*make)(Rate rate);
};

template <class T, class Options>
std::unique_ptr<Optimizer> make(Rate rate) {
  Options options{std::move(rate)};
  return std::make_unique<T>(std::move(options));
}

constexpr Row kRows[] = {
    {"adam", make<Adam, AdamOptions>},
    {"adamw", make<AdamW, AdamWOptions>},
    {"muon", make<Muon, MuonOptions>},
    {"sgd", make<SGD, SGDOptions>},
    {"adafactor", make<Adafactor, AdafactorOptions>},
    {"rmsprop", make<RMSprop, RMSpropOptions>},
    {"adagrad", make<Adagrad, AdagradOptions>},
    {"adadelta", make<AdaDelta, AdaDeltaOptions>},
    {"adamax", make<Adamax, AdamaxOptions>},
    {"lion", make<Lion, LionOptions>},
};

}  // namespace

std::vector<std::string> optimizer_names() {
  std::vector<std::string> names;
  for (const Row& row : kRows) names.emplace_back(row.name);
  return names;
}

std::unique_ptr<Optimizer> make_optimizer(std::string_view name, Rate learning_rate) {
  for (const Row& row : kRows)
    if (row.name == name) return row.make(std::move(learning_rate));
  throw Error("unknown optimizer '{}'; there are {}", name, fmt::join(optimizer_names(), ", "));
}

Schedule make_schedule(std::string_view text, double rate, int steps, int warmup) {
  const size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  std::vector<double> arguments;
  if (colon != std::string_view::npos)
    for (std::string_view rest = text.substr(colon + 1);;) {
      const size_t comma = rest.find(',');
      const std::string item(rest.substr(0, comma));
      char* end = nullptr;
      arguments.push_back(std::strtod(item.c_str(), &end));
      if (item.empty() || *end != '\0')
        throw Error("schedule '{}': expected a number, found '{}'", text, item);
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
  if (arguments.empty()) {
    if (name == "linear_schedule") arguments = {rate, 0, static_cast<double>(steps)};
    if (name == "cosine_decay") arguments = {rate, static_cast<double>(steps)};
    if (name == "constant") arguments = {rate};
  }
  const auto whole = [&](size_t i) {
    const double v = arguments[i];
    if (v != std::floor(v) || v < 1 || v > 1e9)
      throw Error("schedule '{}': expected a number of steps, found {}", text, v);
    return static_cast<int>(v);
  };
  const auto count = [&](size_t least, size_t most) {
    if (arguments.size() < least || arguments.size() > most)
      throw Error("schedule '{}': expected {} to {} arguments, found {}", text, least, most,
                  arguments.size());
  };
  auto made = [&]() -> Schedule {
    if (name == "constant") return count(1, 1), constant(arguments[0]);
    if (name == "exponential_decay")
      return count(2, 2), exponential_decay(arguments[0], arguments[1]);
    if (name == "step_decay") return count(3, 3), step_decay(arguments[0], arguments[1], whole(2));
    if (name == "cosine_decay")
      return count(2, 3),
             cosine_decay(arguments[0], whole(1), arguments.size() > 2 ? arguments[2] : 0.0);
    if (name == "linear_schedule")
      return count(3, 3), linear_schedule(arguments[0], arguments[1], whole(2));
    throw Error(
        "unknown schedule '{}'; there are constant, exponential_decay, step_decay, "
        "cosine_decay, linear_schedule",
        name);
  }();
  if (warmup <= 0) return made;
  return join_schedules({linear_schedule(0, arguments[0], warmup), made}, {warmup + 1});
}

}  // namespace mlxcpp::optimizers
