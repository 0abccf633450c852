#include <gtest/gtest.h>
#include <mlx/mlx.h>

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  mlx::core::set_default_device(mlx::core::Device::cpu);
  const int rc = RUN_ALL_TESTS();
  mlx::core::clear_streams();  // ends MLX's threads before its globals go
  return rc;
}
