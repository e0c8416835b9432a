import hashlib

import pytest

from g2vlm.prompts import PROMPTS

FINGERPRINTS = {
    "system": (28, "75357d685f238b6a"),
    "video_frames": (28, "e645bb5570a3842f"),
    "choice": (64, "47c8841afab3019f"),
    "number": (57, "72eac89cadfa797e"),
    "spar_boxes": (132, "61f301aefb32359d"),
    "mmsi": (104, "65f2df8b19fa6579"),
    "all_angles": (58, "e882b9cd1f626343"),
    "blink": (131, "12e3904b4976f4d3"),
    "videomme_instruction": (228, "48df06e2d2033745"),
    "videomme": (126, "982877b491429ee8"),
}
"""Characters, and the first 16 hex digits of SHA-256, of what the benchmarks' own releases say."""

OURS = {"reconstruction", "answer_line"}


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_a_benchmarks_prompt_is_its_own_to_the_letter(name: str):
    prompt = PROMPTS[name]
    assert (len(prompt), hashlib.sha256(prompt.encode()).hexdigest()[:16]) == FINGERPRINTS[name]


def test_every_prompt_that_somebody_else_fixed_has_a_fingerprint():
    assert PROMPTS.keys() - OURS == FINGERPRINTS.keys()


def test_only_blink_leaves_a_gap_for_the_letters():
    assert [name for name, prompt in PROMPTS.items() if "{}" in prompt] == ["blink"]
