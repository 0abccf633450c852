#include "kernels/isa.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"

namespace mlxcpp::kernels {
namespace {

TEST(Isa, GenericIsAlwaysThere) {
  EXPECT_EQ(available_isas().front(), Isa::generic);
  EXPECT_TRUE(std::is_sorted(available_isas().begin(), available_isas().end()));
}

TEST(Isa, CanBeForcedToWhatTheCpuHas) {
  const Isa before = isa();
  for (const Isa i : available_isas()) {
    set_isa(i);
    EXPECT_EQ(isa(), i);
  }
  set_isa(before);
}

TEST(Isa, RefusesWhatTheCpuLacks) {
  const Isa lacking = available_isas().back() >= Isa::neon ? Isa::avx2 : Isa::neon;
  try {
    set_isa(lacking);
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), ::testing::AllOf(::testing::HasSubstr(std::string(name(lacking))),
                                           ::testing::HasSubstr("generic")));
  }
}

}  // namespace
}  // namespace mlxcpp::kernels
