"""Long sequences: what windows say exactly is joined exactly; drift, breaks and still cameras are found; runs go on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from g2vlm.data import scenes
from g2vlm.geometry.align import similarity
from g2vlm.geometry.camera import unproject
from g2vlm.geometry.pose import in_first_frame, transform
from g2vlm.geometry.similarity import small
from g2vlm.pictures import Photo
from g2vlm.records import Geometry, Provenance, Reconstruction, Views
from g2vlm.windows import (
    WINDOWS_PER_LOOP,
    Joiner,
    Sight,
    Sizing,
    Windowing,
    connected_views,
    notes_of,
    seen_again,
)

SIDE = 56
SIZING = Sizing(SIDE, 14, "long_side")
PROVENANCE = Provenance("oracle", "0" * 64)
ROOM = 101_000_000


def walk(num_views: int, seed: int = ROOM) -> Views:
    return scenes.walk(seed, num_views=num_views, height=SIDE, width=SIDE)


def photos(views: Views, prefix: str = "") -> list[Photo]:
    pictures = (255 * views.images).round().byte().permute(0, 2, 3, 1).numpy()
    return [Photo(f"{prefix}{i:03d}.png", np.ascontiguousarray(picture)) for i, picture in enumerate(pictures)]


@dataclass
class Oracle:
    """Knows the truth of every picture; each window comes in a world and at a scale of its own.

    wrong: what is done to the cameras of a window, by number of the call.
    """

    rooms: Sequence[Views]
    wrong: Callable[[int, Tensor], Tensor] = lambda call, poses: poses
    calls: list[int] = field(default_factory=list)
    known: dict[bytes, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for room, views in enumerate(self.rooms):
            for i, photo in enumerate(photos(views)):
                self.known[photo.rgb.tobytes()] = room, i

    def __call__(self, views: Sequence[Tensor]) -> Sight:
        call = len(self.calls)
        self.calls.append(len(views))
        shown = [self.known[(255 * v).round().byte().permute(1, 2, 0).numpy().tobytes()] for v in views]
        depth, cameras, poses = (
            torch.stack([getattr(self.rooms[room], name)[i] for room, i in shown])
            for name in ("depth", "intrinsics", "poses")
        )
        scale = 1 + 0.3 * np.sin(call)
        world = small(torch.tensor([np.log(scale), 0.3 * call, 0.1, 0, 1, call, 0], dtype=torch.float32))
        looks = torch.cat([poses[:, :3, 3], 3 * poses[:, :3, 2], 50 * torch.tensor([[room] for room, _ in shown])], 1)
        return Sight(
            Geometry(local_points=tuple(scale * unproject(depth, cameras)), poses=world.poses(self.wrong(call, poses))),
            looks.float(),
        )


def joiner(oracle: Callable, window: int = 8, overlap: int = 2, folder: Path | None = None) -> Joiner:
    return Joiner(oracle, SIZING, PROVENANCE, Windowing(window, overlap), folder)


def run(made: Joiner, shots: Sequence[Photo]) -> Joiner:
    for _ in made.run(shots):
        pass
    return made


def drift(poses: np.ndarray, truth: Views) -> float:
    """Root mean square distance of the cameras from the truth, metres."""
    found, there = torch.from_numpy(poses[:, :3, 3]).double(), truth.poses[:, :3, 3].double()
    scale, rotation, translation = similarity(found, there)
    return float((scale * found @ rotation.mT + translation - there).square().sum(-1).mean().sqrt())


@pytest.mark.parametrize(("num", "window", "overlap"), [(23, 8, 2), (8, 8, 2), (9, 8, 4), (20, 8, 3), (2, 8, 2)])
def test_exact_windows_are_joined_exactly(num, window, overlap):
    room = walk(num)
    result = run(joiner(Oracle([room]), window, overlap), photos(room)).joined().reconstruction
    assert result.names == tuple(f"{i:03d}.png" for i in range(num))
    truth = in_first_frame(room.poses)
    np.testing.assert_allclose(result.poses, truth.numpy(), atol=1e-4)
    last = transform(truth[-1], unproject(room.depth[-1], room.intrinsics[-1])).numpy()
    np.testing.assert_allclose(result.points[num - 1], last, atol=1e-3)
    np.testing.assert_allclose(result.depth[num - 1], room.depth[-1], rtol=1e-4)
    np.testing.assert_array_equal(result.images[num - 1], photos(room)[-1].rgb)


def test_parts_come_as_frames_arrive_and_make_the_whole():
    room = walk(20)
    shots, read = photos(room), []

    def arriving():
        for shot in shots:
            read.append(shot.name)
            yield shot

    made = joiner(Oracle([room]))
    parts, read_at = [], []
    for part in made.run(arriving()):
        parts.append(part)
        read_at.append(len(read))
    assert [part.start for part in parts] == [0, 7, 13]
    assert read_at == [9, 15, 20]  # a window, and one frame ahead
    names = [name for part in parts for name in part.reconstruction.names]
    assert names == [shot.name for shot in shots]
    whole = made.joined().reconstruction
    np.testing.assert_allclose(np.concatenate([part.reconstruction.poses for part in parts]), whole.poses, atol=1e-4)


def bent(call: int, poses: Tensor) -> Tensor:
    """Each window turns and stretches its way a little too much, as a model does that errs always to the same side."""
    local = in_first_frame(poses)
    numbers = torch.zeros(len(poses), 7)
    numbers[:, 2] = torch.linspace(0, 0.08, len(poses))
    return poses[:1] @ small(numbers).poses(local[:, None])[:, 0]


def test_a_loop_lowers_drift():
    room = walk(48)
    made = run(joiner(Oracle([room], bent)), photos(room))
    opened, closed = made.joined(close_loops=False), made.joined()
    assert not opened.loops
    assert any(loop.first == 0 and loop.second >= 6 for loop in closed.loops)
    assert drift(closed.reconstruction.poses, room) < 0.7 * drift(opened.reconstruction.poses, room)


def test_only_the_likeliest_loops_are_looked_at():
    room = walk(40)
    oracle = Oracle([room])
    made = run(joiner(oracle, window=4), photos(room) + photos(room)[:20])
    num_windows = len(oracle.calls)
    made.joined()
    assert (num_windows, len(oracle.calls) - num_windows) == (29, 29 // WINDOWS_PER_LOOP)


def test_joints_and_loops_are_kept_in_the_provenance():
    room = walk(48)
    joined = run(joiner(Oracle([room])), photos(room)).joined()
    settings = joined.reconstruction.provenance.settings
    assert settings["joints"].startswith("6-7 100%; 12-13 100%; ")
    assert settings["loops"].split("; ") == [f"{a}-{b} 100%" for a, b in (loop.views for loop in joined.loops)]


def test_two_rooms_in_one_folder_do_not_connect():
    rooms = [walk(40), walk(40, ROOM + 3)]
    shots = photos(rooms[0])[:9] + photos(rooms[1])[:9]
    notes = run(joiner(Oracle(rooms)), shots).joined().notes
    assert [note for note in notes if "do not connect" in note] == list(notes)
    assert notes[0].startswith("views 8 and 9 do not connect")


def seen_at_once(rooms: Sequence[Views], shots: Sequence[Photo]) -> Reconstruction:
    (part,) = joiner(Oracle(rooms), len(shots), 1).run(shots)
    return part.reconstruction


def test_photos_of_two_rooms_in_any_order_fall_into_two_groups():
    rooms = [walk(40), walk(40, ROOM + 3)]
    one, other = photos(rooms[0], "a")[:3], photos(rooms[1], "b")[:3]
    seen = seen_at_once(rooms, [one[0], other[0], one[1], other[1], one[2], other[2]])
    assert connected_views(seen) == [[0, 2, 4], [1, 3, 5]]
    (note,) = notes_of(seen)
    assert note.startswith(
        "the photos do not connect: 2 parts, which begin with a000.png, b000.png, show no common place"
    )
    assert notes_of(seen_at_once(rooms, one)) == ()


def test_photos_from_one_spot_are_said_to_be():
    room = walk(60)
    seen = seen_at_once([room], photos(room)[:6])
    assert notes_of(seen) == ()
    poses = seen.poses.copy()
    poses[:, :3, 3] = 0
    assert notes_of(replace(seen, poses=poses))[-1].startswith("the camera hardly moves in these views, it only turns")


def test_one_room_connects_and_says_nothing():
    room = walk(40)
    assert run(joiner(Oracle([room])), photos(room)[:20]).joined().notes == ()


def test_a_camera_that_only_turns_is_said_to():
    def still(call: int, poses: Tensor) -> Tensor:
        poses = poses.clone()
        poses[:, :3, 3] = poses[0, :3, 3]
        return poses

    room = walk(60)
    (*_, note) = run(joiner(Oracle([room], still)), photos(room)[:6]).joined().notes
    assert note.startswith("the camera hardly moves in these views, it only turns")


def test_windows_that_contradict_each_other_are_said_to():
    def torn(call: int, poses: Tensor) -> Tensor:
        numbers = 0.5 * torch.randn(len(poses), 7, generator=torch.Generator().manual_seed(0))
        return poses if call == 0 else small(numbers).poses(poses[:, None])[:, 0]

    room = walk(60)
    notes = run(joiner(Oracle([room], torn), overlap=4), photos(room)[:12]).joined().notes
    assert any(note.startswith("views 4 to 7 look different") for note in notes)


class Interrupted(Exception):
    pass


def test_an_interrupted_run_goes_on_from_what_is_there(tmp_path):
    room = walk(23)
    shots, folder = photos(room), tmp_path / "windows"
    oracle = Oracle([room])

    def failing(views):
        if len(oracle.calls) == 2:
            raise Interrupted
        return oracle(views)

    with pytest.raises(Interrupted):
        run(joiner(failing, folder=folder), shots)
    again = Oracle([room])
    made = run(joiner(again, folder=folder), shots)
    assert (made.num_found, len(again.calls)) == (2, 2)
    np.testing.assert_allclose(made.joined().reconstruction.poses, in_first_frame(room.poses).numpy(), atol=1e-4)


def test_other_pictures_under_the_same_names_are_seen_anew(tmp_path):
    rooms = [walk(14), walk(14, ROOM + 3)]
    run(joiner(Oracle(rooms), folder=tmp_path), photos(rooms[0]))
    oracle = Oracle(rooms)
    assert run(joiner(oracle, folder=tmp_path), photos(rooms[1])).num_found == 0
    assert len(oracle.calls) == 2


def test_other_settings_are_refused_by_name(tmp_path):
    joiner(Oracle([]), folder=tmp_path)
    with pytest.raises(ValueError, match=r"holds a run of other settings \(window was 8, now 6\)"):
        joiner(Oracle([]), window=6, folder=tmp_path)


def test_a_result_outlives_the_joiner_that_made_it():
    room = walk(10)
    result = run(joiner(Oracle([room])), photos(room)).joined().reconstruction
    assert result.points[9].shape == (SIDE, SIDE, 3)
    assert len(result.depth[2:4]) == 2
    assert sum(1 for _ in result.mask) == 10


def test_no_photo_is_refused():
    with pytest.raises(ValueError, match="no photo was given"):
        run(joiner(Oracle([])), [])


@pytest.mark.parametrize(("window", "overlap"), [(8, 5), (8, 0), (1, 1)])
def test_overlaps_that_cannot_be_are_refused(window, overlap):
    with pytest.raises(ValueError, match=f"overlap is {overlap} with a window of {window}"):
        Windowing(window, overlap)


def test_neighbours_show_the_same_place_in_the_same_colours():
    room = walk(60)
    made = run(joiner(Oracle([room])), photos(room)[:8]).joined().reconstruction
    share, likeness = seen_again(made, 0, 1)
    assert share > 0.8
    assert likeness > 0.9
