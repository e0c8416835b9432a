"""Each reader on a miniature in its data set's own layout, written here from three views of a room."""

import gzip
import io
import json
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rooms import Room, matrix, millimetres, pinhole, save, write
from scipy.spatial.transform import Rotation

from g2vlm.data.readers import READERS
from g2vlm.data.recon import Scene, Shot, each_good
from g2vlm.data.samples import BadSample
from g2vlm.data.shards import read_shards, write_shards

HEIGHT, WIDTH = 48, 64  # of the room's views


def seen(room: Room, view: int, intrinsics: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Picture and depth (0 where nothing is known) of another lens at the same place, from the nearest pixels."""
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    rays = np.linalg.inv(intrinsics) @ np.stack([columns, rows, np.ones_like(rows)]).reshape(3, -1)
    x, y, _ = np.floor(room.intrinsics @ rays).astype(int)
    inside = (x >= 0) & (x < WIDTH) & (y >= 0) & (y < HEIGHT)
    x, y = np.where(inside, x, 0), np.where(inside, y, 0)
    picture = np.where(inside[:, None], room.images[view][y, x], 0).reshape(*size, 3)
    return picture.astype(np.uint8), np.where(inside, room.depth[view][y, x], 0).reshape(size)


def enlarged(values: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.array(Image.fromarray(values).resize((width, height), Image.Resampling.NEAREST))


def read(kind: str, folder: Path) -> Scene:
    (scene,) = READERS[kind](folder)
    return scene


def failures(kind: str, folder: Path) -> list[str]:
    bad: list[str] = []
    assert not list(each_good(READERS[kind](folder), bad.append))
    return bad


# ---- miniatures: each returns the intrinsics of the pictures, and how each picture and its depth should look


Truth = tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray | None]]]

HALF_PIXEL = np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])


def four(intrinsics: np.ndarray) -> np.ndarray:
    whole = np.eye(4)
    whole[:3, :3] = intrinsics
    return whole


def scannet(room: Room, folder: Path) -> Truth:
    scan = folder / "scans" / "scene0000_00"
    color, size = pinhole(100, 62.3, 47.1), (96, 120)
    write(scan / "intrinsic" / "intrinsic_color.txt", matrix(four(color - HALF_PIXEL)))
    write(scan / "intrinsic" / "intrinsic_depth.txt", matrix(four(room.intrinsics - HALF_PIXEL)))
    truth = []
    # 10 comes after 2, and 9 was not tracked.
    for view, number in enumerate((1, 2, 10)):
        picture, depth = seen(room, view, color, size)
        save(scan / "color" / f"{number}.jpg", picture, quality=98)
        save(scan / "depth" / f"{number}.png", millimetres(room.depth[view]))
        write(scan / "pose" / f"{number}.txt", matrix(room.poses[view]))
        truth.append((picture, millimetres(depth) / 1000))
    save(scan / "color" / "9.jpg", picture)
    save(scan / "depth" / "9.png", millimetres(room.depth[0]))
    write(scan / "pose" / "9.txt", "-inf -inf -inf -inf\n" * 4)
    return color, truth


def sens(room: Room, folder: Path) -> Truth:
    """The same as `scannet`, in one file."""
    color, size = pinhole(100, 62.3, 47.1), (96, 120)
    identity = np.eye(4)
    matrices = (four(color - HALF_PIXEL), identity, four(room.intrinsics - HALF_PIXEL), identity)
    content = struct.pack("<IQ", 4, 6) + b"sensor" + np.stack(matrices).astype("<f4").tobytes()
    content += struct.pack("<2i4IfQ", 2, 1, size[1], size[0], WIDTH, HEIGHT, 1000.0, 4)
    truth = []
    for view in (0, 1, None, 2):
        pose = np.full((4, 4), -np.inf) if view is None else room.poses[view]
        picture, depth = seen(room, view or 0, color, size)
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", quality=98)
        packed = zlib.compress(millimetres(room.depth[view or 0]).tobytes())
        content += pose.astype("<f4").tobytes() + struct.pack("<4Q", 0, 0, len(stream.getvalue()), len(packed))
        content += stream.getvalue() + packed
        if view is not None:
            truth.append((picture, millimetres(depth) / 1000))
    write(folder / "scene0000_00" / "scene0000_00.sens", content)
    return color, truth


PHONE = pinhole(270, 161, 118.5)  # of 320 x 240 pixels


def scannetpp(room: Room, folder: Path) -> Truth:
    iphone = folder / "data" / "0a5c013435" / "iphone"
    own = np.diag([256 / 320, 192 / 240, 1]) @ PHONE
    records, truth = {}, []
    for view in range(3):
        picture, _ = seen(room, view, PHONE, (240, 320))
        small = millimetres(seen(room, view, own, (192, 256))[1])
        save(iphone / "rgb" / f"frame_{10 * view:06}.jpg", picture, quality=98)
        save(iphone / "depth" / f"frame_{10 * view:06}.png", small)
        records[f"frame_{10 * view:06}"] = {
            "timestamp": 0.1 * view,
            "pose": np.eye(4).tolist(),  # ARKit's own, in another world
            "aligned_pose": room.poses[view].tolist(),
            "intrinsic": PHONE.tolist(),
        }
        truth.append((picture, enlarged(small, 240, 320) / 1000))
    records["frame_000005"] = records["frame_000000"]  # not extracted from the video
    write(iphone / "pose_intrinsic_imu.json", json.dumps(records))
    return PHONE, truth


def arkitscenes(room: Room, folder: Path, turns: int = 0) -> Truth:
    """Turns: how often the phone's pictures have to be turned left by 90 degrees to be upright."""
    video = folder / "3dod" / "Training" / "42444946" / "42444946_frames"
    upright = pinhole(250, 130, 94) if turns % 2 == 0 else pinhole(250, 97, 129)
    size = (192, 256) if turns % 2 == 0 else (256, 192)
    # The camera turns the other way than its picture: x' is where the pictures' columns now point.
    back = Rotation.from_euler("z", 90 * turns, degrees=True).as_matrix()
    stored, width, height = upright.copy(), size[1], size[0]
    for _ in range(turns):  # undo one left turn: the old column is the width of the old picture minus the new row
        cx, cy = stored[:2, 2]
        stored[:2, 2] = height - cy, cx
        width, height = height, width
    lines, truth = [], []
    for view in range(3):
        time = 100.0 + 0.1 * view
        picture, depth = seen(room, view, upright, size)
        label = f"42444946_{time:.3f}"
        save(video / "lowres_wide" / f"{label}.png", np.rot90(picture, -turns))
        save(video / "lowres_depth" / f"{label}.png", np.rot90(millimetres(depth), -turns).copy())
        late = f"42444946_{time + 0.001 * (view - 1):.3f}"  # off by up to a millisecond
        write(
            video / "lowres_wide_intrinsics" / f"{late}.pincam",
            f"{width} {height} {stored[0, 0]} {stored[1, 1]} {stored[0, 2]} {stored[1, 2]}\n",
        )
        pose = room.poses[view].copy()
        pose[:3, :3] = pose[:3, :3] @ back.T
        outside = np.linalg.inv(pose)
        turn = Rotation.from_matrix(outside[:3, :3]).as_rotvec()
        lines.append(f"{time + 0.002} " + " ".join(f"{value:.12g}" for value in (*turn, *outside[:3, 3])))
        truth.append((picture, millimetres(depth) / 1000))
    save(video / "lowres_wide" / "42444946_100.050.png", picture)  # halfway between two poses
    write(video / "lowres_wide.traj", "\n".join(lines) + "\n")
    return upright, truth


def co3dv2(room: Room, folder: Path, layout: str = "ndc_isotropic") -> Truth:
    half = np.array([WIDTH, HEIGHT]) / 2
    units = half.min() if layout == "ndc_isotropic" else half
    focal = room.intrinsics[[0, 1], [0, 1]] / units
    centre = (half - room.intrinsics[:2, 2]) / units
    frames, truth = [], []
    for view in range(3):
        outside = np.linalg.inv(room.poses[view])
        outside[:2] *= -1  # PyTorch3D looks along z too, but its x goes left and its y up
        stem = f"apple/110_1_2/{{}}/frame{view:06}"
        record = {
            "sequence_name": "110_1_2",
            "frame_number": view,
            "image": {"path": stem.format("images") + ".jpg", "size": [HEIGHT, WIDTH]},
            "viewpoint": {
                "R": outside[:3, :3].T.tolist(),  # X_world @ R + T
                "T": outside[:3, 3].tolist(),
                "focal_length": focal.tolist(),
                "principal_point": centre.tolist(),
                "intrinsics_format": layout,
            },
            "depth": {
                "path": stem.format("depths") + ".jpg.geometric.png",
                "scale_adjustment": 2.0,
                "mask_path": stem.format("depth_masks") + ".png",
            },
        }
        stored = (room.depth[view] / 2).astype(np.float16)
        stored[0, 0] = np.nan
        mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
        mask[:, :7] = 0
        known = np.where(np.isnan(stored) | (mask == 0), 0, 2 * stored.astype(np.float32))
        save(folder / record["image"]["path"], room.images[view], quality=98)
        save(folder / record["depth"]["path"], stored.view(np.uint16))
        save(folder / record["depth"]["mask_path"], mask)
        frames.append(record)
        truth.append((room.images[view], known))
    save(folder / "apple" / "doubtful" / "images" / "frame000000.jpg", room.images[0])
    frames.append({**frames[0], "sequence_name": "doubtful"})
    sequences = [
        {"sequence_name": "110_1_2", "category": "apple", "viewpoint_quality_score": 1.2},
        {"sequence_name": "doubtful", "category": "apple", "viewpoint_quality_score": 0.1},
    ]
    write(folder / "apple" / "frame_annotations.jgz", gzip.compress(json.dumps(frames[::-1]).encode()))
    write(folder / "apple" / "sequence_annotations.jgz", gzip.compress(json.dumps(sequences).encode()))
    return room.intrinsics, truth


def nerfstudio(room: Room, names: list[str], times: int = 1, **more: float | str) -> dict:
    """OpenGL poses; intrinsics of pictures so many times as large."""
    frames = []
    for view, name in enumerate(names):
        pose = room.poses[view].copy()
        pose[:3, 1:3] *= -1
        frames.append({"file_path": name, "transform_matrix": pose.tolist(), "is_bad": False})
    k = room.intrinsics * times
    camera = {"fl_x": k[0, 0], "fl_y": k[1, 1], "cx": k[0, 2], "cy": k[1, 2], "w": WIDTH * times, "h": HEIGHT * times}
    return {**camera, **more, "frames": frames}


def dl3dv(room: Room, folder: Path) -> Truth:
    scene = folder / "1K" / "001dccbc1f78"
    names = [f"images/frame_{view + 1:05}.png" for view in range(3)]
    record = nerfstudio(room, names, 4, camera_model="OPENCV", k1=1e-4, k2=0.0, p1=0.0, p2=0.0)
    record["frames"] = record["frames"][::-1]
    record["frames"].append({**record["frames"][0], "file_path": "images/frame_00009.png"})  # not there
    write(scene / "transforms.json", json.dumps(record))
    for view, name in enumerate(names):
        save(scene / "images_4" / Path(name).name, room.images[view])
    return room.intrinsics, [(room.images[view], None) for view in range(3)]


def scannetpp_dslr(room: Room, folder: Path) -> Truth:
    dslr = folder / "data" / "0a5c013435" / "dslr"
    names = [f"DSC0000{view}.JPG" for view in range(3)]
    record = nerfstudio(room, names, camera_model="PINHOLE", k1=0.0, k2=0.0, k3=0.0, k4=0.0)
    record["test_frames"] = [record["frames"].pop(1)]
    record["frames"].append({**record["frames"][0], "file_path": "DSC00009.JPG", "is_bad": True})
    write(dslr / "nerfstudio" / "transforms_undistorted.json", json.dumps(record))
    for view, name in enumerate([*names, "DSC00009.JPG"]):
        save(dslr / "resized_undistorted_images" / name, room.images[view % 3], quality=98)
    return room.intrinsics, [(room.images[view], None) for view in range(3)]


def blendedmvs(room: Room, folder: Path) -> Truth:
    project = folder / "5a3ca9cb270f0e3f14d0eddb"
    for view in range(3):
        text = f"extrinsic\n{matrix(np.linalg.inv(room.poses[view]))}\nintrinsic\n{matrix(room.intrinsics)}\n"
        write(project / "cams" / f"{view:08}_cam.txt", text + "0.5 0.01 128 6.0\n")
        save(project / "blended_images" / f"{view:08}.jpg", room.images[view], quality=98)
        save(project / "blended_images" / f"{view:08}_masked.jpg", room.images[view])
        rows = room.depth[view][::-1].astype("<f4").tobytes()  # from the bottom upwards
        write(project / "rendered_depth_maps" / f"{view:08}.pfm", b"Pf\n%d %d\n-1.000000\n" % (WIDTH, HEIGHT) + rows)
    write(project / "cams" / "pair.txt", "3\n")
    return room.intrinsics, [(room.images[view], room.depth[view]) for view in range(3)]


def tartanair(room: Room, folder: Path) -> Truth:
    trajectory = folder / "office" / "Easy" / "P001"
    lens, lines, truth = pinhole(320, 320, 240), [], []
    forward_right_down = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0.0]])  # rows: the camera's own axes, in ours
    for view in range(3):
        picture, depth = seen(room, view, lens, (480, 640))
        quaternion = Rotation.from_matrix(room.poses[view, :3, :3] @ forward_right_down.T).as_quat()
        lines.append(" ".join(f"{value:.12g}" for value in (*room.poses[view, :3, 3], *quaternion)))
        save(trajectory / "image_left" / f"{view:06}_left.png", picture, compress_level=1)
        stream = io.BytesIO()
        np.save(stream, np.where(depth > 0, depth, 1e4).astype(np.float32))  # the sky, where the room was not seen
        write(trajectory / "depth_left" / f"{view:06}_left_depth.npy", stream.getvalue())
        truth.append((picture, depth))
    write(trajectory / "pose_left.txt", "\n".join(lines) + "\n")
    return lens, truth


