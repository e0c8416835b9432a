from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache
from transformers.models.qwen2_vl import Qwen2VLConfig, Qwen2VLForConditionalGeneration

from g2vlm.layout import Grid, Picture, Segment, Text, ViewBlock
from g2vlm.model import G2VLM
from g2vlm.records import Geometry
from tests.builders import TOKENS, left_padded, prompt, random_pictures, random_views, small_config, small_model

VIEW_GRIDS: tuple[Grid, ...] = ((2, 3), (3, 2), (2, 3))
PICTURE_GRIDS: tuple[Grid, ...] = ((2, 2), (1, 3))
CHAT = [Text(3), ViewBlock(VIEW_GRIDS), *[Picture(grid) for grid in PICTURE_GRIDS], Text(4)]
"""Views, pictures and words in one prompt."""


def chat() -> dict[str, Any]:
    return {"input_ids": prompt(*CHAT), "views": random_views(*VIEW_GRIDS), **random_pictures(*PICTURE_GRIDS)}


def two_chats() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Two prompts of different lengths with different numbers of views and pictures; and both as one batch."""
    single = [
        chat(),
        {
            "input_ids": prompt(Text(2), ViewBlock(((3, 2),)), Picture((2, 1)), Text(3), seed=1),
            "views": random_views((3, 2), seed=1),
            **random_pictures((2, 1), seed=1),
        },
    ]
    return single, {
        **left_padded([inputs["input_ids"] for inputs in single]),
        "views": [view for inputs in single for view in inputs["views"]],
        "pixel_values": torch.cat([inputs["pixel_values"] for inputs in single]),
        "image_grid_thw": torch.cat([inputs["image_grid_thw"] for inputs in single]),
    }


def close(a: object, b: object, atol: float = 2e-5) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=2e-5)


GREEDY = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}


def generate(model: G2VLM, inputs: dict[str, Any], **options: Any) -> Tensor:
    """The best six tokens, unless the options say otherwise, behind the prompt."""
    return model.generate(**inputs, **(GREEDY | options))  # pyright: ignore[reportAttributeAccessIssue]


# Stock Qwen2-VL

QWEN_NAMES = {
    "model.visual.": "vision.model.",
    "model.language_model.embed_tokens.": "embed_tokens.",
    "model.language_model.layers.": "decoder.layers.",
    "model.language_model.norm.": "decoder.norm.semantic.",
    "self_attn.q_proj.": "semantic.q.",
    "self_attn.k_proj.": "semantic.k.",
    "self_attn.v_proj.": "semantic.v.",
    "self_attn.o_proj.": "semantic.out.",
    "input_layernorm.": "semantic.norm_attn.",
    "post_attention_layernorm.": "semantic.norm_mlp.",
    "mlp.gate_proj.": "semantic.mlp.gate.",
    "mlp.up_proj.": "semantic.mlp.up.",
    "mlp.down_proj.": "semantic.mlp.down.",
}


def renamed(name: str) -> str:
    for theirs, ours in QWEN_NAMES.items():
        name = name.replace(theirs, ours)
    return name


@pytest.fixture(scope="module")
def qwen() -> Qwen2VLForConditionalGeneration:
    """transformers' own model at random weights."""
    config = small_config()
    torch.manual_seed(0)
    model = Qwen2VLForConditionalGeneration(
        Qwen2VLConfig(
            text_config=config.text_config.to_dict(),
            vision_config=config.vision_config.to_dict(),
            image_token_id=TOKENS.image_patch,
            video_token_id=TOKENS.view_patch,
            vision_start_token_id=TOKENS.vision_start,
            vision_end_token_id=TOKENS.vision_end,
        )
    ).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn_like(weight)
    return model


def with_weights_of(qwen: Qwen2VLForConditionalGeneration, **options: Any) -> G2VLM:
    model = small_model(small_config(semantic_qk_norm=False, **options))
    weights = {renamed(name): weight for name, weight in qwen.state_dict().items()}
    model.load_state_dict(model.state_dict() | weights, strict=True)
    return model


