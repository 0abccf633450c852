"""Makes tests/golden/clips: small pictures in formats that golden/media has not, and lossless films.

usage: python make_media_files.py OUT     (needs Pillow, numpy, and the program ffmpeg)

pictures.json holds, for each picture, what Pillow makes of it: size and CRC-32 of the RGB bytes after
exif_transpose and convert("RGB"). Frame i of each film is 24 x 16, pixel (x, y) = (10 x, 15 y, 40 i + 20):
the tests know it by that formula.
"""
import json, os, subprocess, sys, zlib
import numpy as np
from PIL import Image, ImageOps


def photo(w, h, seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:h, 0:w]
    a = np.stack([x * 255 / w, y * 255 / h, 127 + 120 * np.sin(x / 5 + y / 7)], -1)
    return Image.fromarray(np.clip(a + rng.normal(0, 8, a.shape), 0, 255).astype(np.uint8))


def rgba(w, h, seed):
    alpha = np.add.outer(np.arange(h) * 7, np.arange(w) * 5) % 256
    return Image.fromarray(np.dstack([np.asarray(photo(w, h, seed)), alpha.astype(np.uint8)]))


def pictures(out):
    p = lambda name: os.path.join(out, name)  # noqa: E731
    exif = Image.Exif()
    exif[0x0112] = 8
    photo(40, 28, 1).save(p("lossless.webp"), lossless=True, exif=exif)
    photo(48, 32, 2).save(p("lossy.webp"), quality=80)
    rgba(32, 24, 3).save(p("alpha.webp"), lossless=True, exact=True)
    photo(20, 20, 4).save(p("animated.webp"), save_all=True, append_images=[photo(20, 20, 5)], lossless=True)
    photo(36, 24, 6).quantize(32).save(p("plain.gif"))
    photo(33, 21, 7).quantize(16).save(p("interlaced.gif"), interlace=1)
    photo(24, 16, 8).quantize(16).save(p("transparent.gif"), transparency=3)
    photo(16, 16, 9).quantize(16).save(p("animated.gif"), save_all=True, append_images=[photo(16, 16, 10).quantize(16)])
    photo(30, 20, 11).save(p("rgb.tiff"))
    photo(30, 20, 12).save(p("deflate.tiff"), compression="tiff_adobe_deflate")
    rgba(22, 18, 13).save(p("rgba.tiff"))
    photo(25, 17, 14).convert("L").save(p("grey.tiff"))
    photo(25, 17, 15).convert("1").save(p("bilevel.tiff"))
    photo(25, 17, 16).quantize(40).save(p("palette.tiff"))
    Image.fromarray((np.arange(20 * 12).reshape(12, 20) * 3).astype(np.uint16)).save(p("grey16.tiff"))
    exif[0x0112] = 6
    photo(26, 18, 17).save(p("turned.tiff"), exif=exif)
    photo(31, 19, 18).convert("CMYK").save(p("cmyk.jpg"), quality=95)
    for o in range(1, 9):
        exif[0x0112] = o
        photo(9, 5, 19).save(p(f"exif{o}.png"), exif=exif)
    rgb16 = np.random.default_rng(20).integers(0, 65536, (6, 7, 3)).astype(">u2")
    rows = b"".join(b"\0" + rgb16[y].tobytes() for y in range(6))
    chunk = lambda t, d: len(d).to_bytes(4, "big") + t + d + zlib.crc32(t + d).to_bytes(4, "big")  # noqa: E731
    with open(p("rgb16.png"), "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", bytes([0, 0, 0, 7, 0, 0, 0, 6, 16, 2, 0, 0, 0]))
                + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    info = {}
    for name in sorted(os.listdir(out)):
        if name.rsplit(".")[-1] not in ("webp", "gif", "tiff", "jpg", "png"):
            continue
        im = ImageOps.exif_transpose(Image.open(p(name))).convert("RGB")
        info[name] = {"width": im.width, "height": im.height, "crc32": zlib.crc32(np.asarray(im).tobytes())}
    with open(p("pictures.json"), "w") as f:
        json.dump(info, f, indent=1)
        f.write("\n")


def films(out):
    y, x = np.mgrid[0:16, 0:24]
    frames = b"".join(np.stack([x * 10, y * 15, np.full_like(x, 40 * i + 20)], -1).astype(np.uint8).tobytes() for i in range(6))

    def make(name, *options):
        subprocess.run(["ffmpeg", "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "24x16", "-r", "10", "-i", "-",
                        "-bitexact", *options, os.path.join(out, name)], input=frames, check=True)
    make("constant.mkv", "-c:v", "ffv1", "-pix_fmt", "bgr0")
    # Frame i is shown at (i + i^2) / 10 seconds.
    make("variable.mkv", "-vf", "setpts=(N+N*N)/(10*TB)", "-vsync", "vfr", "-c:v", "ffv1", "-pix_fmt", "bgr0")
    make("upright.mov", "-c:v", "qtrle")
    upright = os.path.join(out, "upright.mov")
    subprocess.run(["ffmpeg", "-y", "-loglevel", "error", "-i", upright, "-c", "copy", "-metadata:s:v:0", "rotate=270", "-bitexact",
                    os.path.join(out, "rotated.mov")], check=True)
    os.remove(upright)
    sound = (np.sin(np.arange(4800) * 0.05) * 20000).astype("<i2").tobytes()
    subprocess.run(["ffmpeg", "-y", "-loglevel", "error", "-f", "s16le", "-ar", "16000", "-ac", "1", "-i", "-", "-bitexact",
                    os.path.join(out, "sine.flac")], input=sound, check=True)


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    pictures(sys.argv[1])
    films(sys.argv[1])