STANDARD_LENS = np.array([[0.5773502886169104, 0, 0], [0, 0.4330127164626828, 0], [0, 0, -1]])
METRES_PER_UNIT = 0.0254


def hypersim(room: Room, folder: Path, rays: np.ndarray = STANDARD_LENS) -> Truth:
    h5py = pytest.importorskip("h5py")
    scene = folder / "ai_001_001"
    lens, truth = pinhole(512 / np.tan(np.pi / 6), 512, 384), []
    names = ",".join(f"M_cam_from_uv_{i}{j}" for i in range(3) for j in range(3))
    write(
        folder / "metadata_camera_parameters.csv",
        f"scene_name,{names}\nai_001_001,{','.join(f'{v!r}' for v in rays.ravel().tolist())}\n",
    )
    write(
        scene / "_detail" / "metadata_scene.csv",
        f"parameter_name,parameter_value\nmeters_per_asset_unit,{METRES_PER_UNIT}\n",
    )
    detail = scene / "_detail" / "cam_00"
    detail.mkdir()
    orientations = room.poses[:, :3, :3] * [1, -1, -1]  # y up, z backwards
    keyframes = {"frame_indices": [0, 1, 2], "positions": room.poses[:, :3, 3] / METRES_PER_UNIT}
    for name, values in {**keyframes, "orientations": orientations}.items():
        with h5py.File(detail / f"camera_keyframe_{name}.hdf5", "w") as file:
            file["dataset"] = values
    rows, columns = np.mgrid[:768, :1024] + 0.5
    ray_lengths = np.sqrt(1 + ((columns - 512) / lens[0, 0]) ** 2 + ((rows - 384) / lens[0, 0]) ** 2)
    (scene / "images" / "scene_cam_00_geometry_hdf5").mkdir(parents=True)
    for view in range(3):
        picture, depth = seen(room, view, lens, (768, 1024))
        save(scene / "images" / "scene_cam_00_final_preview" / f"frame.{view:04}.tonemap.jpg", picture, quality=98)
        name = f"frame.{view:04}.depth_meters.hdf5"
        with h5py.File(scene / "images" / "scene_cam_00_geometry_hdf5" / name, "w") as file:
            file["dataset"] = np.where(depth > 0, depth * ray_lengths, np.nan).astype(np.float16)
        truth.append((picture, depth))
    return lens, truth


