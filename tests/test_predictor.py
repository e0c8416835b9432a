import numpy as np
import pytest
import torch
from builders import small_config
from PIL import Image

from g2vlm import presets
from g2vlm.conversation import Turn
from g2vlm.geometry.pose import invert, transform
from g2vlm.model import G2VLM
from g2vlm.pictures import Photo
from g2vlm.predictor import Predictor
from g2vlm.processor import Processor, byte_tokenizer
from g2vlm.speaking import Speaker


def predictor(**options) -> Predictor:
    torch.manual_seed(0)
    tokens = presets.tiny().tokens
    config = small_config(text={"vocab_size": 320}, tokens=tokens, **options)
    processor = Processor(byte_tokenizer(tokens), tokens)
    return Predictor(G2VLM(config), processor, source="test", checkpoint_sha256="0" * 64)


def photo(height: int, width: int, seed: int = 0) -> Photo:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Photo(f"{seed}.png", values)


def test_the_first_view_is_the_world():
    room = predictor().reconstruct([photo(32, 40, seed) for seed in range(3)])
    np.testing.assert_allclose(room.poses[0], np.eye(4), atol=1e-6)
    assert np.abs(room.poses[1] - np.eye(4)).max() > 1e-4
    assert room.scale == "scale_free"


def test_points_poses_and_depth_say_the_same():
    room = predictor().reconstruct([photo(32, 40, seed) for seed in range(2)])
    for points, pose, depth in zip(room.points, room.poses, room.depth, strict=True):
        local = transform(invert(torch.from_numpy(pose)), torch.from_numpy(points))
        np.testing.assert_allclose(local[..., 2], depth, atol=1e-5)


def test_photos_of_different_sizes_keep_their_own_shape():
    room = predictor().reconstruct([photo(32, 64), photo(64, 32), photo(40, 40)])
    assert [depth.shape for depth in room.depth] == [(8, 16), (16, 8), (16, 16)]
    assert room.original_sizes == ((32, 64), (64, 32), (40, 40))
    assert [image.shape[:2] for image in room.images] == [depth.shape for depth in room.depth]


def test_intrinsics_are_in_pixels_of_the_original_photo():
    small, large = (predictor().reconstruct([photo(16 * n, 16 * n)], resolution=16) for n in (1, 10))
    assert large.intrinsics[0, 0, 2] == pytest.approx(80)
    assert small.intrinsics[0, 0, 2] == pytest.approx(8)


def test_the_focal_length_of_a_pinhole_point_map_is_found():
    model = predictor()
    offsets = (torch.arange(4) + 0.5 - 2) / 8  # one 4 x 4 patch is the whole view: rays of focal length 8
    raw = torch.stack([offsets.expand(4, 4), offsets[:, None].expand(4, 4), torch.zeros(4, 4)])
    with torch.no_grad():
        model.model.heads.points.proj.weight.zero_()
        model.model.heads.points.proj.bias.copy_(raw.flatten())
    room = model.reconstruct([photo(40, 40)], resolution=4)
    np.testing.assert_allclose(room.intrinsics[0], [[80, 0, 20], [0, 80, 20], [0, 0, 1]], rtol=1e-4)
    assert room.intrinsics_error[0] == pytest.approx(0, abs=1e-4)


def test_the_same_photos_give_the_same_result_twice():
    model, photos = predictor(), [photo(32, 40, seed) for seed in range(2)]
    first, second = model.reconstruct(photos), model.reconstruct(photos)
    assert all(np.array_equal(a, b) for a, b in zip(first.points, second.points, strict=True))
    assert np.array_equal(first.poses, second.poses)


def test_paths_pictures_and_photos_are_all_taken(tmp_path):
    shot = photo(32, 40)
    Image.fromarray(shot.rgb).save(tmp_path / "shot.png")
    model = predictor()
    results = [model.reconstruct([source]) for source in (shot, tmp_path / "shot.png", Image.fromarray(shot.rgb))]
    assert all(np.array_equal(results[0].depth[0], other.depth[0]) for other in results[1:])


def test_a_model_without_extra_heads_still_gives_normals_and_full_confidence():
    heads = {"global_points": False, "confidence": False, "normals": False}
    room = predictor(heads=heads).reconstruct([photo(32, 40)])
    assert (room.confidence[0] == 1).all()
    length = np.linalg.norm(room.normals[0], axis=-1)
    assert np.all((np.abs(length - 1) < 1e-4) | (length == 0))


def test_no_photo_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        predictor().reconstruct([])


def test_the_result_says_where_it_comes_from():
    provenance = predictor().reconstruct([photo(32, 40)], seed=7).provenance
    assert provenance.model == "test"
    assert provenance.checkpoint_sha256 == "0" * 64
    assert provenance.settings["seed"] == 7
    assert set(provenance.versions) == {"g2vlm", "torch", "transformers"}
    assert provenance.seconds["model"] > 0


def test_blind_answers_are_those_to_the_words_alone_and_do_not_depend_on_the_batch():
    model = predictor()
    questions = ["How many?", "How large is the chair, in metres?"]
    together = model.answer_blindly(questions, max_new_tokens=6)
    assert together == [model.answer_blindly([words], max_new_tokens=6)[0] for words in questions]


def test_blind_answers_are_the_likeliest_words_after_the_question():
    model = predictor()
    turns = (Turn("system", ("Be brief.",)), Turn("user", ("How many?",)))
    ids = model.processor.conversation_ids(turns)
    speaker = Speaker(model.model, model.processor, None).model
    for _ in range(4):
        ids = torch.cat([ids, speaker(input_ids=ids[None]).logits[0, -1:].argmax(-1)])
    wanted = model.processor.tokenizer.decode(ids[-4:], skip_special_tokens=True)
    assert model.answer_blindly(["How many?"], system="Be brief.", max_new_tokens=4) == [wanted]