def qwen_inputs(*segments: Segment, seed: int = 0) -> dict[str, Tensor]:
    grids = [segment.grid for segment in segments if isinstance(segment, Picture)]
    return {"input_ids": prompt(*segments, seed=seed)} | (random_pictures(*grids, seed=seed) if grids else {})


def for_qwen(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return inputs | {"mm_token_type_ids": (inputs["input_ids"] == TOKENS.image_patch).int()}


WORDS = [Text(9)]
ONE_PICTURE = [Text(3), Picture((2, 3)), Text(5)]
TWO_PICTURES = [Picture((3, 1)), Text(2), Picture((2, 2)), Text(4)]


@torch.no_grad()
@pytest.mark.parametrize("segments", [WORDS, ONE_PICTURE, TWO_PICTURES], ids=["words", "one picture", "two pictures"])
def test_logits_equal_stock_qwen2_vl(qwen, segments):
    inputs = qwen_inputs(*segments)
    ours = with_weights_of(qwen, picture_attention="causal")(**inputs).logits
    theirs = qwen(**for_qwen(inputs)).logits
    assert theirs.std() > 0.5
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)  # worst measured: 1.2e-6


@torch.no_grad()
def test_a_padded_batch_equals_stock_qwen2_vl(qwen):
    one, two = qwen_inputs(*ONE_PICTURE), qwen_inputs(*TWO_PICTURES, seed=1)
    inputs = left_padded([one["input_ids"], two["input_ids"]])
    inputs |= {name: torch.cat([one[name], two[name]]) for name in ("pixel_values", "image_grid_thw")}
    ours = with_weights_of(qwen, picture_attention="causal")(**inputs).logits
    theirs = qwen(**for_qwen(inputs)).logits
    is_token = inputs["attention_mask"].bool()
    torch.testing.assert_close(ours[is_token], theirs[is_token], atol=1e-5, rtol=0)


@pytest.mark.parametrize("segments", [ONE_PICTURE, TWO_PICTURES])
def test_positions_equal_stock_qwen2_vl(qwen, segments):
    inputs = qwen_inputs(*segments)
    theirs, _ = qwen.model.get_rope_index(
        inputs["input_ids"], for_qwen(inputs)["mm_token_type_ids"], inputs["image_grid_thw"]
    )
    layout = small_model().lay_out(inputs["input_ids"], image_grid_thw=inputs["image_grid_thw"])
    assert layout.positions.equal(theirs[:, 0])


def test_greedy_answers_equal_stock_qwen2_vl(qwen):
    inputs = qwen_inputs(*ONE_PICTURE)
    ours = generate(with_weights_of(qwen, picture_attention="causal"), inputs)
    theirs = qwen.generate(**for_qwen(inputs), **GREEDY, pad_token_id=TOKENS.pad)
    assert ours.equal(theirs)


@torch.no_grad()
def test_full_picture_attention_is_another_model_than_stock_qwen2_vl(qwen):
    inputs = qwen_inputs(*ONE_PICTURE)
    ours = with_weights_of(qwen, picture_attention="full")(**inputs).logits
    assert (ours - qwen(**for_qwen(inputs)).logits).abs().max() > 0.1


# Caching


@torch.no_grad()
@pytest.mark.parametrize("visibility", ["global", "mixed"])
@pytest.mark.parametrize("chunks", [(1, 1, 1, 1), (4,), (1, 3)], ids=str)
def test_prefill_and_steps_equal_one_forward(visibility, chunks):
    model = small_model(small_config(visibility=visibility))
    inputs = chat()
    ids = inputs.pop("input_ids")
    positions = model.lay_out(ids, None, inputs["views"], inputs["image_grid_thw"]).positions[0][None]
    prefill = ids.shape[1] - sum(chunks)
    first = model(ids[:, :prefill], **inputs, use_cache=True)
    logits, start = [first.logits], prefill
    for length in chunks:
        new = slice(start, start + length)
        step = model(ids[:, new], position_ids=positions[:, new], past_key_values=first.past_key_values)
        logits.append(step.logits)
        start += length
    close(torch.cat(logits, 1), model(ids, **inputs).logits)


