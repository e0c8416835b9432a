"""Time to the first token and tokens per second of answers, with and without what a session has read already.

    python benchmarks/answering.py [--views 4 16] [--model FOLDER] [--repeat 5]

Without a model the tiny preset runs on random weights, which costs the same. Medians over the repeats; one process.
"""

import argparse
from collections.abc import Callable
from statistics import median

import torch
from PIL import Image

from g2vlm import hub, presets
from g2vlm.answering import Query
from g2vlm.data.scenes import rooms
from g2vlm.model import G2VLM
from g2vlm.predictor import Predictor
from g2vlm.processor import Processor, byte_tokenizer
from g2vlm.records import Answer, Mark

QUESTION = "How far apart are A and B, in metres, measured from the middle of one to the middle of the other?"
NUM_TOKENS = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--model", default=None)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    predictor = tiny() if options.model is None else hub.load(options.model)
    print("views  asked                    prompt  reused  first token, ms  tokens/s")
    for num_views in options.views:
        for name, ask in ways(predictor, num_views).items():
            ask()
            answers = [ask() for _ in range(options.repeat)]
            first = 1000 * median(answer.seconds["first_token"] for answer in answers)
            answer = answers[0]
            counts = f"{answer.num_prompt_tokens:6d}  {answer.num_reused_tokens:6d}"
            print(f"{num_views:5d}  {name:23s}  {counts}  {first:15.0f}  {median(map(speed, answers)):8.0f}")


def tiny() -> Predictor:
    torch.manual_seed(0)
    config = presets.tiny(resolution=168)
    processor = Processor(byte_tokenizer(config.tokens), config.tokens)
    return Predictor(G2VLM(config), processor, source="random weights", checkpoint_sha256="")


def ways(predictor: Predictor, num_views: int) -> dict[str, Callable[[], Answer]]:
    """How the same question can be asked about a procedural room."""
    images = rooms([0], num_views=num_views, height=168, width=168).views.images[0]
    photos = [Image.fromarray(image) for image in (images * 255).byte().permute(0, 2, 3, 1).numpy()]
    session = predictor.open(photos)
    marks = (Mark(0, 50, 60, "A"), Mark(1, 90, 30, "B"))
    batch = [Query(QUESTION)] * 16
    return {
        "alone": lambda: predictor.answer(photos, QUESTION, max_new_tokens=NUM_TOKENS),
        "in a session": lambda: session.ask(QUESTION, max_new_tokens=NUM_TOKENS),
        "in a session, with marks": lambda: session.ask(QUESTION, marks=marks, max_new_tokens=NUM_TOKENS),
        "in a session, one of 16": lambda: session.ask_all(batch, max_new_tokens=NUM_TOKENS)[0],
    }


def speed(answer: Answer) -> float:
    """Tokens per second after the first, of this answer alone."""
    return (answer.num_new_tokens - 1) / (answer.seconds["all"] - answer.seconds["first_token"])


if __name__ == "__main__":
    main()
