"""Every format, read back by a package that did not write it, is what was given; and what was given stays as it was."""

import hashlib
from dataclasses import fields, replace

import numpy as np
import pytest
from round_trip import CHECKS

from g2vlm.export.resolution import at_original_resolution
from g2vlm.export.save import FORMATS, NEEDS, save

MODULES = {"PIL": "PIL", "json, PIL": "PIL", "numpy, scipy": "scipy"}


def arrays(reconstruction):
    for field in fields(reconstruction):
        value = getattr(reconstruction, field.name)
        for array in value if isinstance(value, tuple) else (value,):
            if isinstance(array, np.ndarray):
                yield array


def digest(reconstruction) -> str:
    content = hashlib.sha256()
    for array in arrays(reconstruction):
        content.update(array.tobytes())
    return content.hexdigest()


def need(format):
    if format in NEEDS:
        pytest.importorskip(NEEDS[format][0], reason=f"{format} needs {NEEDS[format][1]}")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_another_package_reads_what_was_written(reconstruction, tmp_path, check):
    need(check.format)
    pytest.importorskip(MODULES.get(check.package, check.package))
    save(reconstruction, tmp_path, [check.format], text=check.text)
    errors = check.read(tmp_path, reconstruction)
    assert all(error <= check.tolerance for error in errors.values()), errors


def test_every_format_but_pictures_for_people_has_a_reader():
    assert set(FORMATS) - {check.format for check in CHECKS} == {"overview", "json"}


@pytest.mark.parametrize("options", [{}, {"text": True, "mesh": True, "keep_edges": True, "max_points": 500}])
@pytest.mark.parametrize("format", FORMATS)
def test_writing_changes_nothing_of_what_is_given(reconstruction, tmp_path, format, options):
    need(format)
    before = digest(reconstruction)
    for array in arrays(reconstruction):
        array.setflags(write=False)
    save(reconstruction, tmp_path, [format], **options)
    save(at_original_resolution(shrunk(reconstruction)), tmp_path / "large", [format], **options)
    assert digest(reconstruction) == before


def shrunk(reconstruction):
    return replace(reconstruction, original_sizes=((56, 84), (84, 56), (56, 84)))


@pytest.mark.parametrize("format", sorted(set(FORMATS) - {"npz", "overview", "json"}))
def test_each_file_that_can_carry_text_says_the_scale(reconstruction, tmp_path, format):
    """Binary COLMAP models cannot."""
    need(format)
    save(reconstruction, tmp_path, [format], text=True)
    for path in (p for p in tmp_path.rglob("*") if p.is_file()):
        content = path.read_bytes()
        assert b"scale_free" in content, path
        assert b"metric" not in content, path