MINIATURES: dict[str, tuple[str, Callable[[Room, Path], Truth], float, bool]] = {
    # layout: (reader, writer, relative tolerance of depth, is_metric)
    "scannet": ("scannet", scannet, 1e-6, True),
    "sens": ("scannet", sens, 1e-6, True),
    "scannetpp": ("scannetpp", scannetpp, 1e-6, True),
    "scannetpp_dslr": ("scannetpp", scannetpp_dslr, 0, True),
    "arkitscenes": ("arkitscenes", arkitscenes, 1e-6, True),
    "co3dv2": ("co3dv2", co3dv2, 0, False),
    "dl3dv": ("dl3dv", dl3dv, 0, False),
    "blendedmvs": ("blendedmvs", blendedmvs, 0, False),
    "tartanair": ("tartanair", tartanair, 0, True),
    "hypersim": ("hypersim", hypersim, 1e-3, True),
}
WITH_DEPTH = [layout for layout in MINIATURES if layout not in ("dl3dv", "scannetpp_dslr")]


@pytest.fixture(scope="module", params=MINIATURES)
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def miniature(layout: str, room: Room, tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, Truth]:
    kind, writer, *_ = MINIATURES[layout]
    folder = tmp_path_factory.mktemp(layout)
    truth = writer(room, folder)
    return read(kind, folder), truth


