#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lm_common/adapter.h"

namespace mlxcpp::adapters {

// The adapters of one model by name, of which at most one is on:
//   AdapterSet set;
//   set.add("pirate", std::make_shared<LoraAdapter>(folder, context.config));
//   set.use(*context.model, "pirate");
// Caches filled before the switch hold what the other adapter computed: begin anew after it. For
// the thread of the model's arrays.
class AdapterSet {
 public:
  // Error when the name is taken, or empty.
  void add(const std::string& name, std::shared_ptr<const ModelAdapter> adapter);
  // Error when there is none of that name, or it is on.
  void remove(const std::string& name);
  // Takes off what is on and puts this one on; nullopt: none. When it does not fit, the one before
  // is on again.
  void use(LanguageModel& model, const std::optional<std::string>& name);

  std::vector<std::string> names() const;
  std::string listing() const;  // the same for a message, or "none"
  const std::optional<std::string>& active() const { return active_; }

 private:
  const ModelAdapter& at(const std::string& name) const;

  std::map<std::string, std::shared_ptr<const ModelAdapter>> adapters_;
  std::optional<std::string> active_;
};

}  // namespace mlxcpp::adapters
