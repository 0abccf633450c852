// ICC profiles by Little CMS.
#include <memory>
#include <type_traits>

#include <lcms2.h>

#include "vlm/media/decoders.h"

namespace mlxcpp::media::detail {

void apply_icc(Picture& picture, Bytes profile) {
  struct Close {
    void operator()(void* p) const { cmsCloseProfile(p); }
  };
  struct Delete {
    void operator()(void* t) const { cmsDeleteTransform(t); }
  };
  const std::unique_ptr<void, Close> from(
      cmsOpenProfileFromMem(profile.data(), static_cast<cmsUInt32Number>(profile.size())));
  if (!from || cmsGetColorSpace(from.get()) != cmsSigRgbData) return;
  const std::unique_ptr<void, Close> to(cmsCreate_sRGBProfile());
  const std::unique_ptr<void, Delete> transform(cmsCreateTransform(
      from.get(), TYPE_RGB_8, to.get(), TYPE_RGB_8, INTENT_PERCEPTUAL, cmsFLAGS_NOCACHE));
  if (!transform) return;
  for (int y = 0; y < picture.height; ++y)
    cmsDoTransform(transform.get(), picture.row(y), picture.row(y),
                   static_cast<cmsUInt32Number>(picture.width));
}

}  // namespace mlxcpp::media::detail