def agree(found: np.ndarray, wanted: np.ndarray, tolerance: float) -> float:
    """Share of equal pixels; where two maps are looked up one after the other, a rounding may pick the neighbour."""
    return (np.abs(found - wanted) <= tolerance * wanted).mean()


def test_poses_and_intrinsics_come_back(layout: str, miniature: tuple[Scene, Truth], room: Room):
    scene, (intrinsics, truth) = miniature
    assert len(scene.frames) == len(truth) == 3
    assert scene.is_metric == MINIATURES[layout][3]
    for frame, pose in zip(scene.frames, room.poses, strict=True):
        np.testing.assert_allclose(frame.pose, pose, atol=2e-6, err_msg=frame.name)
        np.testing.assert_allclose(frame.intrinsics, intrinsics, atol=1e-4, err_msg=frame.name)


def test_pictures_and_depth_come_back(layout: str, miniature: tuple[Scene, Truth]):
    scene, (_, truth) = miniature
    for frame, (picture, depth) in zip(scene.frames, truth, strict=True):
        shot = frame.read()
        assert np.abs(shot.image.astype(float) - picture).mean() < 4  # JPEG
        assert (shot.depth is None) == (depth is None)
        if shot.depth is not None and depth is not None:
            tolerance = MINIATURES[layout][2]
            assert agree(shot.depth, depth, tolerance) > 0.999
            assert np.array_equal(shot.depth == 0, depth == 0) or layout in ("scannet", "sens", "scannetpp")