@torch.no_grad()
def test_steps_of_a_padded_batch_equal_one_forward():
    model = small_model()
    _, inputs = two_chats()
    ids, mask = inputs.pop("input_ids"), inputs.pop("attention_mask")
    positions = model.lay_out(ids, mask, inputs["views"], inputs["image_grid_thw"]).positions[0].view(ids.shape)
    cache = DynamicCache()
    first = model(ids[:, :-2], mask[:, :-2], **inputs, past_key_values=cache)
    steps = model(ids[:, -2:], mask, position_ids=positions[:, -2:], past_key_values=cache)
    is_token = mask.bool()
    together = torch.cat([first.logits, steps.logits], 1)
    close(together[is_token], model(ids, mask, **inputs).logits[is_token])


@torch.no_grad()
def test_pictures_behind_a_cache_equal_one_forward():
    model, inputs = small_model(), chat()
    ids, views = inputs.pop("input_ids"), inputs.pop("views")
    num_cached = len(prompt(*CHAT[:2])[0])
    layout = model.lay_out(ids, None, views, inputs["image_grid_thw"])
    first = model(ids[:, :num_cached], views=views, use_cache=True)
    behind = {"position_ids": layout.positions[0][None, num_cached:], "past_key_values": first.past_key_values}
    close(
        model(ids[:, num_cached:], **inputs, **behind).logits, model(ids, views=views, **inputs).logits[:, num_cached:]
    )


@torch.no_grad()
def test_words_of_different_lengths_behind_one_cache_equal_each_alone():
    model = small_model()
    context, long, short = prompt(Text(3)), prompt(Text(4), seed=1), prompt(Text(2), seed=2)
    cache = model(context.expand(2, -1), use_cache=True).past_key_values
    words = left_padded([long, short])
    mask = torch.cat([torch.ones(2, 3, dtype=torch.long), words["attention_mask"]], 1)
    both = model(words["input_ids"], mask, position_ids=torch.full((2, 4), 3), past_key_values=cache).logits
    for i, alone in enumerate((long, short)):
        close(both[i, -alone.shape[1] :], model(torch.cat([context, alone], 1)).logits[0, 3:])


def test_a_mask_that_leaves_out_the_cache_is_refused():
    model = small_model()
    cache = model(prompt(Text(3)), use_cache=True).past_key_values
    with pytest.raises(ValueError, match="attention_mask has 1 columns; it must cover 3 cached and 1 new"):
        model(torch.tensor([[1]]), torch.tensor([[1]]), position_ids=torch.tensor([[3]]), past_key_values=cache)


# Answers


@torch.no_grad()
def answer_without_a_cache(model: G2VLM, inputs: dict[str, Any], num_tokens: int) -> Tensor:
    ids = inputs["input_ids"]
    for _ in range(num_tokens):
        best = model(**(inputs | {"input_ids": ids})).logits[:, -1:].argmax(-1)
        ids = torch.cat([ids, best], 1)
    return ids


def test_generation_takes_the_best_token_of_a_forward_each_time():
    model, inputs = small_model(), chat()
    wanted = answer_without_a_cache(model, inputs, 6)
    assert len(wanted[0, -6:].unique()) > 2
    assert generate(model, inputs).equal(wanted)
    assert generate(model, inputs, use_cache=False).equal(wanted)


