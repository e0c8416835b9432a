"""Scenes come out of shards as they went in; cut shards, bad scenes and interruptions cost what they touch, no more."""

import io
import json
import pickle
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from g2vlm.data.recon import DEPTH_CODINGS, DepthFile, File, Frame, Scene, pinhole
from g2vlm.data.samples import BadSample
from g2vlm.data.sampling import usable_counts
from g2vlm.data.shards import encoded_depth, read_shards, write_shards

SIZE = (48, 64)


@pytest.fixture
def scene(room, tmp_path):
    """A function that writes the room under a name and gives its scene; the second frame has no depth."""

    def scene(name: str, **changes) -> Scene:
        folder = tmp_path / "files" / name
        folder.mkdir(parents=True)
        frames = []
        for view in range(3):
            Image.fromarray(room.images[view]).save(folder / f"{view}.jpg", quality=95)
            Image.fromarray((room.depth[view] * 1000).astype(np.uint16)).save(folder / f"{view}.png")
            depth = DepthFile(File(folder / f"{view}.png"), "png16", 0.001)
            file = File(folder / f"{view}.jpg")
            frames.append(
                Frame(f"{name}/{view}", file, room.intrinsics, room.poses[view], None if view == 1 else depth)
            )
        return Scene(name, tuple(frames), **{"is_metric": True, "source": "us", "licence": "MIT", **changes})

    return scene


def assert_same(a: Scene, b: Scene):
    assert [(f.name, f.depth is None) for f in a.frames] == [(f.name, f.depth is None) for f in b.frames]
    assert replace(a, frames=b.frames) == b
    for ours, theirs in zip(a.frames, b.frames, strict=True):
        assert np.array_equal(ours.pose, theirs.pose)
        assert np.array_equal(ours.intrinsics, theirs.intrinsics)
        assert np.array_equal(ours.read().image, theirs.read().image)
        assert ours.depth is None or np.array_equal(ours.read().depth, theirs.read().depth)


def break_picture(scene: Scene, view: int):
    scene.frames[view].image.path.write_bytes(b"no picture")


# ---- there and back


def test_scenes_come_back_as_they_were(scene, tmp_path):
    scenes = [scene("a"), scene("b", is_metric=False, is_sequence=False, has_fine_depth=False)]
    report = write_shards(iter(scenes), tmp_path / "out")
    assert (report.num_scenes, report.num_frames, report.num_bad_scenes, report.bad) == (2, 6, 0, ())
    shards = read_shards(tmp_path / "out")
    assert len(shards) == 2
    assert shards.damaged == ()
    for ours, theirs in zip(shards, scenes, strict=True):
        assert_same(ours, theirs)
    assert [scene.name for scene in shards[1:]] == ["b"]
    assert pickle.loads(pickle.dumps(shards))[-1].name == "b"


def test_pictures_and_plain_depth_keep_their_bytes(scene, tmp_path):
    one = scene("a")
    write_shards(iter([one]), tmp_path / "out")
    (ours,) = read_shards(tmp_path / "out")
    assert ours.frames[0].image.read() == one.frames[0].image.read()
    assert ours.frames[0].depth.file.read() == one.frames[0].depth.file.read()


def test_a_shard_is_a_tar_with_one_key_per_scene(scene, tmp_path):
    write_shards(iter([scene("a"), scene("house 1.b/c")]), tmp_path / "out")
    with tarfile.open(tmp_path / "out/shard-000000.tar") as tar:
        names = tar.getnames()
        facts = json.load(tar.extractfile("a.scene.json"))
    assert names[:6] == [
        "a.0000.jpg",
        "a.0000.depth.png",
        "a.0001.jpg",
        "a.0002.jpg",
        "a.0002.depth.png",
        "a.scene.json",
    ]
    assert {name.split(".")[0] for name in names} == {"a", "house_1_b_c"}
    assert facts["licence"] == "MIT"
    assert read_shards(tmp_path / "out")[1].name == "house 1.b/c"


