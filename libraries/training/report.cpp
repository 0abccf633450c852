#include "training/report.h"

#include <cerrno>
#include <fstream>
#include <system_error>

#include "core/atomic_file.h"

namespace mlxcpp::training {

ReportFile::ReportFile(const std::filesystem::path& file, int keep_upto) : file_(file) {
  std::string kept, line;
  if (keep_upto > 0)
    for (std::ifstream in(file, std::ios::binary); std::getline(in, line);) {
      const Json j = Json::parse(line, nullptr, false);  // the last one may be cut off
      if (j.is_object() && j.contains("iteration") && j.at("iteration").is_number_integer() &&
          j.at("iteration").get<int>() <= keep_upto)
        kept += line + "\n";
    }
  write_file(file, kept);
  out_.reset(std::fopen(file.c_str(), "ab"));
  if (!out_)
    throw Error("{}: cannot be written: {}", file.string(), std::generic_category().message(errno));
}

void ReportFile::add(const Json& line) {
  const std::string text = line.dump() + "\n";
  if (std::fwrite(text.data(), 1, text.size(), out_.get()) != text.size() ||
      std::fflush(out_.get()) != 0)
    throw Error("{}: cannot be written: {}", file_.string(),
                std::generic_category().message(errno));
}

}  // namespace mlxcpp::training
