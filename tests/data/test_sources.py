import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from g2vlm import presets
from g2vlm.data import sources
from g2vlm.data.augment import Augmentation
from g2vlm.data.readers.scene_json import scenes
from g2vlm.data.recon import DepthFile, File, Frame, Scene, pinhole
from g2vlm.data.samples import BadSample, Bucket, Sample
from g2vlm.data.sampling import FrameChoice
from g2vlm.data.scenes import TRAIN_SEEDS, rooms
from g2vlm.data.sources import QuestionSource, RoomQuestionSource, RoomSource, SceneSource, TextSource
from g2vlm.geometry.camera import unproject
from g2vlm.geometry.pose import transform
from g2vlm.layout import Picture, Text, ViewBlock, segments_of
from g2vlm.processor import Processor, byte_tokenizer
from g2vlm.records import IGNORE

TOKENS = presets.tiny().tokens
PATCH = 14
BUCKET = Bucket(3, 42, 56)
PLAIN = Augmentation(crop=0, focal=1.0, colour=0)


@pytest.fixture(scope="module")
def processor() -> Processor:
    return Processor(byte_tokenizer(TOKENS), TOKENS)


def world_points(sample: Sample) -> torch.Tensor:
    views = sample.views
    return transform(views.poses, unproject(views.depth, views.intrinsics))


def labelled_text(sample: Sample) -> str:
    """The answer in the labels, without the token that ends it."""
    learnt = sample.labels[sample.labels != IGNORE].tolist()
    assert learnt[-1] == TOKENS.eos
    return bytes(learnt[:-1]).decode()


# Rooms


def test_a_room_is_drawn_at_the_size_asked_for_with_all_its_truth(processor):
    source = RoomSource(processor, PATCH)
    sample = source.sample(random.Random(0), BUCKET)
    assert sample.views.images.shape == (3, 3, 42, 56)
    assert sample.views.depth.shape == sample.views.mask.shape == (3, 42, 56)
    assert sample.has_geometry
    assert sample.labels is None
    assert torch.equal(sample.ids, processor.reconstruction_ids([(3, 4)] * 3)[0])
    assert source.num_tokens(BUCKET) == len(sample.ids)


def test_a_room_follows_the_draw_and_its_name_tells_which(processor):
    source = RoomSource(processor, PATCH)
    one, same, other = (source.sample(random.Random(seed), BUCKET) for seed in (1, 1, 2))
    assert one.name == same.name != other.name
    assert torch.equal(one.views.images, same.views.images)
    seed = int(one.name.split()[-1])
    assert seed in TRAIN_SEEDS
    assert torch.equal(one.views.depth, rooms([seed], num_views=3, height=42, width=56).views.depth[0])


def test_rooms_can_be_seen_through_other_lenses(processor):
    source = RoomSource(processor, PATCH, fields_of_view=(30.0, 40.0))
    focal = torch.stack([source.sample(random.Random(i), BUCKET).views.intrinsics[0, 0, 0] for i in range(8)])
    angles = torch.rad2deg(2 * torch.atan(56 / 2 / focal))
    assert angles.min() >= 30
    assert angles.max() <= 40
    assert angles.max() > angles.min() + 1


# Scenes on disk


def frames_of_a_wall(folder: Path, count: int = 6, **missing: None) -> tuple[Frame, ...]:
    """Cameras that move to the right before the wall z = 2; red tells where on the wall a pixel looks."""
    frames = []
    for i in range(count):
        focal, height, width = 100.0, 96, 128
        x = (np.arange(width) + 0.5 - width / 2) / focal * 2 + 0.1 * i
        red = np.broadcast_to((x + 2) / 4 * 255, (height, width)).round().astype(np.uint8)
        image, depth = folder / f"{i}.png", folder / f"{i}.npy"
        Image.fromarray(np.stack([red] * 3, axis=-1)).save(image)
        np.save(depth, np.full((height, width), 2.0, dtype=np.float32))
        pose = np.eye(4)
        pose[:3, 3] = (0.1 * i + 5e5, 0, 0)
        frame = Frame(
            f"{i}.png", File(image), pinhole(focal, focal, width / 2, height / 2), pose, DepthFile(File(depth), "npy")
        )
        frames.append(replace(frame, **missing))
    return tuple(frames)