def test_depth_of_another_camera_is_stored_at_the_pixels_of_the_picture(scene, tmp_path):
    one = scene("a")
    frame = one.frames[0]
    depth = replace(frame.depth, intrinsics=frame.intrinsics * [[0.9], [0.9], [1]], measures="ray")
    one = replace(one, frames=(replace(frame, depth=depth),))
    write_shards(iter([one]), tmp_path / "out")
    (ours,) = read_shards(tmp_path / "out")
    assert ours.frames[0].depth.intrinsics is None
    np.testing.assert_allclose(ours.frames[0].read().depth, one.frames[0].read().depth, rtol=1e-3)


def test_pictures_of_other_formats_become_png(scene, tmp_path):
    one = scene("a")
    path = one.frames[0].image.path.with_suffix(".bmp")
    Image.open(one.frames[0].image.path).save(path)
    one = replace(one, frames=(replace(one.frames[0], image=File(path)),))
    write_shards(iter([one]), tmp_path / "out")
    (ours,) = read_shards(tmp_path / "out")
    assert ours.frames[0].image.suffix == ".png"
    assert np.array_equal(ours.frames[0].read().image, one.frames[0].read().image)


@pytest.mark.parametrize(("near", "coding"), [(0.5, "png16"), (0.001, "png_half")])
def test_depth_keeps_a_thousandth_of_its_nearest_value(near, coding):
    depth = np.geomspace(near, 40, 600).reshape(20, 30).astype(np.float32)
    depth[3, 4] = 0
    content, chosen, unit = encoded_depth(depth)
    assert chosen == coding
    assert Image.open(io.BytesIO(content)).mode == "I;16"
    back = DEPTH_CODINGS[chosen](content) * np.float32(unit)
    assert back[3, 4] == 0
    np.testing.assert_allclose(back, depth, rtol=1e-3)
    if coding == "png16":
        assert DEPTH_CODINGS[chosen](content).max() == 65535


def test_shards_are_closed_at_their_size_and_a_scene_is_never_split(scene, tmp_path):
    scenes = [scene(name) for name in "abcde"]
    write_shards(iter(scenes[:1]), tmp_path / "one")
    size = (tmp_path / "one/shard-000000.tar").stat().st_size
    write_shards(iter(scenes), tmp_path / "out", max_bytes=size + 1000)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tar")) == [f"shard-00000{i}.tar" for i in range(3)]
    assert [scene.name for scene in read_shards(tmp_path / "out")] == list("abcde")


def test_the_index_counts_frames_as_sampling_does(scene, tmp_path):
    bare = replace(scene("bare"), frames=tuple(Frame(f.name, f.image) for f in scene("c").frames))
    write_shards(iter([scene("a"), bare, scene("b")]), tmp_path / "out")
    shards = read_shards(tmp_path / "out")
    assert shards.counts == [(2, 3), (0, 0), (2, 3)] == usable_counts(shards)


# ---- cut and lost shards


def cut(path, keep: float):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def test_a_cut_shard_is_one_line_and_whole_scenes_stay(scene, tmp_path):
    write_shards(iter([scene("a"), scene("b"), scene("c")]), tmp_path / "out", max_bytes=30_000)
    shards = sorted((tmp_path / "out").glob("*.tar"))
    assert len(shards) == 2
    cut(shards[0], 0.7)
    opened = read_shards(tmp_path / "out")
    assert [scene.name for scene in opened] == ["a", "c"]
    assert len(opened.damaged) == 1
    assert "shard-000000.tar" in opened.damaged[0]
    assert "1 of its 2 scenes are lost" in opened.damaged[0]
    opened[0].frames[2].read()
    shards[1].unlink()
    assert len(read_shards(tmp_path / "out").damaged) == 2


