"""From a folder or a hub repository to something that answers, whatever lies there: a G2VLM, or a host of a pathway."""

from collections.abc import Mapping
from typing import Any, TypedDict, Unpack

import torch

from g2vlm.config import AttentionBackend
from g2vlm.host import NATIVE
from g2vlm.host_hub import ENCODER_WEIGHTS, PATHWAY_WEIGHTS, build_host, is_host, open_host
from g2vlm.host_predictor import HostPredictor
from g2vlm.host_processor import Preprocessing, read_host_processor
from g2vlm.hub import (
    Source,
    device_of,
    dtype_of,
    find,
    num_parameters,
    processor_of,
    read_checkpoint,
    sha256_of,
    weight_files,
)
from g2vlm.hub import load as load_native
from g2vlm.model import G2VLM
from g2vlm.pathways.base import GeometryEncoder
from g2vlm.predictor import Predictor


class ReadingOptions(TypedDict, total=False):
    """How a stock host reads.

    preprocessing: how it sees photos; unless given, as where it is evaluated, see `host_processor.Preprocessing`.
    min_pixels, max_pixels: of a picture; unless given, those of evaluation or training. thinking: whether it thinks first.
    """

    preprocessing: Preprocessing
    min_pixels: int
    max_pixels: int
    thinking: bool


def load(
    source: Source | None = None,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    attention: AttentionBackend = "sdpa",
    encoder: GeometryEncoder | Source | None = None,
    **reading: Unpack[ReadingOptions],
) -> Predictor | HostPredictor:
    """What answers with the model of a folder, a hub repository, or (None or "tiny") the weights that come with the package.

    device: "auto" is cuda, else mps, else cpu. dtype: "auto" is float32, but bfloat16 on cuda for a model of more than
    a billion parameters. attention: of a G2VLM. encoder: the geometry encoder of a host, or the folder of its weights; see
    `host_hub.load_host`. reading: of a host on a stock Qwen-VL, see `ReadingOptions`.

    Raises ValueError as `hub.load_model` and `host_hub.load_host` do, and for an option that the model does not have.
    """
    folder = find(source)
    if not is_host(folder):
        _refuse_given(
            reading | ({} if encoder is None else {"encoder": encoder}), f"{folder} is no host of a geometry pathway"
        )
        return load_native(source, device=device, dtype=dtype, attention=attention)
    if attention != "sdpa":
        raise ValueError(f"attention is {attention!r}, but {folder} is a host of a pathway, which attends by 'sdpa'")
    opened, device = open_host(folder), device_of(device)
    files = [*weight_files(folder), *(folder / part for part in (PATHWAY_WEIGHTS, ENCODER_WEIGHTS))]
    marks = {"source": str(source), "checkpoint_sha256": sha256_of([file for file in files if file.is_file()])}
    if opened.model.model_type == NATIVE:
        _refuse_given(reading, f"{folder} is a G2VLM, which reads as such")
        checkpoint = read_checkpoint(folder)
        form = dtype_of(dtype, device, num_parameters(checkpoint.weights))
        host = build_host(opened, encoder=encoder, device=device, dtype=form)
        assert isinstance(host.model, G2VLM)
        return Predictor(host.model, processor_of(checkpoint), host=host, **marks)
    processor = read_host_processor(folder, opened.model, **reading)
    form = dtype_of(dtype, device, num_parameters(opened.parts.stock))
    return HostPredictor(build_host(opened, encoder=encoder, device=device, dtype=form), processor, **marks)


def _refuse_given(options: Mapping[str, Any], reason: str) -> None:
    if options:
        raise ValueError(f"{', '.join(options)}: {reason}; leave it out")