def test_generation_leaves_no_state():
    model, inputs = small_model(), chat()
    config, weights = model.config.to_dict(), {name: x.clone() for name, x in model.state_dict().items()}
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    answers = [generate(model, inputs) for _ in range(2)]
    assert answers[0].equal(answers[1])
    assert model.config.to_dict() == config
    assert all(x.equal(weights[name]) for name, x in model.state_dict().items())
    assert {name: set(vars(module)) for name, module in model.named_modules()} == attributes


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"num_beams": 3, "num_return_sequences": 2}], ids=str)
def test_a_batch_of_questions_is_answered_like_each_alone(options):
    model = small_model()
    single, batch = two_chats()
    per_question = options.get("num_return_sequences", 1)
    answers = generate(model, batch, **options)[:, -6:].split(per_question)
    for inputs, answer in zip(single, answers, strict=True):
        assert generate(model, inputs, **options)[:, -6:].equal(answer)


def test_beams_find_an_answer_at_least_as_likely_as_the_greedy_one():
    model, inputs = small_model(), chat()
    num_prompt = inputs["input_ids"].shape[1]

    @torch.no_grad()
    def log_likelihood(ids: Tensor) -> Tensor:
        logs = model(**(inputs | {"input_ids": ids})).logits[:, num_prompt - 1 : -1].log_softmax(-1)
        return logs.gather(2, ids[:, num_prompt:, None]).sum()

    greedy, beams = (generate(model, inputs, num_beams=n) for n in (1, 4))
    assert log_likelihood(beams) >= log_likelihood(greedy)


def test_an_answer_ends_at_the_end_token():
    model, inputs = small_model(), chat()
    free = generate(model, inputs)
    num_prompt = inputs["input_ids"].shape[1]
    third = int(free[0, num_prompt + 2])
    stopped = generate(model, inputs, eos_token_id=third)
    stop = free[0, num_prompt:].tolist().index(third) + 1
    assert stopped.equal(free[:, : num_prompt + stop])
    assert model.generation_config.eos_token_id == TOKENS.eos


# Views

RECONSTRUCT = Text(3)


def see(model: G2VLM, views: Sequence[Tensor], **options: Any) -> Geometry:
    grids = tuple(model.grid(view) for view in views)
    with torch.no_grad():
        geometry = model(
            prompt(RECONSTRUCT, ViewBlock(grids)), views=views, read_geometry=True, logits_to_keep=None, **options
        ).geometry
    assert geometry is not None
    return geometry


def maps_of(geometry: Geometry) -> list[tuple[Tensor, ...]]:
    assert geometry.confidence is not None
    assert geometry.normals is not None
    return [geometry.local_points, geometry.confidence, geometry.normals]


@pytest.fixture(scope="module")
def calm_model() -> G2VLM:
    """A model whose depths stay near one, so that absolute differences mean something."""
    return calm()


def calm(**options: Any) -> G2VLM:
    model = small_model(small_config(**options))
    with torch.no_grad():
        model.heads.points.proj.weight *= 0.05
    return model


ORDER = [2, 0, 1]


def permutation_error(model: G2VLM) -> float:
    """How far the outputs are from being permuted as the views are."""
    views = random_views((2, 3), (3, 2), (2, 3))
    straight, permuted = see(model, views), see(model, [views[i] for i in ORDER])
    errors = [(permuted.poses - straight.poses[ORDER]).abs().max()]
    for ours, theirs in zip(maps_of(permuted), maps_of(straight), strict=True):
        errors += [(ours[place] - theirs[i]).abs().max() for place, i in enumerate(ORDER)]
    return max(float(error) for error in errors)


@pytest.mark.parametrize("visibility", ["global", "mixed", "frame"])
def test_permuting_the_views_permutes_the_outputs(visibility):
    assert permutation_error(calm(visibility=visibility)) < 1e-4  # worst measured: 2e-6; with a wrong layout over 1


@pytest.mark.parametrize("wrong", [{"visibility": "block_causal"}, {"view_positions": "sequential"}], ids=str)
def test_views_that_know_their_place_in_the_row_are_not_equivariant(wrong):
    assert permutation_error(calm(**wrong)) > 1e-2


def test_views_of_different_sizes_equal_calls_of_one_size():
    model = calm(visibility="frame")
    views = random_views((2, 3), (3, 2), (2, 3), (1, 1))
    together = see(model, views)
    for index, view in enumerate(views):
        alone = see(model, [view])
        close(together.poses[index], alone.poses[0])
        for ours, theirs in zip(maps_of(together), maps_of(alone), strict=True):
            close(ours[index], theirs[0], atol=5e-5)


