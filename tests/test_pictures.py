"""Photos of every kind come in upright and whole; what cannot be used is refused in one line with its cure."""

import io
import json
import re
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from g2vlm.pictures import Photo, evenly_spaced, find_pictures, read_photo, semantic_patches, to_views, working_size

IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def gradient(height=40, width=60) -> np.ndarray:
    """Red grows to the right, green downwards, blue is constant: any turn or flip shows."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([columns * 4, rows * 6, np.full_like(rows, 100)], axis=-1).astype(np.uint8)


def write(path: Path, array=None, **options) -> Path:
    Image.fromarray(gradient() if array is None else array).save(path, **options)
    return path


def line_of(path: Path, **options) -> str:
    """The refusal of a file: one line that names it."""
    with pytest.raises(ValueError, match=re.escape(path.name)) as refusal:
        read_photo(path, **options)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


# ---- reading


@pytest.mark.parametrize("name", ["a.png", "a.tiff", "a.bmp", "A.TIF"])
def test_lossless_pictures_come_in_exactly(tmp_path, name):
    photo = read_photo(write(tmp_path / name))
    assert photo.name == name
    assert photo.size == (40, 60)
    np.testing.assert_array_equal(photo.rgb, gradient())


def test_a_stream_is_read_as_its_file_is_and_goes_by_the_name_given(tmp_path):
    content = write(tmp_path / "a.png").read_bytes()
    photo = read_photo(io.BytesIO(content), name="shard.tar: b.png")
    np.testing.assert_array_equal(photo.rgb, gradient())
    assert photo.name == "shard.tar: b.png"
    with pytest.raises(ValueError, match=r"^shard\.tar: b\.png: cannot be read"):
        read_photo(io.BytesIO(content[:100]), name="shard.tar: b.png")


def test_a_picture_is_turned_upright_unless_it_is_to_stay_as_stored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = write(tmp_path / "a.png", exif=exif)
    assert read_photo(path).size == (60, 40)
    np.testing.assert_array_equal(read_photo(path, turn=False).rgb, gradient())


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_lossy_pictures_come_in_nearly(tmp_path, name):
    photo = read_photo(write(tmp_path / name, quality=95))
    assert np.abs(photo.rgb.astype(int) - gradient()).mean() < 4


@pytest.mark.parametrize("name", ["grey.png", "grey.tiff"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, name):
    grey = gradient()[..., 0]
    photo = read_photo(write(tmp_path / name, grey.astype(np.uint16) * 257))
    np.testing.assert_array_equal(photo.rgb, grey[..., None].repeat(3, -1))


def test_grey_and_palette_pictures_become_rgb(tmp_path):
    grey = gradient()[..., 0]
    np.testing.assert_array_equal(read_photo(write(tmp_path / "l.png", grey)).rgb[..., 2], grey)
    flat = np.zeros((20, 20, 3), np.uint8) + np.array([10, 200, 30], np.uint8)
    Image.fromarray(flat).quantize(4).save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_photo(tmp_path / "p.png").rgb, flat)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tiff"])
def test_transparent_pixels_become_white(tmp_path, name):
    alpha = np.full((40, 60, 1), 255, np.uint8)
    alpha[:20] = 0
    write(tmp_path / name, np.concatenate([gradient(), alpha], -1), **({"lossless": True} if "webp" in name else {}))
    rgb = read_photo(tmp_path / name).rgb
    assert (rgb[:20] == 255).all()
    np.testing.assert_array_equal(rgb[20:], gradient()[20:])


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (2, gradient()[:, ::-1]),
        (3, gradient()[::-1, ::-1]),
        (6, np.rot90(gradient(), 1)),
        (8, np.rot90(gradient(), -1)),
    ],
)
def test_a_camera_held_sideways_gives_an_upright_photo(tmp_path, orientation, stored):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = read_photo(write(tmp_path / "a.png", np.ascontiguousarray(stored), exif=exif))
    np.testing.assert_array_equal(photo.rgb, gradient())


# ---- refusing


def test_a_text_file_named_jpg_is_refused(tmp_path):
    path = tmp_path / "notes.jpg"
    path.write_text("no picture at all")
    assert "not a JPEG" in line_of(path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tiff", "a.bmp"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.6, 0.9])
def test_a_truncated_picture_is_refused(tmp_path, name, kept):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    whole = write(tmp_path / name, noise).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * kept)])
    line_of(tmp_path / name)


def test_metadata_that_cannot_be_turned_is_refused(tmp_path):
    """A text under the tag of a number, which PIL cannot write back once the photo is upright."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "abc"
    path = write(tmp_path / "a.jpg", exif=exif)
    whole = path.read_bytes()
    assert bytes.fromhex("010e0002") in whole
    path.write_bytes(whole.replace(bytes.fromhex("010e0002"), bytes.fromhex("01000002")))
    line_of(path)


