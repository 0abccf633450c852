#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace mlxcpp::embedders {

// SQLite (https://sqlite.org/c3ref/intro.html), as far as the index needs it. Every failure is an
// Error that names the file. For one thread at a time.
class Database {
 public:
  // Opens the file, or makes it. Its folder must exist.
  explicit Database(const std::filesystem::path& file);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  void run(const char* sql);        // without parameters and results
  int64_t number(const char* sql);  // the first column of the first row; 0 without one
  int64_t last_row() const;         // id of the row put in last
  const std::filesystem::path& path() const { return file_; }
  [[noreturn]] void fail() const;

  sqlite3* handle() const { return db_; }

 private:
  std::filesystem::path file_;
  sqlite3* db_ = nullptr;
};

// A statement with parameters ?1, ?2, ...
class Statement {
 public:
  Statement(Database& db, const char* sql);
  ~Statement();
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  // What is bound must live until the next reset(), which run() and the last step() do.
  Statement& bind(int i, int64_t value);
  Statement& bind(int i, std::string_view text);
  Statement& bind(int i, std::span<const std::byte> blob);
  bool step();  // true: there is a row
  void run();   // to the end, without rows
  void reset();

  int64_t number(int column) const;
  std::string text(int column) const;
  std::span<const std::byte> blob(int column) const;  // until the next step()

 private:
  Database& db_;
  sqlite3_stmt* statement_ = nullptr;
};

// Everything until commit() happens as a whole or, by an exception or a killed process, not at all.
class Transaction {
 public:
  explicit Transaction(Database& db) : db_(db) { db_.run("BEGIN IMMEDIATE"); }
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  void commit() {
    db_.run("COMMIT");
    open_ = false;
  }

 private:
  Database& db_;
  bool open_ = true;
};

}  // namespace mlxcpp::embedders
