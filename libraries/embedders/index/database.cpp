#include "embedders/index/database.h"

#include <sqlite3.h>

#include "core/error.h"

namespace mlxcpp::embedders {

Database::Database(const std::filesystem::path& file) : file_(file) {
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  if (sqlite3_open_v2(file.c_str(), &db_, flags, nullptr) != SQLITE_OK) {
    const std::string reason = db_ ? sqlite3_errmsg(db_) : "out of memory";
    sqlite3_close(db_);
    throw Error("{}: cannot be opened: {}", file.string(), reason);
  }
  sqlite3_busy_timeout(db_, 10000);
}

Database::~Database() { sqlite3_close(db_); }

void Database::fail() const { throw Error("{}: {}", file_.string(), sqlite3_errmsg(db_)); }

void Database::run(const char* sql) {
  if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) fail();
}

int64_t Database::number(const char* sql) {
  Statement s(*this, sql);
  return s.step() ? s.number(0) : 0;
}

int64_t Database::last_row() const { return sqlite3_last_insert_rowid(db_); }

Statement::Statement(Database& db, const char* sql) : db_(db) {
  if (sqlite3_prepare_v2(db.handle(), sql, -1, &statement_, nullptr) != SQLITE_OK) db.fail();
}

Statement::~Statement() { sqlite3_finalize(statement_); }

Statement& Statement::bind(int i, int64_t value) {
  if (sqlite3_bind_int64(statement_, i, value) != SQLITE_OK) db_.fail();
  return *this;
}

Statement& Statement::bind(int i, std::string_view text) {
  if (sqlite3_bind_text(statement_, i, text.data(), static_cast<int>(text.size()), nullptr) !=
      SQLITE_OK)
    db_.fail();
  return *this;
}

Statement& Statement::bind(int i, std::span<const std::byte> blob) {
  if (sqlite3_bind_blob(statement_, i, blob.data(), static_cast<int>(blob.size()), nullptr) !=
      SQLITE_OK)
    db_.fail();
  return *this;
}

bool Statement::step() {
  const int result = sqlite3_step(statement_);
  if (result == SQLITE_ROW) return true;
  if (result != SQLITE_DONE) db_.fail();
  reset();
  return false;
}

void Statement::run() {
  while (step()) {
  }
}

void Statement::reset() { sqlite3_reset(statement_); }

int64_t Statement::number(int column) const { return sqlite3_column_int64(statement_, column); }

std::string Statement::text(int column) const {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
  return text ? std::string(text, static_cast<size_t>(sqlite3_column_bytes(statement_, column)))
              : std::string();
}

std::span<const std::byte> Statement::blob(int column) const {
  const void* data = sqlite3_column_blob(statement_, column);
  const int size = sqlite3_column_bytes(statement_, column);
  return {static_cast<const std::byte*>(data), data ? static_cast<size_t>(size) : 0};
}

Transaction::~Transaction() {
  if (open_) sqlite3_exec(db_.handle(), "ROLLBACK", nullptr, nullptr, nullptr);
}

}  // namespace mlxcpp::embedders
