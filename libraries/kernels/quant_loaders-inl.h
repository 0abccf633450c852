// Which loader reads which type. Included once the loaders of an instruction set are known.
#pragma once

#include "kernels/quant_layout-inl.h"

namespace mlxcpp::kernels::quant {
namespace {

template <class T>
struct LoaderOf;
template <int kBits>
struct LoaderOf<Affine<kBits>> {
  using type = LoadAffineBits<kBits>;
};
template <>
struct LoaderOf<Affine<4>> {
  using type = LoadAffine4;
};
template <>
struct LoaderOf<Affine<8>> {
  using type = LoadAffine8;
};
template <>
struct LoaderOf<MxFp4> {
  using type = LoadMxFp4;
};
template <>
struct LoaderOf<MxFp8> {
  using type = LoadMxFp8;
};
template <>
struct LoaderOf<NvFp4> {
  using type = LoadNvFp4;
};
template <>
struct LoaderOf<Q4_0> {
  using type = LoadBlocks<Q4_0, 2, -1>;
};
template <>
struct LoaderOf<Q4_1> {
  using type = LoadBlocks<Q4_1, 4, -1>;
};
template <>
struct LoaderOf<Q5_0> {
  using type = LoadBlocks<Q5_0, 6, 2>;
};
template <>
struct LoaderOf<Q5_1> {
  using type = LoadBlocks<Q5_1, 8, 4>;
};
template <>
struct LoaderOf<Q8_0> {
  using type = LoadQ8_0;
};
template <>
struct LoaderOf<Q2_K> {
  using type = LoadK2<Q2_K>;
};
template <>
struct LoaderOf<Q3_K> {
  using type = LoadK2<Q3_K>;
};
template <>
struct LoaderOf<Q4_K> {
  using type = LoadK4<Q4_K>;
};
template <>
struct LoaderOf<Q5_K> {
  using type = LoadK4<Q5_K>;
};
template <>
struct LoaderOf<Q6_K> {
  using type = LoadQ6K;
};
template <>
struct LoaderOf<Iq4Nl> {
  using type = LoadIq4Nl;
};
template <class T>
using Loader = typename LoaderOf<T>::type;

}  // namespace
}  // namespace mlxcpp::kernels::quant