@pytest.mark.filterwarnings("error::UserWarning")
def test_random_damage_never_escapes_as_another_error(tmp_path):
    random = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a.jpg", "a.png", "a.webp", "a.tiff"):
        whole = np.frombuffer(write(tmp_path / name, exif=exif).read_bytes(), np.uint8)
        for _ in range(100):
            damaged = whole.copy()
            damaged[random.integers(0, len(whole), 4)] = random.integers(0, 256, 4)
            (tmp_path / name).write_bytes(damaged.tobytes())
            with suppress(ValueError):
                read_photo(tmp_path / name, max_pixels=10**6)


def test_one_pixel_is_refused(tmp_path):
    assert "1 x 1" in line_of(write(tmp_path / "dot.png", gradient(1, 1)))


def test_a_ribbon_is_refused(tmp_path):
    line = line_of(write(tmp_path / "ribbon.png", np.zeros((100, 10000, 3), np.uint8)))
    assert "10000 x 100" in line
    assert "8:1" in line
    read_photo(write(tmp_path / "wide.png", np.zeros((100, 400, 3), np.uint8)))


def test_too_many_pixels_are_refused_from_the_header_alone(tmp_path):
    """Only the header is left of the file, so decoding it would fail with another message."""
    whole = write(tmp_path / "big.png", np.zeros((300, 400, 3), np.uint8)).read_bytes()
    (tmp_path / "big.png").write_bytes(whole[:60])
    line = line_of(tmp_path / "big.png", max_pixels=100_000)
    assert "120,000" in line
    assert "100,000" in line


def test_a_decompression_bomb_is_refused(tmp_path):
    header = write(tmp_path / "bomb.png").read_bytes()
    size = np.array([50_000, 50_000], ">u4").tobytes()
    chunk = header[12:16] + size + header[24:29]
    (tmp_path / "bomb.png").write_bytes(
        header[:12] + chunk + np.array(zlib.crc32(chunk), ">u4").tobytes() + header[33:]
    )
    assert "80,000,000" in line_of(tmp_path / "bomb.png")


def test_a_float_picture_is_refused(tmp_path):
    assert "32-bit" in line_of(write(tmp_path / "f.tiff", np.ones((20, 20), np.float32)))


def test_a_missing_file_is_refused_by_name(tmp_path):
    assert "No such file" in line_of(tmp_path / "gone.png")


# ---- finding


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_a_folder_is_sorted_by_number_and_other_files_are_left_out(tmp_path):
    touch(tmp_path, "img10.JPG", "img9.jpg", "img1.png", "notes.txt", "._img1.png")
    assert [p.name for p in find_pictures([str(tmp_path)])] == ["img1.png", "img9.jpg", "img10.JPG"]


def test_given_paths_keep_their_order_and_come_once(tmp_path):
    touch(tmp_path, "b.jpg", "a.jpg", "c.png")
    inputs = [str(tmp_path / "b.jpg"), str(tmp_path / "*.jpg"), str(tmp_path)]
    assert [p.name for p in find_pictures(inputs)] == ["b.jpg", "a.jpg", "c.png"]


def test_a_file_whose_name_looks_like_a_glob_is_itself(tmp_path):
    touch(tmp_path, "a[1].jpg", "a1.jpg")
    assert find_pictures([str(tmp_path / "a[1].jpg")]) == [tmp_path / "a[1].jpg"]


def test_too_many_pictures_are_thinned_out_evenly(tmp_path):
    touch(tmp_path, *(f"{i}.jpg" for i in range(11)))
    assert [p.stem for p in find_pictures([str(tmp_path)], 3)] == ["0", "5", "10"]
    assert [p.stem for p in find_pictures([str(tmp_path)], 1)] == ["0"]
    assert len(find_pictures([str(tmp_path)], 50)) == 11


@pytest.mark.parametrize("max_views", [0, -1])
def test_zero_views_are_refused(max_views):
    with pytest.raises(ValueError, match=f"max_views is {max_views}"):
        evenly_spaced([Path("a.jpg")], max_views)


def test_nothing_found_is_refused_with_what_was_searched(tmp_path):
    touch(tmp_path, "notes.txt")
    with pytest.raises(ValueError, match=r"1 entries.*deeper folders.*\.jpg"):
        find_pictures([str(tmp_path)])
    with pytest.raises(ValueError, match="glob"):
        find_pictures([str(tmp_path / "*.png")])
    with pytest.raises(ValueError, match="no such file or folder"):
        find_pictures([str(tmp_path / "gone")])
    with pytest.raises(ValueError, match="no picture was given"):
        find_pictures([])