def test_a_shard_that_is_cut_while_it_is_open_names_shard_and_member(scene, tmp_path):
    write_shards(iter([scene("a")]), tmp_path / "out")
    opened = read_shards(tmp_path / "out")
    frame = opened[0].frames[2]
    cut(tmp_path / "out/shard-000000.tar", 0.5)
    with pytest.raises(BadSample, match=r"shard-000000\.tar: a\.0002\.jpg: .* cut off"):
        frame.read()
    with pytest.raises(BadSample, match=r"shard-000000\.tar: a\.scene\.json: 0 of"):
        opened[0]


def test_a_folder_without_index_or_with_a_broken_one_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no index\.json; name a folder"):
        read_shards(tmp_path)
    (tmp_path / "index.json").write_text('{"shards": ')
    with pytest.raises(ValueError, match=r"index\.json: is no index of shards .*; delete it"):
        read_shards(tmp_path)


# ---- bad scenes, and interruptions


def test_a_bad_frame_is_left_out_and_named(scene, tmp_path):
    one = scene("a")
    break_picture(one, 1)
    report = write_shards(iter([one]), tmp_path / "out")
    assert report.num_bad_scenes == 0
    assert len(report.bad) == 1
    assert "1.jpg: not a JPEG" in report.bad[0]
    assert [frame.name for frame in read_shards(tmp_path / "out")[0].frames] == ["a/0", "a/2"]


def test_a_scene_of_bad_frames_leaves_no_trace_in_the_shard(scene, tmp_path):
    scenes = [scene(name) for name in "abc"]
    for view in (1, 2):
        break_picture(scenes[1], view)
    report = write_shards(iter(scenes), tmp_path / "out")
    assert (report.num_scenes, report.num_bad_scenes) == (2, 1)
    assert "b: 2 of 3 frames are bad" in report.bad[0]
    with tarfile.open(tmp_path / "out/shard-000000.tar") as tar:
        assert {name.split(".")[0] for name in tar.getnames()} == {"a", "c"}
    assert [scene.name for scene in read_shards(tmp_path / "out")] == ["a", "c"]
    read_shards(tmp_path / "out")[1].frames[2].read()


def test_a_bad_scene_at_the_end_leaves_the_shard_whole(scene, tmp_path):
    scenes = [scene("a"), scene("b")]
    for view in (1, 2):
        break_picture(scenes[1], view)
    write_shards(iter(scenes), tmp_path / "out")
    assert read_shards(tmp_path / "out").damaged == ()


def test_two_scenes_of_one_name_are_not_mixed(scene, tmp_path):
    report = write_shards(iter([scene("a b"), scene("c"), scene("a_b")]), tmp_path / "out")
    assert (report.num_scenes, report.num_bad_scenes) == (2, 1)
    assert "a_b: a scene named a_b was there before" in report.bad[0]


def test_mostly_bad_scenes_stop_the_conversion(scene, tmp_path):
    one, tried = scene("good"), []

    def read(number):
        tried.append(number)
        if number % 4:
            raise BadSample(f"scene {number}: no poses")
        return replace(one, name=f"good{number}")

    with pytest.raises(ValueError, match=r"8 of the first 10 scenes are bad.* scene 1: no poses") as stop:
        write_shards(map(read, range(1, 1000)), tmp_path / "out")
    assert not isinstance(stop.value, BadSample)
    assert len(tried) == 10
    with pytest.raises(ValueError, match="2 of 3 scenes are bad"):
        write_shards(map(read, [1, 2, 4]), tmp_path / "few")
    assert [scene.name for scene in read_shards(tmp_path / "few")] == ["good4"]


