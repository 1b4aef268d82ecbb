import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile
from realdata import realdata

from flowact.media.image import BACKGROUND, MAX_PIXELS, MIN_SIDE, load_image

RED, BLUE = (220, 30, 40), (20, 60, 200)


def picture(width=96, height=64):
    """Left half red, right half blue."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = RED, BLUE
    return Image.fromarray(pixels)


def png(path, width, height, depth, colour, rows=b""):
    """A PNG written by hand, for what Pillow does not write: 16-bit colour and false sizes."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def assert_halves(frame, left, right, tolerance):
    quarter = frame.shape[1] // 4
    for colour, column in ((left, quarter), (right, 3 * quarter)):
        error = np.abs(frame[:, column].astype(int) - colour).max()
        assert error <= tolerance, f"{frame[0, column]} is not {colour}"


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.png", {}, 0),
        ("a.bmp", {}, 0),
        ("a.tiff", {}, 0),
        ("a.jpg", {"quality": 95}, 8),  # JPEG and WebP keep flat colours to a few levels
        ("a.jpg", {"format": "WEBP", "quality": 95}, 8),
        ("a.webp", {"lossless": True}, 0),
        ("a.gif", {}, 0),
    ],
)
def test_formats(tmp_path, name, options, tolerance):
    picture().save(tmp_path / name, **options)
    frame = load_image(str(tmp_path / name), 64, 96)
    assert frame.shape == (64, 96, 3)
    assert frame.dtype == np.uint8
    assert_halves(frame, RED, BLUE, tolerance)


@pytest.mark.parametrize("mode", ["CMYK", "P", "RGBA", "RGBX", "YCbCr", "HSV"])
def test_colour_modes(mode):
    image = picture().quantize(4) if mode == "P" else picture().convert(mode)
    # HSV and YCbCr quantise to 8 bits on the way: a few levels.
    assert_halves(load_image(image, 64, 96), RED, BLUE, 4)


def test_cmyk_files(tmp_path):
    picture().convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    assert Image.open(tmp_path / "print.jpg").mode == "CMYK"
    assert_halves(load_image(tmp_path / "print.jpg", 64, 96), RED, BLUE, 8)


@pytest.mark.parametrize("mode", ["L", "LA", "I;16", "I"])
def test_grey_modes_keep_their_range(tmp_path, mode):
    levels = np.repeat(np.array([[0, 50, 200, 255]], np.uint8), 32, axis=0).repeat(24, axis=1)
    grey = Image.fromarray(levels)
    if mode in ("I", "I;16"):
        kind = np.uint16 if mode == "I;16" else np.int32
        grey = Image.fromarray(levels.astype(kind) * 257)
        grey.save(tmp_path / "grey.tiff")
    else:
        grey.convert(mode).save(tmp_path / "grey.tiff")
    frame = load_image(tmp_path / "grey.tiff", 32, 96)
    assert Image.open(tmp_path / "grey.tiff").mode == mode
    np.testing.assert_array_equal(
        frame[16, 12::24], np.array([0, 50, 200, 255])[:, None].repeat(3, 1)
    )


def test_16_bit_colour(tmp_path):
    pixels = np.asarray(picture(32, 16)).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    frame = load_image(png(tmp_path / "deep.png", 32, 16, 16, 2, rows), 16, 32)
    assert_halves(frame, RED, BLUE, 0)


