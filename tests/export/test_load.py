"""A saved reconstruction loads again, bit for bit; what is not one is refused in one line."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest

import g2vlm
from g2vlm.export.load import load_reconstruction
from g2vlm.export.save import save, save_reconstruction


def assert_identical(found, wanted):
    for field in fields(wanted):
        a, b = getattr(found, field.name), getattr(wanted, field.name)
        if isinstance(b, np.ndarray) or (isinstance(b, tuple) and isinstance(b[0], np.ndarray)):
            for x, y in zip([*a], [*b], strict=True):
                assert (x.dtype, x.shape) == (y.dtype, y.shape)
                assert x.tobytes() == y.tobytes(), field.name
        else:
            assert a == b, field.name


@pytest.fixture
def odd(reconstruction):
    """What is easily lost: depths that are negative, infinite or NaN, -0.0, a camera that was not found, odd names."""
    depth = reconstruction.depth[2].copy()
    depth[0, :4] = -1, np.inf, -0.0, np.nan
    normals = reconstruction.normals[2].copy()
    normals[0, 0] = np.nan
    intrinsics, error = reconstruction.intrinsics.copy(), reconstruction.intrinsics_error.copy()
    intrinsics[1, 0, 0] = error[1] = np.nan
    return replace(
        reconstruction,
        depth=(*reconstruction.depth[:2], depth),
        normals=(*reconstruction.normals[:2], normals),
        intrinsics=intrinsics,
        intrinsics_error=error,
        names=("../$(x).jpg", "\udcff 1.jpg", "ü\n.jpg"),
        scale="metric",
    )


@pytest.mark.parametrize("which", ["reconstruction", "odd"])
def test_what_is_saved_loads_again_exactly(request, tmp_path, which):
    wanted = request.getfixturevalue(which)
    g2vlm.save_reconstruction(wanted, tmp_path / "out", ["ply"])
    assert (tmp_path / "out/points.ply").is_file()
    assert_identical(g2vlm.load_reconstruction(tmp_path / "out"), wanted)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_usual_formats_load_again(reconstruction, tmp_path):
    save(reconstruction, tmp_path)
    assert_identical(load_reconstruction(tmp_path), reconstruction)


def test_saving_what_was_loaded_gives_the_same_again(odd, tmp_path):
    save_reconstruction(odd, tmp_path / "1")
    save_reconstruction(load_reconstruction(tmp_path / "1"), tmp_path / "2")
    assert_identical(load_reconstruction(tmp_path / "2"), odd)


def spoil(folder, how):
    npz, account = folder / "maps/01_b.npz", folder / "reconstruction.json"
    match how:
        case "no folder":
            return folder / "gone"
        case "no account":
            account.unlink()
        case "no JSON":
            account.write_text("{")
        case "lacks model":
            account.write_text(json.dumps({"scale": "metric"}))
        case "is a list":
            account.write_text("[]")
        case "no scale":
            account.write_text(json.dumps(json.loads(account.read_text()) | {"scale": "inches"}))
        case "no map":
            npz.unlink()
        case "cut map":
            npz.write_bytes(npz.read_bytes()[:-200])
        case "no zip":
            npz.write_bytes(b"no zip")
        case "old map":
            np.savez(npz, depth=np.ones((2, 2)), points=np.ones((2, 2, 3)))
        case "pickle":
            np.savez(npz, depth=np.array([{}], object))
        case "no views":
            (folder / "cameras.json").write_text('{"cameras": []}')
    return folder


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("no folder", "there is no such folder; name one that g2vlm predict wrote"),
        ("no account", "holds no reconstruction.json, so it is no reconstruction; save it with npz and json"),
        ("no JSON", "reconstruction.json: is no JSON"),
        ("lacks model", r"not as g2vlm writes it \('model'\)"),
        ("is a list", "not as g2vlm writes it"),
        ("no scale", "its scale is 'inches'; it must be one of scale_free, metric"),
        ("no map", "01_b.npz is not there"),
        ("cut map", "01_b.npz: cannot be read"),
        ("no zip", "01_b.npz: cannot be read"),
        ("old map", "as results of g2vlm 0.4 do"),
        ("pickle", "01_b.npz: cannot be read"),
        ("no views", "names no views"),
    ],
)
def test_what_is_no_whole_reconstruction_is_refused_in_one_line(reconstruction, tmp_path, how, says):
    save(reconstruction, tmp_path)
    with pytest.raises(ValueError, match=says) as refusal:
        load_reconstruction(spoil(tmp_path, how))
    assert "\n" not in str(refusal.value)
    assert str(tmp_path) in str(refusal.value)