def scene(frames: tuple[Frame, ...], name: str = "wall", **options: bool) -> Scene:
    return Scene(name, frames, **{"is_metric": True, "source": "test", "licence": "CC0", **options})


def test_a_scene_keeps_its_points_through_crop_zoom_and_far_away_origin(tmp_path, processor):
    source = SceneSource(
        "walls", [scene(frames_of_a_wall(tmp_path))], processor, PATCH, augmentation=Augmentation(colour=0)
    )
    sample = source.sample(random.Random(0), BUCKET)
    assert sample.views.images.shape == (3, 3, 42, 56)
    assert torch.equal(sample.views.poses[0], torch.eye(4))
    points = world_points(sample)
    torch.testing.assert_close(points[..., 2], torch.full((3, 42, 56), 2.0))
    first = int(sample.name.split("(")[1].split(".png")[0])
    told = sample.views.images[:, 0] * 4 - 2
    torch.testing.assert_close(told, points[..., 0] + 0.1 * first, atol=0.05, rtol=0)
    assert source.num_tokens(BUCKET) == len(sample.ids)


def test_scenes_without_depth_keep_their_poses(tmp_path, processor):
    source = SceneSource("walls", [scene(frames_of_a_wall(tmp_path, depth=None))], processor, PATCH)
    assert source.num_views == (2, 6)
    sample = source.sample(random.Random(0), BUCKET)
    assert sample.views.depth is None
    assert sample.views.poses is not None
    assert sample.has_geometry


def test_pictures_with_depth_alone_are_shown_one_at_a_time(tmp_path, processor):
    source = SceneSource("walls", [scene(frames_of_a_wall(tmp_path, pose=None))], processor, PATCH)
    assert source.num_views == (1, 1)
    sample = source.sample(random.Random(0), Bucket(1, 42, 56))
    assert sample.views.depth.shape == (1, 42, 56)
    assert torch.equal(sample.views.poses, torch.eye(4)[None])
    assert sample.has_geometry


def test_scenes_are_drawn_for_the_number_of_views_they_have(tmp_path, processor):
    frames = frames_of_a_wall(tmp_path)
    sets = [scene(frames[:2], "pair"), scene(frames, "six"), scene(frames_of_a_wall(tmp_path, 1, pose=None), "single")]
    source = SceneSource("walls", sets, processor, PATCH)
    assert source.num_views == (1, 6)

    def drawn(num_views: int) -> set[str]:
        bucket = Bucket(num_views, 42, 56)
        return {source.sample(random.Random(i), bucket).name.split()[1] for i in range(30)}

    assert drawn(1) == {"pair", "six", "single"}
    assert drawn(2) == {"pair", "six"}
    assert drawn(6) == {"six"}


def test_scenes_counted_beforehand_are_not_read_before_they_are_drawn(tmp_path, processor):
    class Watched(list):
        num_read = 0

        def __getitem__(self, i):
            self.num_read += 1
            return super().__getitem__(i)

    sets = Watched([scene(frames_of_a_wall(tmp_path))] * 3)
    source = SceneSource("walls", sets, processor, PATCH, counts=[(6, 6)] * 3)
    assert source.num_views == (1, 6)
    assert sets.num_read == 0
    source.sample(random.Random(0), BUCKET)
    assert sets.num_read == 1


def test_depth_far_away_is_unknown_in_metric_scenes(tmp_path, processor):
    frames = frames_of_a_wall(tmp_path)
    source = SceneSource("walls", [scene(frames)], processor, PATCH, max_depth=1.5)
    assert source.sample(random.Random(0), BUCKET).views.depth is None
    with pytest.raises(BadSample, match=r"wall .*no depth"):
        source.sample(random.Random(0), Bucket(1, 42, 56))
    arbitrary = SceneSource("walls", [scene(frames, is_metric=False)], processor, PATCH, max_depth=1.5)
    assert arbitrary.sample(random.Random(0), BUCKET).views.mask.all()