def test_depth_of_one_view_lands_on_another(layout: str, miniature: tuple[Scene, Truth]):
    if layout not in WITH_DEPTH:
        pytest.skip("no depth in this layout")
    scene, _ = miniature
    first, second = scene.frames[0], scene.frames[1]
    relative = landed(first.read(), second.read(), *(f.pose for f in (first, second)), first.intrinsics)
    assert len(relative) > 800
    assert (relative > 0.9).mean() > 0.97
    assert (np.abs(relative - 1) < 0.05).mean() > 0.6


def landed(
    source: Shot, target: Shot, source_pose: np.ndarray, target_pose: np.ndarray, intrinsics: np.ndarray
) -> np.ndarray:
    """Depth of the source's points in the target's camera, over the depth that the target knows there."""
    assert source.depth is not None
    assert target.depth is not None
    rows, columns = np.nonzero(source.depth)
    rays = np.linalg.inv(intrinsics) @ np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    points = (
        np.linalg.inv(target_pose) @ source_pose @ np.vstack([rays * source.depth[rows, columns], np.ones(len(rows))])
    )
    x, y, z = intrinsics @ points[:3]
    x, y = np.floor(x / z).astype(int), np.floor(y / z).astype(int)
    height, width = target.depth.shape
    inside = (z > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    seen = target.depth[y[inside], x[inside]]
    return z[inside][seen > 0] / seen[seen > 0]


def test_a_scene_travels_to_a_worker_process(miniature: tuple[Scene, Truth]):
    scene, _ = miniature
    again, shot = pickle.loads(pickle.dumps(scene)).frames[0].read(), scene.frames[0].read()
    assert np.array_equal(again.image, shot.image)
    assert np.array_equal(again.depth, shot.depth) or again.depth is shot.depth is None


def test_a_scene_survives_shards(miniature: tuple[Scene, Truth], tmp_path: Path):
    scene, _ = miniature
    assert write_shards(iter([scene]), tmp_path).num_frames == 3
    (again,) = read_shards(tmp_path)
    shot, copy = scene.frames[2].read(), again.frames[2].read()
    assert np.array_equal(copy.image, shot.image)
    np.testing.assert_allclose(again.frames[2].pose, scene.frames[2].pose)
    np.testing.assert_allclose(again.frames[2].intrinsics, scene.frames[2].intrinsics)
    if shot.depth is not None and copy.depth is not None:
        np.testing.assert_allclose(copy.depth, shot.depth, rtol=2e-3)


@pytest.mark.parametrize("layout", WITH_DEPTH, scope="module")
def test_a_picture_without_its_depth_file_keeps_none(layout: str, room: Room, tmp_path: Path):
    if layout == "sens":
        pytest.skip("one file")
    kind, writer, *_ = MINIATURES[layout]
    writer(room, tmp_path)
    depths = sorted(
        path for path in tmp_path.rglob("*") if "depth" in path.parent.name and "mask" not in path.parent.name
    )
    depths = depths or sorted(tmp_path.rglob("*.depth_meters.hdf5"))
    depths[0].unlink()
    without = [frame.depth is None for frame in read(kind, tmp_path).frames]
    assert sum(without) == 1


@pytest.mark.parametrize("kind", sorted({kind for kind, *_ in MINIATURES.values()}))
def test_a_folder_of_something_else_is_refused_in_one_line(kind: str, tmp_path: Path):
    write(tmp_path / "a" / "b.txt", "nothing")
    with pytest.raises(ValueError, match=str(tmp_path)) as caught:
        READERS[kind](tmp_path)
    assert not isinstance(caught.value, BadSample)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="no such folder"):
        READERS[kind](tmp_path / "missing")


