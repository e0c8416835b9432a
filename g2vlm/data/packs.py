"""Packs of samples: an endless row whose every pack is a function of the seed and its position alone."""

import io
import itertools
import pickle
import random
import signal
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from g2vlm.data.samples import BadSample, Bucket, Pack, Sample, Source
from g2vlm.data.sampling import Shapes, random_size

MAX_BAD = 20
"""Bad samples in a row after which a pack is given up, and the run with it."""

ALIGNMENT = 8
"""Bytes; where a tensor may begin."""


class Plan(NamedTuple):
    """What a pack is filled with."""

    source: Source
    bucket: Bucket


class Packs(Dataset[Pack]):
    """`packs[n]` draws a source by weight, a shape, and samples of it until the budget of tokens is full, or there are
    `samples_per_pack` of them.

    What counts is what the model holds: so many tokens as the longest sample has, for every sample.
    """

    def __init__(
        self,
        sources: Sequence[tuple[Source, float]],
        shapes: Shapes,
        *,
        tokens_per_pack: int,
        seed: int,
        samples_per_pack: int | None = None,
    ):
        if not sources or min(weight for _, weight in sources) < 0 or not sum(weight for _, weight in sources):
            raise ValueError(f"sources need weights >= 0, one above 0 at least, got {[w for _, w in sources]}")
        self.sources = tuple(source for source, _ in sources)
        self.weights = tuple(weight for _, weight in sources)
        self.shapes, self.tokens_per_pack, self.seed = shapes, tokens_per_pack, seed
        self.samples_per_pack = tokens_per_pack if samples_per_pack is None else samples_per_pack
        longest = max(shapes.resolutions)
        for source in self.sources:
            self.most_views(source, longest, shapes.side(shapes.aspects[1], longest))

    def __getitem__(self, position: int) -> Pack:
        source, shape = self.plan(position)
        samples: list[Sample] = []
        skipped: list[str] = []
        longest = 0
        while len(samples) < self.samples_per_pack and (len(samples) + 1) * max(longest, 1) <= self.tokens_per_pack:
            draw = self.draw(f"{position} {len(samples)}")
            sample = self.good_sample(source, shape, draw, skipped)
            longest = max(longest, len(sample.ids))
            if (len(samples) + 1) * longest > self.tokens_per_pack:
                break
            samples.append(sample)
        return Pack(position, source.name, tuple(samples), tuple(skipped))

    def good_sample(self, source: Source, shape: Bucket, draw: random.Random, skipped: list[str]) -> Sample:
        """The first sample that can be used; what is wrong with those before it is added to `skipped`."""
        for _ in range(MAX_BAD):
            try:
                sample = source.sample(draw, shape)
            except BadSample as error:
                skipped.append(str(error))
                continue
            if len(sample.ids) <= self.tokens_per_pack:
                return sample
            skipped.append(f"{sample.name}: has {len(sample.ids)} tokens, a pack holds {self.tokens_per_pack}")
        raise ValueError(
            f"{source.name}: {MAX_BAD} samples in a row cannot be used, the last ones: {'; '.join(skipped[-3:])}"
        )

    def plan(self, position: int) -> Plan:
        """Source and shape of a pack, without making it."""
        draw = self.draw(f"{position}")
        (source,) = draw.choices(self.sources, self.weights)
        height, width = random_size(draw, self.shapes)
        least, _ = self.shapes.views_of(source.num_views)
        return Plan(source, Bucket(draw.randint(least, self.most_views(source, height, width)), height, width))

    def most_views(self, source: Source, height: int, width: int) -> int:
        """The most views of this size that a sample of the source may have, the budget being what it is."""
        least, most = self.shapes.views_of(source.num_views)
        for num_views in range(most, least - 1, -1):
            if source.num_tokens(Bucket(num_views, height, width)) <= self.tokens_per_pack:
                return num_views
        raise ValueError(
            f"tokens_per_pack is {self.tokens_per_pack}, but a sample of {source.name} with {least} views of {width} x "
            f"{height} pixels has {source.num_tokens(Bucket(least, height, width))}; raise it, or lower resolution or views"
        )

    def draw(self, purpose: str) -> random.Random:
        """Chance for one purpose; Python seeds it with a hash of the text that is the same everywhere."""
        return random.Random(f"{self.seed} {purpose}")


def positions(first_step: int, packs_per_step: int, rank: int = 0, world: int = 1) -> Iterator[int]:
    """Which packs one of `world` processes takes, from a step on: of each step every `world`-th."""
    for step in itertools.count(first_step):
        yield from range(step * packs_per_step + rank, (step + 1) * packs_per_step, world)


def position_loader(
    packs: Packs, positions: Iterable[int], workers: int, *, start_method: str | None = None
) -> Iterator[Pack]:
    """The packs at these positions, in order, made ahead by so many other processes (0: by this one, on demand).

    start_method: how the others begin, "fork" or "spawn"; None is Python's own choice.
    """
    if workers == 0:
        return map(packs.__getitem__, positions)
    loader = DataLoader(
        Parcels(packs),
        batch_size=None,
        sampler=positions,
        num_workers=workers,
        prefetch_factor=2,
        multiprocessing_context=start_method,
        worker_init_fn=leave_interrupts_to_the_parent,
    )
    return map(unpacked, loader)


def leave_interrupts_to_the_parent(_worker: int) -> None:
    """Ctrl-C reaches all processes; a worker ends when its parent does, without a traceback of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Parcel(NamedTuple):
    """A pack on its way between processes: everything but its tensors, and the bytes of all of them in one.

    Each shared tensor holds a file open until it is received; a pack of short texts has hundreds.
    """

    record: bytes
    content: UInt8[Tensor, " bytes"]


class Parcels(Dataset):
    """Packs as parcels; a ValueError travels as one, so that it arrives as the one line that it is."""

    def __init__(self, packs: Packs):
        self.packs = packs

    def __getitem__(self, position: int) -> Parcel | ValueError:
        try:
            return packed(self.packs[position])
        except ValueError as error:
            return error


class TensorsApart(pickle.Pickler):
    """A pickler that keeps tensors out; each leaves its dtype, shape and the place of its bytes."""

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self.pieces: list[Tensor] = []
        self.length = 0

    def persistent_id(self, obj: Any) -> tuple[int, torch.dtype, torch.Size] | None:
        if not isinstance(obj, Tensor):
            return None
        piece = obj.contiguous().flatten().view(torch.uint8)
        start, filler = self.length, -len(piece) % ALIGNMENT
        self.pieces += [piece, piece.new_zeros(filler)]
        self.length += len(piece) + filler
        return start, obj.dtype, obj.shape


class TensorsBack(pickle.Unpickler):
    """The other way."""

    def __init__(self, file: BinaryIO, content: Tensor):
        super().__init__(file)
        self.content = content

    def persistent_load(self, pid: tuple[int, torch.dtype, torch.Size]) -> Tensor:
        start, dtype, shape = pid
        return self.content[start : start + shape.numel() * dtype.itemsize].view(dtype).view(shape)


def packed(pack: Pack) -> Parcel:
    file = io.BytesIO()
    pickler = TensorsApart(file)
    pickler.dump(pack)
    return Parcel(file.getvalue(), torch.cat(pickler.pieces))


def unpacked(parcel: Parcel | ValueError) -> Pack:
    if isinstance(parcel, ValueError):
        raise parcel
    return TensorsBack(io.BytesIO(parcel.record), parcel.content).load()
