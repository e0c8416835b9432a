"""Sentences that models and benchmarks fix by the letter, as data: a changed character is another prompt and another score."""

from types import MappingProxyType

PROMPTS = MappingProxyType(
    {
        # Ours and the released model's.
        "system": "You are a helpful assistant.",
        "reconstruction": "Reconstruct the 3D scene.",
        "answer_line": "Think it through first. Then end with a line that gives the letter of the right option, like this:\nAnswer: A",
        # lmms-eval: VSI-Bench and SPAR-Bench, before (the first) and after the question.
        "video_frames": "These are frames of a video.",
        "choice": "Answer with the option's letter from the given choices directly.",
        "number": "Please answer the question using a single word or phrase.",
        "spar_boxes": (
            "The values represent the bounding box coordinates normalized to a 0-1000 scale, "
            "with the top-left corner as the origin of the image."
        ),
        # lmms-eval: after the question, on a line of its own.
        "mmsi": (
            "\nAnswer with the option's letter from the given choices directly. Enclose the option's letter within ``."
        ),
        # VLMEvalKit: after the options of All-Angles Bench; a blank and a line break end it.
        "all_angles": "Please select the correct answer from the options above. \n",
        # SpatialStack: before the question; {} takes the letters, as in "A, B, C".
        "blink": (
            "Return exactly one uppercase option letter from the given choices ({}). "
            "Do not output any explanation, punctuation, or extra text.\n"
        ),
        # SpatialStack: before the question, and after its options.
        "videomme_instruction": (
            "Select the best answer to the following multiple-choice question based on the video and the subtitles. "
            "Return exactly one uppercase option letter from the given choices. "
            "Do not output any explanation, punctuation, or extra text."
        ),
        "videomme": (
            "\nReturn exactly one uppercase option letter from the given choices. "
            "Do not output any explanation, punctuation, or extra text."
        ),
    }
)
"""Every prompt by name. Those of benchmarks are checked against fingerprints in the tests; none is improved here."""

SYSTEM_PROMPT = PROMPTS["system"]
"""What every conversation begins with, in the released model as in ours."""

RECONSTRUCTION_PROMPT = PROMPTS["reconstruction"]
"""What stands before the views when only geometry is wanted, in the released model as in ours."""
