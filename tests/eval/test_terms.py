import json

import pytest

from g2vlm.eval.terms import keep_terms

TERMS = {"rule": "corrected", "system": {"kind": "ours", "settings": {"seed": 0}}, "frames": (1, 2)}


def test_terms_are_written_once_and_equal_ones_are_accepted(tmp_path):
    file = tmp_path / "terms.json"
    keep_terms(file, TERMS)
    written = file.read_bytes()
    assert json.loads(written) == {**TERMS, "frames": [1, 2]}
    keep_terms(file, json.loads(json.dumps(TERMS)))
    assert file.read_bytes() == written


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"system": {"kind": "ours", "settings": {"seed": 1}}},
            "system.settings.seed is 1, but .* with 0; choose another --out",
        ),
        ({"system": {"kind": "ours", "settings": {}}}, "system.settings.seed is None, but .* with 0"),
        ({"limit": 3}, "limit is 3, but .* with None"),
        ({"frames": (2, 1)}, r"frames is \[2, 1\], but .* with \[1, 2\]"),
    ],
)
def test_other_terms_are_refused_with_both_values(tmp_path, changes, message):
    keep_terms(tmp_path / "terms.json", TERMS)
    with pytest.raises(ValueError, match=message):
        keep_terms(tmp_path / "terms.json", TERMS | changes)
