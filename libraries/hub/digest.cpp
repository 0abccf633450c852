#include "hub/digest.h"

#include <openssl/evp.h>

#include <fmt/format.h>

#include "core/error.h"
#include "hub/file.h"

namespace mlxcpp::hub {

void Digest::Free::operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }

Digest::Digest(const char* algorithm) : context_(EVP_MD_CTX_new()) {
  const EVP_MD* md = EVP_get_digestbyname(algorithm);
  if (!context_ || !md || EVP_DigestInit_ex(context_.get(), md, nullptr) != 1)
    throw Error("{} is not available in this machine's libcrypto", algorithm);
}

Digest Digest::sha256() { return Digest("SHA256"); }

Digest Digest::git_blob(uint64_t size) {
  Digest digest("SHA1");
  std::string head = fmt::format("blob {}", size);
  head.push_back('\0');
  digest.update(head);
  return digest;
}

void Digest::update(std::string_view bytes) {
  if (EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) != 1)
    throw Error("libcrypto cannot hash {} bytes", bytes.size());
}

std::string Digest::hex() {
  unsigned char raw[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  if (EVP_DigestFinal_ex(context_.get(), raw, &size) != 1)
    throw Error("libcrypto cannot end a digest");
  std::string text;
  for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", raw[i]);
  return text;
}

std::string sha256_of(const std::filesystem::path& path) {
  Digest digest = Digest::sha256();
  File::open_to_read(path).read_all([&](std::string_view piece) { digest.update(piece); });
  return digest.hex();
}

}  // namespace mlxcpp::hub