def test_an_interrupted_conversion_keeps_finished_shards_and_goes_on(scene, tmp_path):
    scenes = [scene(name) for name in "abcde"]

    def interrupted():
        yield from scenes[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(interrupted(), tmp_path / "out", max_bytes=30_000)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.json", "shard-000000.tar"]
    kept = (tmp_path / "out/shard-000000.tar").read_bytes()
    assert [scene.name for scene in read_shards(tmp_path / "out")] == ["a", "b"]
    report = write_shards(iter(scenes), tmp_path / "out", max_bytes=30_000)
    assert (report.num_kept, report.num_scenes) == (2, 3)
    assert (tmp_path / "out/shard-000000.tar").read_bytes() == kept
    assert [scene.name for scene in read_shards(tmp_path / "out")] == list("abcde")


def test_scenes_of_a_cut_shard_are_written_again(scene, tmp_path):
    scenes = [scene(name) for name in "abc"]
    write_shards(iter(scenes), tmp_path / "out", max_bytes=30_000)
    cut(tmp_path / "out/shard-000000.tar", 0.9)
    report = write_shards(iter(scenes), tmp_path / "out", max_bytes=30_000)
    assert (report.num_kept, report.num_scenes) == (1, 2)
    opened = read_shards(tmp_path / "out")
    assert opened.damaged == ()
    assert sorted(scene.name for scene in opened) == list("abc")


def test_a_full_disk_leaves_finished_shards_and_names_the_file(scene, tmp_path, monkeypatch):
    """The second shard meets the end of the disk."""
    import errno

    from g2vlm.data import shards

    write = shards._Shard._append

    def full(self, member, content):
        if self.path.name == "shard-000001.tar":
            with shards.naming(self.path):
                raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, member, content)

    monkeypatch.setattr(shards._Shard, "_append", full)
    with pytest.raises(OSError, match=r"No space left.*shard-000001\.tar"):
        write_shards(iter([scene(name) for name in "abc"]), tmp_path / "out", max_bytes=30_000)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.json", "shard-000000.tar"]
    assert [scene.name for scene in read_shards(tmp_path / "out")] == ["a", "b"]


def test_a_limit_counts_the_scenes_that_were_kept(scene, tmp_path):
    scenes = [scene(name) for name in "abc"]
    write_shards(iter(scenes), tmp_path / "out", limit=1)
    report = write_shards(iter(scenes), tmp_path / "out", limit=2)
    assert (report.num_kept, report.num_scenes) == (1, 1)


def test_a_scene_without_truth_goes_through(scene, tmp_path):
    one = scene("a")
    bare = replace(one, frames=tuple(Frame(f.name, f.image) for f in one.frames))
    write_shards(iter([bare]), tmp_path / "out")
    (ours,) = read_shards(tmp_path / "out")
    assert (ours.frames[0].pose, ours.frames[0].intrinsics, ours.frames[0].depth) == (None, None, None)


def test_a_shard_holds_no_pose_that_is_none(scene, tmp_path):
    """What was damaged on disk is refused when the scene is opened."""
    write_shards(iter([scene("a")]), tmp_path / "out")
    path = tmp_path / "out/shard-000000.tar"
    content = path.read_bytes()
    at = content.index(b'"pose": [[') + len(b'"pose": [[')
    path.write_bytes(content[:at] + b"99" + content[at + 2 :])
    with pytest.raises(BadSample, match="not a rotation"):
        read_shards(tmp_path / "out")[0]
    path.write_bytes(content.replace(b'"pose": [[', b'"pose"  [['))
    with pytest.raises(BadSample, match=r"a\.scene\.json: is damaged"):
        read_shards(tmp_path / "out")[0]


def test_intrinsics_are_kept_to_the_last_digit(scene, tmp_path):
    one = scene("a")
    odd = pinhole(np.pi * 10, np.e * 10, 32 + 1 / 3, 24 + 1 / 7)
    one = replace(one, frames=tuple(replace(frame, intrinsics=odd) for frame in one.frames))
    write_shards(iter([one]), tmp_path / "out")
    assert np.array_equal(read_shards(tmp_path / "out")[0].frames[0].intrinsics, odd)