def test_views_matter_to_each_other(calm_model):
    views = random_views((2, 3), (3, 2))
    assert (see(calm_model, views).poses[0] - see(calm_model, views[:1]).poses[0]).abs().max() > 1e-2


@torch.no_grad()
def test_a_batch_of_scenes_equals_single_scenes(calm_model):
    single, batch = two_chats()
    both = calm_model(**batch, read_geometry=True, read_global_points=True)
    at = 0
    for index, inputs in enumerate(single):
        alone = calm_model(**inputs, read_geometry=True, read_global_points=True)
        num_views, length = len(inputs["views"]), inputs["input_ids"].shape[1]
        rows = slice(at, at + num_views)
        at += num_views
        close(both.logits[index, -length:], alone.logits[0])
        close(both.geometry.poses[rows], alone.geometry.poses)
        close(both.geometry.local_points[rows], alone.geometry.local_points, atol=5e-5)
        close(both.geometry.global_points[rows], alone.geometry.global_points, atol=5e-5)


def test_geometry_is_read_only_when_asked_for(calm_model):
    inputs = {"input_ids": prompt(RECONSTRUCT, ViewBlock(((2, 3),))), "views": random_views((2, 3))}
    with torch.no_grad():
        assert calm_model(**inputs).geometry is None
    assert see(calm_model, inputs["views"]).global_points is None
    assert see(calm_model, inputs["views"], read_global_points=True).global_points is not None


# Outputs


@torch.no_grad()
def test_logits_can_be_kept_for_the_last_tokens_only():
    model, inputs = small_model(), chat()
    every = model(**inputs).logits
    assert every.shape == (1, inputs["input_ids"].shape[1], 48)
    close(model(**inputs, logits_to_keep=2).logits, every[:, -2:])
    assert model(**inputs, logits_to_keep=None).logits is None


@torch.no_grad()
def test_hidden_states_of_every_layer_are_given_when_asked_for():
    model, inputs = small_model(), chat()
    out = model(**inputs, output_hidden_states=True)
    assert out.last_hidden_state is not None
    assert [layer.shape for layer in out.hidden_states] == [out.last_hidden_state.shape] * 2
    close(model.lm_head(out.last_hidden_state), out.logits)
    assert model(**inputs).hidden_states is None


@pytest.mark.parametrize("of", ["autocast", "weights"])
def test_bfloat16_runs_and_the_heads_answer_in_float32(of):
    model = calm().train()
    inputs = chat()
    exact = model(**inputs, read_geometry=True)
    if of == "weights":
        model = model.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=of == "autocast"):
        out = model(**inputs, read_geometry=True, read_global_points=True)
    tensors = [out.geometry.poses, *out.geometry.global_points, *(m for maps in maps_of(out.geometry) for m in maps)]
    assert {x.dtype for x in tensors} == {torch.float32}
    (out.logits.float().square().mean() + sum(x.square().mean() for x in tensors)).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is None or weight.grad.isfinite().all(), name
    assert (out.logits - exact.logits).abs().mean() < 0.1


