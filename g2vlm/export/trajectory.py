"""Where the cameras were, as the TUM benchmark writes it and evo reads it."""

import numpy as np
from scipy.spatial.transform import Rotation

from g2vlm.records import Reconstruction


def tum(reconstruction: Reconstruction, said: tuple[str, ...]) -> bytes:
    """A line per view: its number for a time, position, quaternion with the real part last; camera-to-world."""
    poses = reconstruction.poses.astype(np.float64)
    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat(canonical=True)
    numbers = np.concatenate([poses[:, :3, 3], quaternions], axis=1)
    rows = [
        *(f"# {line}" for line in said),
        "# timestamps count views; no times are known",
        "# timestamp tx ty tz qx qy qz qw",
        *(f"{view} {' '.join(f'{x:.9f}' for x in row)}" for view, row in enumerate(numbers.tolist())),
    ]
    return "\n".join([*rows, ""]).encode()
