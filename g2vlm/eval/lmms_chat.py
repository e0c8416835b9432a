"""Our models as a chat model of lmms-eval, which imports this module when its `--model` is g2vlm."""

from collections.abc import Sequence
from typing import Any, NoReturn

from accelerate import PartialState
from lmms_eval.api.instance import (  # pyright: ignore[reportMissingImports]
    GenerationResult,
    Instance,
    TokenCounts,
)
from lmms_eval.api.model import lmms  # pyright: ignore[reportMissingImports]
from tqdm import tqdm

from g2vlm.eval.lmms import Question, answers, batch_size_of, options_of
from g2vlm.hub import device_of


class G2VLMChat(lmms):
    """Whatever `g2vlm.load` opens: a G2VLM, or a stock Qwen-VL with a geometry pathway.

    model_args: see `lmms.Options`. device: unless given, each process has its own.
    """

    is_simple = False

    def __init__(
        self,
        batch_size: int | str = 1,
        device: str | None = None,
        max_batch_size: int | None = None,
        **model_args: Any,
    ) -> None:
        super().__init__()
        if max_batch_size is not None:
            raise ValueError(
                f"max_batch_size is {max_batch_size}, but sizes are not searched for; set batch_size alone"
            )
        self.batch_size = batch_size_of(batch_size)
        self.options = options_of(model_args)
        self.device = PartialState().device if device is None else device_of(device)
        self.answering = self.options.load(str(self.device))

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        questions = [self._question(*request.args) for request in requests]
        said = answers(self.answering, questions, self.options, batch_size=self.batch_size)
        with tqdm(said, total=len(questions), desc="g2vlm", disable=self.rank != 0) as shown:
            return [
                GenerationResult(text, TokenCounts(answer.num_prompt_tokens, answer.num_new_tokens))
                for text, answer in shown
            ]

    def _question(
        self, context: str, doc_to_messages: Any, generation: dict[str, Any], doc: int, task: str, split: str
    ) -> Question:
        """context: the words of the first message, for models that take no chat."""
        documents = self.task_dict[task][split]
        return Question(f"{task} {split} {doc}", lambda: doc_to_messages(documents[doc]), generation)

    def loglikelihood(self, requests: Sequence[Instance]) -> NoReturn:
        raise ValueError("g2vlm answers in words and rates none; choose a task whose output_type is generate_until")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> NoReturn:
        raise ValueError("g2vlm answers one question at a time; choose a task whose output_type is generate_until")

    def clean(self) -> None:
        """Make room for a judge, which lmms-eval may start when all is answered."""
        del self.answering
        super().clean()