@pytest.mark.parametrize("layout", ["scannet", "scannetpp", "co3dv2", "blendedmvs", "tartanair"])
def test_pictures_that_somebody_made_smaller_are_refused(layout: str, room: Room, tmp_path: Path):
    kind, writer, *_ = MINIATURES[layout]
    writer(room, tmp_path)
    for file in tmp_path.rglob("*.[jp][pn]g"):
        if not {"depth", "depths", "depth_masks"} & set(file.parts):
            with Image.open(file) as picture:
                save(file, np.array(picture.reduce(2)))
    (message,) = failures(kind, tmp_path)
    assert "size" in message or "640 x 480" in message


# ---- what each layout has in store


def test_scannet_counts_pictures_by_number_and_leaves_out_lost_ones(room: Room, tmp_path: Path):
    scannet(room, tmp_path)
    assert [frame.name for frame in read("scannet", tmp_path).frames] == [
        "scene0000_00/1.jpg",
        "scene0000_00/2.jpg",
        "scene0000_00/10.jpg",
    ]


def test_a_sens_file_that_was_cut_off_says_so(room: Room, tmp_path: Path):
    sens(room, tmp_path)
    file = next(tmp_path.rglob("*.sens"))
    content = file.read_bytes()
    for length in (len(content) - 5, 600, 100):
        file.write_bytes(content[:length])
        (message,) = failures("scannet", tmp_path)
        assert "download it again" in message
        assert str(file) in message


def test_arkitscenes_finds_the_intrinsics_of_a_millisecond_earlier_or_later(room: Room, tmp_path: Path):
    arkitscenes(room, tmp_path)
    assert len(read("arkitscenes", tmp_path).frames) == 3
    cameras = list(tmp_path.rglob("*.pincam"))
    cameras[0].unlink()
    assert len(read("arkitscenes", tmp_path).frames) == 2
    for file in cameras[1:]:
        file.unlink()
    (message,) = failures("arkitscenes", tmp_path)
    assert ".pincam" in message


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_arkitscenes_turns_pictures_upright(turns: int, room: Room, tmp_path: Path):
    intrinsics, truth = arkitscenes(room, tmp_path, turns)
    scene = read("arkitscenes", tmp_path)
    for frame, pose, (picture, depth) in zip(scene.frames, room.poses, truth, strict=True):
        shot = frame.read()
        assert np.array_equal(shot.image, picture)
        assert shot.depth is not None
        assert depth is not None
        np.testing.assert_allclose(shot.depth, depth, rtol=1e-6)
        np.testing.assert_allclose(frame.pose, pose, atol=1e-6)
        np.testing.assert_allclose(frame.intrinsics, intrinsics, atol=1e-9)