def test_frames_are_redrawn_until_they_overlap_as_wanted(tmp_path, processor):
    frames = frames_of_a_wall(tmp_path, 12)
    # At the wall a picture is 2.56 m wide: neighbours share 96 %, the first and the last 57 %.
    close = SceneSource("walls", [scene(frames)], processor, PATCH, FrameChoice(overlap=(0.75, 1.0)), PLAIN)
    for seed in range(8):
        views = close.sample(random.Random(seed), Bucket(2, 42, 56)).views
        assert views.poses[1, 0, 3].abs() < 0.65
    apart = SceneSource("walls", [scene(frames)], processor, PATCH, FrameChoice(overlap=(0.0, 0.3)), PLAIN)
    with pytest.raises(BadSample, match=r"wall.*overlap"):
        apart.sample(random.Random(0), BUCKET)


def test_a_damaged_file_is_a_bad_sample_that_names_it(tmp_path, processor):
    frames = frames_of_a_wall(tmp_path, 3)
    source = SceneSource("walls", [scene(frames)], processor, PATCH)
    depth = np.full((96, 128), 2.0, dtype=np.float32)
    depth[3, 4] = np.nan
    np.save(tmp_path / "1.npy", depth)
    with pytest.raises(BadSample, match=r"1\.npy.*NaN"):
        source.sample(random.Random(0), BUCKET)
    np.save(tmp_path / "1.npy", depth[:50])
    with pytest.raises(BadSample, match=r"1\.npy"):
        source.sample(random.Random(0), BUCKET)
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:40])
    with pytest.raises(BadSample, match=r"1\.png"):
        source.sample(random.Random(0), BUCKET)


def test_a_scene_that_cannot_be_read_is_met_as_a_bad_sample(tmp_path, processor):
    class Damaged(list):
        def __getitem__(self, i):
            if i == 1:
                raise BadSample("shard 1 was cut off")
            return super().__getitem__(i)

    source = SceneSource("walls", Damaged([scene(frames_of_a_wall(tmp_path))] * 2), processor, PATCH)
    told = []
    for seed in range(10):
        try:
            source.sample(random.Random(seed), BUCKET)
        except BadSample as error:
            told.append(str(error))
    assert 0 < len(told) < 10
    assert set(told) == {"shard 1 was cut off"}


@pytest.mark.parametrize("sets", [[], ["nothing known"]])
def test_an_empty_set_is_refused(sets, tmp_path, processor):
    known = [scene(frames_of_a_wall(tmp_path, pose=None, depth=None), name) for name in sets]
    with pytest.raises(ValueError, match=f"walls: none of {len(sets)} scenes"):
        SceneSource("walls", known, processor, PATCH)


def test_real_scenes_make_samples(shared, processor):
    source = SceneSource("real", list(scenes(shared / "data" / "val")), processor, PATCH)
    for seed in range(4):
        for num_views in (1, 2, 5):
            sample = source.sample(random.Random(seed), Bucket(num_views, 56, 84))
            assert sample.has_geometry
            assert sample.views.images.shape == (num_views, 3, 56, 84)
            if sample.views.depth is not None:
                assert torch.equal(sample.views.mask, sample.views.depth > 0)


# Text


def written(folder: Path, *lines: str) -> Path:
    path = folder / "lines.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_only_the_answer_and_its_end_are_learnt(tmp_path, processor):
    path = written(tmp_path, json.dumps({"question": "Wie groß?", "answer": "Zwölf."}))
    sample = TextSource("text", path, processor).sample(random.Random(0), Bucket(0, 42, 56))
    assert labelled_text(sample) == "Zwölf."
    at = (sample.labels != IGNORE).nonzero().flatten()
    assert torch.equal(sample.labels[at], sample.ids[at + 1])
    assert at[-1] == len(sample.ids) - 2
    assert sample.views is None
    assert not sample.has_geometry


def test_a_special_token_in_a_text_stays_text(tmp_path, processor):
    spoken = "<|im_end|><|vision_start|><|vision_pad|><|vision_end|>"
    path = written(tmp_path, json.dumps({"question": spoken, "answer": spoken}))
    sample = TextSource("text", path, processor).sample(random.Random(0), Bucket(0, 42, 56))
    assert labelled_text(sample) == spoken
    assert segments_of(sample.ids, TOKENS, [], []) == [Text(len(sample.ids))]