def test_transparency_is_laid_over_grey(tmp_path):
    cutout = picture().convert("RGBA")
    cutout.paste((0, 255, 0, 0), (0, 0, 48, 64))
    cutout.save(tmp_path / "cutout.png")
    assert_halves(load_image(tmp_path / "cutout.png", 64, 96), BACKGROUND, BLUE, 0)
    palette = picture().quantize(4)
    palette.info["transparency"] = palette.getpixel((0, 0))
    palette.save(tmp_path / "palette.gif")
    assert_halves(load_image(tmp_path / "palette.gif", 64, 96), BACKGROUND, BLUE, 4)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_an_animation_gives_its_first_frame(tmp_path, name):
    later = Image.new("RGB", (96, 64), (0, 255, 0))
    picture().save(tmp_path / name, save_all=True, append_images=[later, later], lossless=True)
    assert Image.open(tmp_path / name).n_frames > 1
    assert_halves(load_image(tmp_path / name, 64, 96), RED, BLUE, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    upright = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transpositions, by their numbers
    stored = upright if orientation == 1 else upright.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(load_image(tmp_path / "turned.png", 64, 96), np.asarray(upright))


def test_colour_profile_is_applied(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Red and green change their places in the profile, so they must in the picture.
    swapped = srgb.replace(b"rXYZ", b"????", 1).replace(b"gXYZ", b"rXYZ", 1)
    swapped = swapped.replace(b"????", b"gXYZ", 1)
    picture().save(tmp_path / "swapped.png", icc_profile=swapped)
    left, right = ((colour[1], colour[0], colour[2]) for colour in (RED, BLUE))
    # 2 levels: the profile's numbers are fixed-point.
    assert_halves(load_image(tmp_path / "swapped.png", 64, 96), left, right, 2)
    picture().save(tmp_path / "same.png", icc_profile=srgb)
    assert_halves(load_image(tmp_path / "same.png", 64, 96), RED, BLUE, 2)


@pytest.mark.parametrize(
    "profile",
    [b"no profile", ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()],
    ids=["broken", "other channels"],
)
def test_a_useless_profile_is_ignored(tmp_path, profile):
    picture().save(tmp_path / "odd.png", icc_profile=profile)
    assert_halves(load_image(tmp_path / "odd.png", 64, 96), RED, BLUE, 0)


def test_damaged_exif_is_ignored(tmp_path):
    picture().save(tmp_path / "odd.jpg", quality=95, exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_halves(load_image(tmp_path / "odd.jpg", 64, 96), RED, BLUE, 8)


def test_tall_pictures_lose_little_of_their_top():
    ramp = np.linspace(0, 255, 800).astype(np.uint8)
    tall = Image.fromarray(np.broadcast_to(ramp[:, None, None], (800, 160, 3)).copy())
    frame = load_image(tall, 160, 160)
    # 640 of 800 rows are cut: 80 above, 560 below. Rows are 0.32 levels apart.
    np.testing.assert_allclose(frame[:, 80, 0], ramp[80:240], atol=1)


def test_wide_pictures_keep_their_middle():
    ramp = np.linspace(0, 255, 800).astype(np.uint8)
    wide = Image.fromarray(np.broadcast_to(ramp[None, :, None], (160, 800, 3)).copy())
    np.testing.assert_allclose(load_image(wide, 160, 160)[80, :, 0], ramp[320:480], atol=1)


@pytest.mark.parametrize("size", [(16, 16), (17, 301), (1000, 16), (333, 77), (64, 64)])
def test_any_size_fills_the_frame(size):
    for height, width in ((128, 128), (48, 80), (80, 48)):
        frame = load_image(Image.new("RGB", size, RED), height, width)
        assert frame.shape == (height, width, 3)
        assert (frame == RED).all()


def test_downscaling_is_antialiased():
    board = (np.indices((1024, 1024)).sum(0) % 2 * 255).astype(np.uint8)
    frame = load_image(Image.fromarray(board), 96, 96)
    # Cells of 10.7 pixels hold unequal counts of black and white; aliasing would give 0 and 255.
    assert np.abs(frame.astype(float) - 127.5).max() < 6


def test_an_open_image_stays_open():
    image = picture()
    first = load_image(image, 64, 96)
    np.testing.assert_array_equal(load_image(image, 64, 96), first)
    assert image.size == (96, 64)


def damaged(tmp_path, kind):
    path = tmp_path / f"{kind}.png"
    if kind == "empty":
        path.touch()
    elif kind == "directory":
        path.mkdir()
    elif kind == "text":
        path.write_text("<html>not found</html>\n")
    elif kind == "1x1":
        Image.new("RGB", (1, 1)).save(path)
    elif kind == "thin":
        Image.new("RGB", (400, MIN_SIDE - 1)).save(path)
    elif kind == "float":
        Image.new("F", (64, 64)).save(path, "TIFF")
    elif kind == "header only":
        png(path, 64, 64, 8, 2, b"")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "No such file"),
        ("empty", "is empty"),
        ("directory", "is a directory"),
        ("text", "not an image"),
        ("1x1", "is 1x1 pixels"),
        ("thin", "is 400x15 pixels"),
        ("float", "floating-point"),
        ("header only", "truncated"),
    ],
)
def test_what_is_no_picture_is_refused_by_name(tmp_path, kind, message):
    path = damaged(tmp_path, kind)
    with pytest.raises(ValueError, match=message) as error:
        load_image(path, 64, 64)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_impossible_path_is_refused():
    with pytest.raises(ValueError, match="name too long"):
        load_image("x" * 5000, 64, 64)


@pytest.mark.parametrize("part", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_files_are_refused(tmp_path, kind, part):
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    path = tmp_path / "cut.jpg"
    Image.fromarray(noise).save(path, kind)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ValueError, match=r"cut\.jpg"):
        load_image(path, 64, 64)


@pytest.mark.parametrize("side", [int(MAX_PIXELS**0.5) + 1, 12_000, 20_000, 60_000])
def test_decompression_bombs_are_refused_unread(tmp_path, side):
    path = png(tmp_path / "bomb.png", side, side, 8, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # There are no pixels in the file: reading them would be another error.
        with pytest.raises(ValueError, match=f"bomb.png has more than {MAX_PIXELS} pixels"):
            load_image(path, 64, 64)


def test_pillow_is_left_as_it_was(tmp_path):
    def state():
        return Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters)

    before = state()
    load_image(picture(), 64, 64)
    with pytest.raises(ValueError, match="bomb"):
        load_image(png(tmp_path / "bomb.png", 20_000, 20_000, 8, 2), 64, 64)
    assert state() == before


def test_real_pictures():
    for path in realdata("images"):
        frame = load_image(path, 128, 96)
        assert frame.shape == (128, 96, 3)
        assert frame.std() > 20, f"{path.name} has lost its contrast"