def test_arkitscenes_prefers_the_larger_pictures_of_the_raw_download(room: Room, tmp_path: Path):
    arkitscenes(room, tmp_path)
    video = next(tmp_path.rglob("lowres_wide")).parent
    for small, large in (("lowres_wide", "vga_wide"), ("lowres_wide_intrinsics", "vga_wide_intrinsics")):
        (video / small).rename(video / large)
    lens = np.diag([2.5, 2.5, 1]) @ pinhole(250, 130, 94)
    for file in (video / "vga_wide").iterdir():
        save(file, enlarged(np.array(Image.open(file)), 480, 640))
    for file in (video / "vga_wide_intrinsics").iterdir():
        write(file, f"640 480 {lens[0, 0]} {lens[1, 1]} {lens[0, 2]} {lens[1, 2]}")
    frame = read("arkitscenes", tmp_path).frames[1]
    shot = frame.read()
    np.testing.assert_allclose(frame.intrinsics, lens)
    assert shot.depth is not None
    assert shot.depth.shape == shot.image.shape[:2] == (480, 640)
    stored = np.array(Image.open(sorted((video / "lowres_depth").iterdir())[1]))
    assert agree(shot.depth, enlarged(stored, 480, 640) / 1000, 1e-6) > 0.999


def test_co3d_intrinsics_of_the_older_kind_come_back(room: Room, tmp_path: Path):
    intrinsics, _ = co3dv2(room, tmp_path, "ndc_norm_image_bounds")
    scene = read("co3dv2", tmp_path)
    assert scene.name == "apple_110_1_2"
    np.testing.assert_allclose(scene.frames[0].intrinsics, intrinsics, atol=1e-9)


def test_a_damaged_co3d_annotation_is_named(room: Room, tmp_path: Path):
    co3dv2(room, tmp_path)
    file = tmp_path / "apple" / "frame_annotations.jgz"
    file.write_bytes(file.read_bytes()[:-40])
    assert all(str(file) in message for message in failures("co3dv2", tmp_path))


@pytest.mark.parametrize(("k1", "k2", "p1", "p2"), [(-0.05, 0.02, 1e-3, -2e-3), (0.08, -0.01, -1e-3, 5e-4)])
def test_dl3dv_pictures_are_undistorted(k1: float, k2: float, p1: float, p2: float, room: Room, tmp_path: Path):
    """Colours that say along which ray they lie: after undistortion they do, by the intrinsics that are given."""
    width, height, f = 320, 180, 150.0
    names = [f"images/frame_{view + 1:05}.png" for view in range(3)]
    record = nerfstudio(room, names, camera_model="OPENCV", k1=k1, k2=k2, p1=p1, p2=p2)
    record |= {"w": 4 * width, "h": 4 * height, "fl_x": 4 * f, "fl_y": 4 * f, "cx": 4 * 161.0, "cy": 4 * 89.0}
    write(tmp_path / "hash" / "nerfstudio" / "transforms.json", json.dumps(record))
    rows, columns = np.mgrid[:height, :width] + 0.5
    moved_x, moved_y = (columns - 161) / f, (rows - 89) / f
    x, y = moved_x, moved_y
    for _ in range(50):  # the inverse of the lens, by repetition
        square = x**2 + y**2
        radial = 1 + k1 * square + k2 * square**2
        x, y = (
            (moved_x - 2 * p1 * x * y - p2 * (square + 2 * x**2)) / radial,
            (moved_y - 2 * p2 * x * y - p1 * (square + 2 * y**2)) / radial,
        )
    picture = np.stack([128 + 90 * x, 128 + 90 * y, np.full_like(x, 200)], axis=-1)
    for name in names:
        save(tmp_path / "hash" / "nerfstudio" / "images_4" / Path(name).name, picture.round().astype(np.uint8))
    frame = read("dl3dv", tmp_path).frames[0]
    assert frame.intrinsics is not None
    image = frame.read().image.astype(float)
    rays = np.linalg.inv(frame.intrinsics) @ np.stack([columns, rows, np.ones_like(rows)]).reshape(3, -1)
    wanted = (128 + 90 * rays[:2]).reshape(2, height, width)
    for channel in range(2):
        error = image[..., channel] - wanted[channel]
        assert np.abs(error).max() < 1.5  # two roundings
        assert abs(error.mean()) < 0.1  # half a pixel would be 0.3
    assert np.abs(picture[..., 0] - wanted[0]).max() > 3  # and it was needed
    assert image[..., 2].min() == 200  # no pixel without a colour
    assert f <= frame.intrinsics[0, 0] < 1.1 * f
    assert (frame.intrinsics[0, 0] > f) == (k1 > 0)  # only a lens that pulls its corners in lacks something there