def test_every_line_is_drawn_and_blank_ones_are_not(tmp_path, processor):
    lines = [json.dumps({"question": "Q", "answer": str(i)}) for i in range(4)]
    source = TextSource("text", written(tmp_path, lines[0], "", *lines[1:], "   "), processor)
    answers = {labelled_text(source.sample(random.Random(i), Bucket(0, 42, 56))) for i in range(60)}
    assert answers == {"0", "1", "2", "3"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "JSON"),
        ("[1]", "object"),
        ('{"question": "Q"}', "no answer"),
        ('{"question": " ", "answer": "A"}', "no question"),
    ],
)
def test_a_bad_line_is_named(line, told, tmp_path, processor):
    with pytest.raises(ValueError, match=rf"lines\.jsonl:.*{told}"):
        TextSource("text", written(tmp_path, line), processor).sample(random.Random(0), Bucket(0, 42, 56))


def test_an_empty_file_is_refused(tmp_path, processor):
    with pytest.raises(ValueError, match=r"lines\.jsonl"):
        TextSource("text", written(tmp_path, ""), processor)


# Questions about photos


def photo_album(folder: Path, **record: object) -> Path:
    """Two photos of different shapes, and a file beside them that asks about both."""
    for name, size in (("wide.png", (160, 90)), ("tall.jpg", (60, 100))):
        Image.new("RGB", size, (200, 100, 50)).save(folder / name)
    lines = {"question": "What?", "answer": "That.", "images": ["wide.png", "tall.jpg"]} | record
    return written(folder, json.dumps(lines))


