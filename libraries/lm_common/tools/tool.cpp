#include "lm_common/tools/tool.h"

#include <algorithm>
#include <array>

#include <fmt/ranges.h>

#include "core/error.h"
#include "core/json.h"

namespace mlxcpp {
namespace {

constexpr std::array kTypes = {"string", "integer", "number", "boolean", "array", "object", "any"};

bool fits(const OrderedJson& value, const std::string& type) {
  if (type == "string") return value.is_string();
  if (type == "integer") return value.is_number_integer();
  if (type == "number") return value.is_number();
  if (type == "boolean") return value.is_boolean();
  if (type == "array") return value.is_array();
  if (type == "object") return value.is_object();
  return true;
}

ToolParameter parameter_from(const std::string& name, const OrderedJson& schema, bool required,
                             std::string_view where) {
  if (!schema.is_object())
    throw Error("{}: '{}' must be an object, found {}", where, name, describe(schema));
  ToolParameter p{.name = name, .type = "any", .required = required, .schema = schema};
  // A list of types is left to the schema.
  if (const auto it = schema.find("type"); it != schema.end() && it->is_string()) {
    p.type = it->get<std::string>();
    if (std::find(kTypes.begin(), kTypes.end(), p.type) == kTypes.end())
      throw Error("{}: '{}' has the type '{}', expected one of {}", where, name, p.type,
                  fmt::join(kTypes, ", "));
    p.schema.erase("type");
  }
  if (const auto it = schema.find("description"); it != schema.end() && it->is_string()) {
    p.description = it->get<std::string>();
    p.schema.erase("description");
  }
  return p;
}

}  // namespace

OrderedJson ToolSpec::json() const {
  OrderedJson properties = OrderedJson::object(), required = OrderedJson::array();
  for (const ToolParameter& p : parameters) {
    OrderedJson one = OrderedJson::object();
    if (p.type != "any") one["type"] = p.type;
    if (!p.description.empty()) one["description"] = p.description;
    one.update(p.schema);
    properties[p.name] = std::move(one);
    if (p.required) required.push_back(p.name);
  }
  OrderedJson all = {{"type", "object"}, {"properties", properties}, {"required", required}};
  all.update(schema);
  return {
      {"type", "function"},
      {"function", {{"name", name}, {"description", description}, {"parameters", std::move(all)}}}};
}

ToolSpec ToolSpec::from_json(const OrderedJson& json, std::string_view where) {
  if (!json.is_object()) throw Error("{}: expected an object, found {}", where, describe(json));
  if (const auto f = json.find("function"); f != json.end() && f->is_object())
    return from_json(*f, where);
  ToolSpec spec;
  const Json plain = json;
  ConfigReader reader(plain, std::string(where));
  reader.need("name", spec.name);
  reader.maybe("description", spec.description);
  if (spec.name.empty()) throw Error("{}: 'name' is empty", where);
  const auto given = json.find("parameters");
  if (given == json.end() || given->is_null()) return spec;
  const OrderedJson& schema = *given;
  if (!schema.is_object())
    throw Error("{}: 'parameters' must be an object, found {}", where, describe(schema));
  std::vector<std::string> required;
  const Json plain_schema = schema;
  ConfigReader(plain_schema, std::string(where) + ": parameters").maybe("required", required);
  for (const auto& [key, value] : schema.items())
    if (key != "type" && key != "properties" && key != "required") spec.schema[key] = value;
  const auto properties = schema.find("properties");
  if (properties == schema.end()) return spec;
  if (!properties->is_object())
    throw Error("{}: 'properties' must be an object, found {}", where, describe(*properties));
  for (const auto& [name, value] : properties->items())
    spec.parameters.push_back(parameter_from(
        name, value, std::find(required.begin(), required.end(), name) != required.end(), where));
  return spec;
}

const ToolParameter* ToolSpec::parameter(std::string_view wanted) const {
  const auto it = std::find_if(parameters.begin(), parameters.end(),
                               [&](const ToolParameter& p) { return p.name == wanted; });
  return it == parameters.end() ? nullptr : &*it;
}

void ToolSpec::check(const OrderedJson& arguments) const {
  if (!arguments.is_object())
    throw Error("tool '{}': arguments must be an object, found {}", name, describe(arguments));
  for (const ToolParameter& p : parameters)
    if (p.required && !arguments.contains(p.name))
      throw Error("tool '{}': the argument '{}' is missing", name, p.name);
  for (const auto& [key, value] : arguments.items()) {
    const ToolParameter* p = parameter(key);
    if (!p) throw Error("tool '{}' has no parameter '{}'", name, key);
    if (!fits(value, p->type) && !(value.is_null() && !p->required))
      throw Error("tool '{}': '{}' must be of type {}, found {}", name, key, p->type,
                  describe(value));
  }
}

OrderedJson tools_json(const std::vector<ToolSpec>& specs) {
  OrderedJson list = OrderedJson::array();
  for (const ToolSpec& spec : specs) list.push_back(spec.json());
  return list;
}

std::vector<ToolSpec> tool_specs(const OrderedJson& list, std::string_view where) {
  if (!list.is_array())
    throw Error("{}: expected a list of tools, found {}", where, describe(list));
  std::vector<ToolSpec> specs;
  for (const OrderedJson& one : list)
    specs.push_back(ToolSpec::from_json(one, fmt::format("{}[{}]", where, specs.size())));
  return specs;
}

std::string execute(const ToolCall& call, const std::vector<Tool>& tools) {
  for (const Tool& tool : tools)
    if (tool.spec.name == call.name) {
      tool.spec.check(call.arguments);
      if (!tool.run) throw Error("tool '{}' cannot be run here", call.name);
      return tool.run(call.arguments);
    }
  std::vector<std::string> names;
  for (const Tool& tool : tools) names.push_back(tool.spec.name);
  throw Error("no tool '{}'; there are: {}", call.name, fmt::join(names, ", "));
}

ToolResult result_of(const ToolCall& call, const std::vector<Tool>& tools) {
  try {
    return {call, execute(call, tools)};
  } catch (const std::exception& e) {
    return {call, fmt::format("Error: {}", e.what())};
  }
}

std::string spaced_json(const OrderedJson& json) {
  const auto text = [](const OrderedJson& j) {
    return j.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
  };
  std::string out;
  if (json.is_object()) {
    for (const auto& [key, value] : json.items())
      out += (out.empty() ? "" : ", ") + text(key) + ": " + spaced_json(value);
    return "{" + out + "}";
  }
  if (json.is_array()) {
    for (const OrderedJson& value : json) out += (out.empty() ? "" : ", ") + spaced_json(value);
    return "[" + out + "]";
  }
  return text(json);
}

}  // namespace mlxcpp