def test_dl3dv_of_another_lens_is_refused(room: Room, tmp_path: Path):
    dl3dv(room, tmp_path)
    file = next(tmp_path.rglob("transforms.json"))
    record = json.loads(file.read_text())
    write(file, json.dumps({**record, "camera_model": "OPENCV_FISHEYE"}))
    assert "OPENCV_FISHEYE" in failures("dl3dv", tmp_path)[0]
    write(file, json.dumps({**record, "k1": 5.0}))
    assert "distorts too much" in failures("dl3dv", tmp_path)[0]
    write(file, json.dumps({**record, "w": 100}))
    assert "64 x 48" in failures("dl3dv", tmp_path)[0]


def test_tartanair_pictures_of_another_size_are_refused(room: Room, tmp_path: Path):
    tartanair(room, tmp_path)
    save(next(tmp_path.rglob("000000_left.png")), room.images[0])
    assert "640 x 480" in failures("tartanair", tmp_path)[0]


def test_tartanair_pictures_without_a_pose_are_named(room: Room, tmp_path: Path):
    tartanair(room, tmp_path)
    file = next(tmp_path.rglob("pose_left.txt"))
    file.write_text("\n".join(file.read_text().splitlines()[:2]))
    assert "000002_left.png" in failures("tartanair", tmp_path)[0]


def test_hypersim_needs_the_table_of_cameras(room: Room, tmp_path: Path):
    hypersim(room, tmp_path)
    (tmp_path / "metadata_camera_parameters.csv").unlink()
    with pytest.raises(ValueError, match=r"metadata_camera_parameters\.csv"):
        READERS["hypersim"](tmp_path)


def tilted(lens_shift: float, horizontal_shift: float = 0.0) -> np.ndarray:
    """A lens with shifts and offsets, by the equations of the official dataset_generate_camera_parameters_metadata.py."""
    x = 0.577 / np.sqrt(1 + horizontal_shift**2)
    y = 0.577 / np.sqrt(1 + lens_shift**2)
    offset_x, offset_y = -0.12 * x, 0.16 * y
    return np.array(
        [
            [x, 0, offset_x],
            [0, 0.75 * y, offset_y],
            [
                -horizontal_shift * x,
                -lens_shift * 0.75 * y,
                -1 - lens_shift * offset_y - horizontal_shift * offset_x,
            ],
        ]
    )


AI_038_009 = np.array(  # as published: tilted by 22 degrees, and off the middle
    [
        [0.6088745353317421, 0, -0.04870996173778685],
        [0, 0.42281668362380326, -0.11275110051191127],
        [0, -0.17251279495462457, -1.0546015951381162],
    ]
)


@pytest.mark.parametrize("rays", [tilted(lens_shift=-0.2), AI_038_009])
def test_a_tilted_hypersim_lens_is_a_camera_that_looks_elsewhere(rays: np.ndarray, room: Room, tmp_path: Path):
    """Every pixel's ray is the one that the official table gives, and pixels are square."""
    hypersim(room, tmp_path, rays)
    for frame, pose in zip(read("hypersim", tmp_path).frames, room.poses, strict=True):
        assert frame.intrinsics is not None
        assert frame.pose is not None
        for x, y in ((0.5, 0.5), (1023.5, 0.5), (0.5, 767.5), (1000, 700), (512, 384)):
            official = pose[:3, :3] * [1, -1, -1] @ rays @ [2 * x / 1024 - 1, 1 - 2 * y / 768, 1]
            found = frame.pose[:3, :3] @ np.linalg.inv(frame.intrinsics) @ [x, y, 1]
            np.testing.assert_allclose(found / np.linalg.norm(found), official / np.linalg.norm(official), atol=1e-6)
        np.testing.assert_allclose(frame.pose[:3, 3], pose[:3, 3], atol=1e-6)
        assert frame.intrinsics[0, 0] == pytest.approx(frame.intrinsics[1, 1], rel=1e-6)


def test_a_hypersim_lens_tilted_both_ways_is_refused(room: Room, tmp_path: Path):
    hypersim(room, tmp_path, tilted(lens_shift=-0.2, horizontal_shift=0.3))
    assert "ai_001_001" in failures("hypersim", tmp_path)[0]