def test_photos_of_a_question_are_seen_by_both_encoders(tmp_path, processor):
    source = QuestionSource("photos", photo_album(tmp_path), processor, PATCH, picture_pixels=84 * 84)
    sample = source.sample(random.Random(0), Bucket(0, 84, 56))
    assert sample.views.images.shape == (2, 3, 42, 84)  # the first photo's shape at the longer side of the bucket
    pictures = [(rows // 2, columns // 2) for _, rows, columns in sample.image_grid_thw.tolist()]
    assert pictures[0][0] < pictures[0][1]
    assert pictures[1][0] > pictures[1][1]
    assert all(rows * columns * 28 * 28 <= 84 * 84 for rows, columns in pictures)
    segments = segments_of(sample.ids, TOKENS, [(3, 6)] * 2, pictures)
    assert [type(segment) for segment in segments] == [Text, ViewBlock, Picture, Picture, Text]
    assert labelled_text(sample) == "That."
    assert not sample.has_geometry
    torch.testing.assert_close(sample.views.images[0, :, 5, 5], torch.tensor([200.0, 100, 50]) / 255)


@pytest.mark.parametrize(
    ("images", "told"),
    [(["gone.png"], r"gone\.png"), (["lines.jsonl"], r"lines\.jsonl"), ([], "no images"), ("wide.png", "no images")],
)
def test_photos_that_cannot_be_read_are_named(images, told, tmp_path, processor):
    source = QuestionSource("photos", photo_album(tmp_path, images=images), processor, PATCH)
    with pytest.raises(BadSample, match=told):
        source.sample(random.Random(0), Bucket(0, 84, 56))


# Questions about rooms


@pytest.mark.parametrize("bucket", [Bucket(2, 112, 84), Bucket(1, 42, 56), Bucket(3, 28, 112)])
def test_a_question_is_shown_to_both_encoders(bucket, processor):
    source = RoomQuestionSource(processor, PATCH)
    sample = source.sample(random.Random(4), bucket)
    assert len(sample.ids) <= source.num_tokens(bucket)
    pictures = [(rows // 2, columns // 2) for _, rows, columns in sample.image_grid_thw.tolist()]
    view = (bucket.height // PATCH, bucket.width // PATCH)
    context = sample.ids[: -sum(sample.branches)]
    before, block, *shown = segments_of(context, TOKENS, [view] * bucket.num_views, pictures)
    assert isinstance(before, Text)
    assert block == ViewBlock((view,) * bucket.num_views)
    assert shown == [Picture(grid) for grid in pictures]
    assert len(pictures) == bucket.num_views
    assert len(sample.pixel_values) == sum(4 * rows * columns for rows, columns in pictures)
    assert labelled_text(sample)
    assert sample.has_geometry


@pytest.mark.parametrize("inputs", [(), ("views",), ("pictures",)])
def test_a_question_comes_with_what_is_wanted(inputs, processor):
    sample = RoomQuestionSource(processor, PATCH, inputs=inputs).sample(random.Random(1), BUCKET)
    assert (sample.views is not None) == ("views" in inputs)
    assert (sample.pixel_values is not None) == ("pictures" in inputs)
    shown = {name for name in ("view_patch", "image_patch") if getattr(TOKENS, name) in sample.ids}
    assert shown == {{"views": "view_patch", "pictures": "image_patch"}[name] for name in inputs}


def test_pictures_come_once_more_for_the_encoder_of_a_pathway_and_without_marks(processor):
    inputs = ("pictures", "geometry")
    source = RoomQuestionSource(processor, 14, inputs=inputs, kinds=("depth_comparison",))
    sample = source.sample(random.Random(1), Bucket(3, 84, 112))
    assert sample.views is None
    assert sample.image_grid_thw.tolist() == [[1, 6, 8]] * 3
    assert [tuple(image.shape) for image in sample.geometry_images] == [(3, 84, 112)] * 3
    with_views = replace(source, inputs=("views", "pictures")).sample(random.Random(1), Bucket(3, 84, 112))
    assert torch.equal(torch.stack(sample.geometry_images), with_views.views.images)
    odd = replace(source, inputs=inputs).sample(random.Random(1), Bucket(3, 84, 98))
    grid = odd.image_grid_thw[0].tolist()
    assert tuple(odd.geometry_images[0].shape) == (3, 14 * grid[1], 14 * grid[2])


def branches_of(sample: Sample) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Ids and labels of each question of a sample."""
    assert sample.labels is not None
    lengths = [len(sample.ids) - sum(sample.branches), *sample.branches]
    return list(zip(sample.ids.split(lengths), sample.labels.split(lengths), strict=True))[1:]


def test_many_questions_share_a_room_and_one_of_them_may_have_marks(processor):
    source = RoomQuestionSource(processor, PATCH, questions=9)
    for seed in range(4):
        sample = source.sample(random.Random(seed), Bucket(3, 84, 112))
        texts = [bytes(ids[ids < 256].tolist()).decode() for ids, _ in branches_of(sample)]
        assert len(texts) == 9
        assert sum("A (red)" in text for text in texts) <= 1
        assert all((labels != IGNORE).any() for _, labels in branches_of(sample))
        assert all(length % 16 == 0 for length in sample.branches)


def test_short_questions_say_their_points_and_name_what_stands_there(processor):
    seed, bucket = 5, Bucket(2, 84, 112)
    sample = RoomQuestionSource(processor, PATCH, points=30, colour=0.0).sample(random.Random(seed), bucket)
    room = sources.random_room(random.Random(seed), bucket, TRAIN_SEEDS, None)
    names = {f"{thing.colour} {thing.class_name}" for thing in room.objects[0]}
    answers = Counter()
    for ids, labels in branches_of(sample)[1:]:
        asked = bytes(ids[labels == IGNORE][ids[labels == IGNORE] < 256].tolist()).decode()
        answer = bytes(labels[(labels != IGNORE) & (labels < 256)].tolist()).decode()
        assert asked.startswith("A (red) in view ")
        kind = "what" if "What is A?" in asked else "depth"
        assert answer in names if kind == "what" else 0 < float(answer) < 20
        answers[kind] += 1
    assert min(answers["what"], answers["depth"]) > 3


def test_what_was_measured_stands_before_an_answer_and_is_not_learnt(processor):
    sample = RoomQuestionSource(processor, PATCH, evidence=1.0).sample(random.Random(2), BUCKET)
    text = bytes(sample.ids[sample.ids < 256].tolist()).decode()
    assert "assistant\nMeasured:\n" in text
    assert "Measured" not in labelled_text(sample)
    assert text.index("Answer:\n") < text.rindex(labelled_text(sample))
