#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

typedef struct evp_md_ctx_st EVP_MD_CTX;

namespace mlxcpp::hub {

// The name of a file's content, as the hub gives it: SHA-256 for files in large-file storage, and
// for the others git's blob id, the SHA-1 of "blob SIZE\0" and the content.
class Digest {
 public:
  static Digest sha256();
  static Digest git_blob(uint64_t size);

  void update(std::string_view bytes);
  std::string hex();  // ends the digest; once

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const;
  };
  explicit Digest(const char* algorithm);
  std::unique_ptr<EVP_MD_CTX, Free> context_;
};

std::string sha256_of(const std::filesystem::path& file);

}  // namespace mlxcpp::hub
