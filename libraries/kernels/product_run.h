#pragma once

#include <vector>

#include "kernels/matmul_run.h"

namespace mlxcpp::kernels {

// a [m, k] times the transpose of b [n, k].
struct MatrixProduct {
  MatrixView a, b;
  size_t k;
};

// y [m, n] = the sum of the products + bias, as matmul_run and with its rules, but with the numbers
// of b beside each other in vectors, which leaves nothing to fold at the end of a sum and takes
// operands of any layout equally well: the fastest way for many rows. The sums are formed in
// another order than matmul_run's, so a row has other bits than it has there alone. Rows of y are
// ldy elements apart.
void sum_of_products_run(const std::vector<MatrixProduct>& products, const float* bias, void* y,
                         FloatType y_type, size_t m, size_t n, size_t ldy);
inline void sum_of_products_run(const std::vector<MatrixProduct>& products, const float* bias,
                                void* y, FloatType y_type, size_t m, size_t n) {
  sum_of_products_run(products, bias, y, y_type, m, n, n);
}

}  // namespace mlxcpp::kernels
