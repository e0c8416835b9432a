"""Photos give their names to files without leading out of a folder or meaning anything to a shell."""

import re
from dataclasses import replace

import pytest

from g2vlm.export.names import photo_names, stem

WICKED = (
    "../../etc/passwd.jpg",
    "$(rm -rf ~).jpg",
    "a;b|c&d.png",
    "`x`\n'y'\"z\".png",
    "-rf.jpg",
    "\udcff.jpg",
    "Straße 1.jpg",
)


def named(reconstruction, *names):
    return replace(reconstruction, names=names)


@pytest.mark.parametrize("name", WICKED)
def test_names_have_nothing_that_a_shell_or_a_path_reads(reconstruction, name):
    made = named(reconstruction, name, "b.jpg", "c.jpg")
    for found in (stem(made, 0), photo_names(made)[0]):
        assert not set(found) & set("/\\$`;|&<>()*?[]{}'\"\n!~")
        assert not found.startswith((".", "-"))
        assert found.encode().isascii() == name.isascii() or "Straße" in name or "\udcff" in name
    assert not re.search(r"\s", photo_names(made)[0])


def test_a_photo_keeps_a_safe_name_of_its_own(reconstruction):
    assert photo_names(named(reconstruction, "a.jpg", "IMG_0001.JPG", "a.jpg")) == [
        "00_a.jpg",
        "IMG_0001.JPG",
        "02_a.jpg",
    ]


def test_photos_whose_safe_names_are_equal_stay_two(reconstruction):
    for names in (("a$.jpg", "a;.jpg", "a_.jpg"), ("a.jpg", "a.jpg", "00_a.jpg")):
        assert len(set(photo_names(named(reconstruction, *names)))) == 3
