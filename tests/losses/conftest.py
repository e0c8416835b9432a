import json
from collections.abc import Callable
from pathlib import Path

import pytest
import roma
import torch
from safetensors import safe_open
from torch import Tensor

from g2vlm.geometry.camera import unproject
from g2vlm.geometry.pose import in_first_frame, pose_from, transform
from g2vlm.losses.objective import Prediction
from g2vlm.records import Views

Recorded = Callable[[str], tuple[dict[str, Tensor], dict]]
Toy = Callable[..., tuple[Prediction, Views]]


@pytest.fixture
def recorded(shared: Path) -> Recorded:
    """`recorded(name)` reads the tensors and the scalars of one file of recorded numbers."""

    def read(name: str) -> tuple[dict[str, Tensor], dict]:
        with safe_open(shared / "goldens" / f"{name}.safetensors", "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return tensors, json.loads(file.metadata()["json"])

    return read


@pytest.fixture
def toy() -> Toy:
    """`toy(...)` makes wavy surfaces seen by a few cameras, and a prediction that is `noise` away from them.

    The prediction has every head and requires gradients.
    """

    def make(scenes=2, views=3, height=8, width=10, *, noise=0.1, seed=0, dtype=torch.float32):
        random = torch.Generator().manual_seed(seed)

        def normal(*shape):
            return torch.randn(scenes, views, *shape, generator=random, dtype=dtype)

        y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
        depth = 2 + 0.3 * torch.sin(2 * x + 3 * y).to(dtype) + 0.05 * normal(1, 1)
        intrinsics = torch.tensor([[1.0 * width, 0, width / 2], [0, 1.1 * width, height / 2], [0, 0, 1]], dtype=dtype)
        intrinsics = intrinsics.expand(scenes, views, 3, 3).clone()
        poses = pose_from(roma.rotvec_to_rotmat(0.3 * normal(3)), normal(3))
        normals = torch.nn.functional.normalize(normal(height, width, 3), dim=-1)
        truth = Views(
            images=torch.zeros(scenes, views, 3, height, width),
            intrinsics=intrinsics,
            poses=poses,
            depth=depth,
            mask=normal(height, width) > -1,
            normals=normals,
        )
        local = unproject(depth, intrinsics)
        moved = pose_from(
            poses[..., :3, :3] @ roma.rotvec_to_rotmat(noise * normal(3)), poses[..., :3, 3] + noise * normal(3)
        )
        heads = [
            local + noise * normal(height, width, 3),
            moved,
            transform(in_first_frame(poses), local) + noise * normal(height, width, 3),
            normal(height, width),
            normals + noise * normal(height, width, 3),
        ]
        return Prediction(*(head.requires_grad_() for head in heads)), truth

    return make