# ---- sizes and views


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(480, 640, (84, 112)), (640, 480, (112, 84)), (500, 500, (112, 112)), (100, 400, (28, 112)), (41, 60, (70, 112))],
)
def test_the_long_side_becomes_the_resolution(height, width, expected):
    assert working_size(height, width, 112, 14) == expected
    assert working_size(height, width, 115, 14) == expected


def test_a_resolution_below_one_patch_is_refused():
    with pytest.raises(ValueError, match=r"resolution 13 .* at least 14"):
        working_size(100, 100, 13, 14)


def test_views_of_different_photos_have_their_own_sizes_or_that_of_the_first():
    photos = [Photo("a", gradient(30, 40)), Photo("b", gradient(40, 30))]
    assert [tuple(v.shape) for v in to_views(photos, 56, 14)] == [(3, 42, 56), (3, 56, 42)]
    assert [tuple(v.shape) for v in to_views(photos, 56, 14, "first_view_width")] == [(3, 42, 56)] * 2
    with pytest.raises(ValueError, match="at least 1 view"):
        to_views([], 56, 14)


def test_a_view_of_equal_size_is_the_photo():
    (view,) = to_views([Photo("a", gradient(28, 42))], 42, 14)
    np.testing.assert_array_equal((view * 255).round().permute(1, 2, 0).numpy(), gradient(28, 42))


# ---- parity with recorded numbers


@pytest.fixture(scope="module")
def recorded(shared):
    with safe_open(shared / "goldens/unit/preprocess.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["json"])


@pytest.fixture(scope="module")
def photos(recorded):
    return {name: Photo(name, recorded[0][name].numpy()) for name in "abc"}


def stretched(photos, resolution):
    return torch.stack(to_views(photos, resolution, 14, "first_view_width"))


def test_the_geometry_pipeline_equals_the_recorded_one(recorded, photos):
    """Exactly: the worst error is 0."""
    tensors, meta = recorded
    small = (stretched([photos["a"], photos["c"]], 70) - IMAGENET_MEAN) / IMAGENET_STD
    both, tall = stretched([photos["a"], photos["b"]], 518), stretched([photos["b"]], 518)
    torch.testing.assert_close(small, tensors["dino70_ac.normalised"], rtol=0, atol=0)
    torch.testing.assert_close(both[..., ::13, ::13], tensors["dino518_ab.strided13"], rtol=0, atol=0)
    torch.testing.assert_close(tall[..., ::29, ::29], tensors["dino518_b.strided29"], rtol=0, atol=0)
    assert both.double().sum().item() == pytest.approx(meta["dino518_ab.sum"], rel=1e-9)
    assert tall.double().sum().item() == pytest.approx(meta["dino518_b.sum"], rel=1e-9)


def test_the_sizes_of_the_first_view_equal_the_recorded_ones(recorded):
    for name, expected in recorded[1]["dino518_output_hw_for_input_wxh"].items():
        width, height = map(int, name.split("x"))
        assert working_size(height, width, 518, 14, "first_view_width") == tuple(expected), name


def test_the_semantic_pipeline_equals_the_recorded_one(recorded, photos):
    tensors, meta = recorded
    pixels, grid = semantic_patches([photos["a"]], (768, 768))
    assert grid.tolist() == meta["vit768.grid"]
    torch.testing.assert_close(pixels[::324], tensors["vit768.rows_every_324"], rtol=0, atol=1e-6)
    assert pixels.double().sum().item() == pytest.approx(meta["vit768.sum"], rel=1e-6)
    pixels, grid = semantic_patches([photos["c"]], (56, 84))
    assert grid.tolist() == meta["vit_84w_56h.grid"]
    torch.testing.assert_close(pixels, tensors["vit_84w_56h"], rtol=0, atol=1e-6)


def test_the_semantic_sizes_equal_the_recorded_ones(recorded):
    for height, width, *expected in recorded[1]["smart_resize[h,w,h_out,w_out,h_out_maxpix12845056,w_out_...]"]:
        if height * width > 10**6:
            continue  # the same rule at ten times the cost
        blank = Photo("blank", np.zeros((height, width, 3), np.uint8))
        sizes = [semantic_patches([blank], max_pixels=limit)[1][0, 1:] * 14 for limit in (1003520, 12845056)]
        assert torch.cat(sizes).tolist() == expected