@pytest.mark.parametrize("switch", ["recompute_activations", "gradient_checkpointing_enable"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_gradient_checkpointing_of_the_whole_model_changes_no_gradient(switch):
    inputs = chat()
    gradients = []
    for is_on in (False, True):
        model = calm().train()
        if is_on:
            getattr(model, switch)()
            parts = (model.decoder, model.heads.points.decoder, model.heads.camera.decoder)
            assert all(part.gradient_checkpointing for part in parts)
        out = model(**inputs, read_geometry=True)
        (out.logits.square().mean() + out.geometry.poses.sum()).backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
    torch.testing.assert_close(gradients[1], gradients[0], atol=0, rtol=0)


# Construction


def test_a_saved_model_comes_back_whole(tmp_path):
    model, inputs = small_model(), chat()
    model.save_pretrained(tmp_path)
    loading: Any = G2VLM.from_pretrained(tmp_path, output_loading_info=True)
    loaded, report = loading
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        close(loaded(**inputs).logits, model(**inputs).logits, atol=0)


def test_weights_that_a_checkpoint_lacks_begin_as_those_of_a_new_model():
    config = small_config(layer_scale_init=0.25)
    new, bare = G2VLM(config), G2VLM.from_pretrained(None, config=config, state_dict={})
    for (name, ours), theirs in zip(bare.state_dict().items(), new.state_dict().values(), strict=True):
        assert ours.isfinite().all(), name
        if theirs.std() == 0:
            assert ours.equal(theirs), name
    assert (bare.state_dict()["decoder.layers.0.geometric.scale_attn.gamma"] == 0.25).all()


@pytest.mark.parametrize("is_tied", [True, False])
def test_word_embeddings_can_be_tied(is_tied):
    model = G2VLM(small_config(tie_word_embeddings=is_tied))
    assert (model.lm_head.weight is model.embed_tokens.weight) == is_tied


# What a user can get wrong


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": random_views(*VIEW_GRIDS)[:2]}, r"view at token 19 has 6 placeholders .* its grid is None"),
        ({"views": random_views(*VIEW_GRIDS, (1, 1))}, r"1 views and 0 pictures are left without placeholders"),
        (random_pictures(*PICTURE_GRIDS, (1, 1)), r"0 views and 1 pictures are left without placeholders"),
        (random_pictures((2, 2), (1, 2)), r"image at token 33 has 3 placeholders .* its grid is \(1, 2\)"),
        ({"views": [torch.rand(3, 8, 13)]}, r"a view is 8 x 13 pixels; both sides must be multiples of 4"),
        ({"pixel_values": None}, r"come together, but only image_grid_thw is given"),
        ({"image_grid_thw": None}, r"come together, but only pixel_values is given"),
    ],
)
def test_pictures_that_do_not_fit_the_prompt_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small_model()(**(chat() | changes))


def test_a_cache_of_fixed_length_is_refused():
    model = small_model()
    with pytest.raises(ValueError, match=r"StaticCache has a fixed length; use .* DynamicCache"):
        model(prompt(Text(3)), past_key_values=StaticCache(config=model.config, max_cache_len=8))


def test_geometry_without_views_is_refused():
    with pytest.raises(ValueError, match="no views to read"):
        small_model()(prompt(Text(3)), read_geometry=True)


def test_padding_on_the_right_is_refused():
    with pytest.raises(ValueError, match="pad on the left"):
        small_model()(prompt(Text(3)), torch.tensor([[1, 1, 0]]))


@pytest.mark.parametrize(
    "changes", [{"views": random_views((2, 3))}, {"position_ids": None}], ids=["views", "no positions"]
)
def test_no_views_follow_behind_a_cache_and_nothing_without_positions(changes):
    model = small_model()
    cache = model(prompt(Text(3)), use_cache=True).past_key_values
    step = {"position_ids": torch.tensor([[3]]), "past_key_values": cache} | changes
    with pytest.raises(ValueError, match="behind a cache only words and pictures with position_ids"):
        model(torch.tensor([[1]]), **step)


@pytest.mark.parametrize("with_heads", [True, False])
def test_zero_geometry_is_zero_and_gives_every_weight_on_its_way_a_gradient_of_zeros(with_heads):
    model = small_model()
    model.zero_geometry(with_heads=with_heads).backward()
    reached = {name for name, weight in model.named_parameters() if weight.grad is not None}
    parts = ("dino.", "dino_projection.", "heads.") if with_heads else ("dino.", "dino_projection.")
    expected = {name for name, _ in model.named_parameters() if name.startswith(parts)}
    assert reached == expected - {"dino.model.embeddings.mask_token"}
    assert not any(weight.grad.any() for weight in model.parameters() if weight.grad is not None)
