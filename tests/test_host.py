from dataclasses import replace

import pytest
import torch
from hosts import CHANNELS, FAMILIES, PATCH, PatchEncoder, host_of, prompts, stock
from transformers import LogitsProcessor, LogitsProcessorList, Qwen2Config, Qwen2ForCausalLM

from g2vlm.host import Host
from g2vlm.pathway_config import NoPathway, PreDecoder, SpatialStack

STACK = SpatialStack((0, 1, 3), (1, 3, 5), geometry_width=CHANNELS, hidden_width=20)
SINGLE = PreDecoder((4,), geometry_width=CHANNELS, hidden_width=20)
PATHWAYS = [STACK, SINGLE]
IMAGES = [[(2, 4), (4, 6)], [(4, 4)]]

NOISE = {"qwen2_vl": 1e-4, "qwen2_5_vl": 1e-4, "qwen3_5": 2e-3}
"""Of logits up to 8. Qwen3.5's recurrent layers amplify: weights changed by one part in ten million move them by 1.5e-4."""

each_family = pytest.mark.parametrize("family", FAMILIES)
each_pathway = pytest.mark.parametrize("config", PATHWAYS, ids=["stack", "single"])
GREEDY = {
    "do_sample": False,
    "suppress_tokens": [81, 90, 92, 93],
    "output_logits": True,
    "return_dict_in_generate": True,
}


@torch.no_grad()
def logits(host, inputs):
    return host(**inputs).logits


def applied_rows(host, monkeypatch):
    """(site, number of visual rows) of every call of the pathway from here on."""
    calls, apply_at = [], host.pathway.apply_at

    def counted(site, visual_rows, features):
        calls.append((site, len(visual_rows)))
        return apply_at(site, visual_rows, features)

    monkeypatch.setattr(host.pathway, "apply_at", counted)
    return calls


# --- where geometry enters --------------------------------------------------------------------------------------------


@each_family
@each_pathway
def test_a_fresh_pathway_leaves_the_logits_bit_equal(family, config):
    batch = prompts(family, *IMAGES)
    with torch.no_grad():
        expected = stock(family)(**batch.without_geometry()).logits
    assert torch.equal(logits(host_of(family, config, moved=False), batch.inputs), expected)
    assert (logits(host_of(family, config), batch.inputs) - expected).abs().max() > 0.5


@each_family
@each_pathway
def test_a_fresh_pathway_still_gets_gradients(family, config):
    host = host_of(family, config, moved=False).train()
    batch = prompts(family, *IMAGES)
    host(**batch.inputs, labels=batch.inputs["input_ids"]).loss.backward()
    for merger in host.pathway.mergers:
        assert merger.fc2.weight.grad.abs().max() > 0
    assert all(x.grad is None for x in host.encoder.parameters())


def cells_by_loops(features, grids):
    """The twin of `merge_cells` and slicing: four patches of each visual token, from features of each image."""
    tokens = []
    for image, (rows, columns) in zip(features, grids, strict=True):
        for r in range(0, rows, 2):
            for c in range(0, columns, 2):
                tokens.append(torch.stack([image[r + i, c + j] for i in (0, 1) for j in (0, 1)]))
    return torch.stack(tokens)


def expected_cells(host, batch, layer):
    """What the encoder says of each sample's scene, padded on the right and below, token by token."""
    images, start, tokens = batch.inputs["geometry_images"], 0, []
    for grids in batch.grids:
        scene = images[start : start + len(grids)]
        start += len(grids)
        height, width = (max(x.shape[axis] for x in scene) for axis in (1, 2))
        canvas = torch.ones(len(scene), 3, height, width)
        for view, image in zip(canvas, scene, strict=True):
            view[:, : image.shape[1], : image.shape[2]] = image
        tokens.append(cells_by_loops(host.encoder.encode(canvas, [layer])[0], grids))
    return torch.cat(tokens)


@each_family
def test_each_feature_is_added_behind_its_layer_at_visual_rows_only(family):
    host, batch = host_of(family, STACK), prompts(family, *IMAGES)
    raw, final = {}, {}
    for i, layer in enumerate(host.model.model.language_model.layers):
        layer.register_forward_hook(lambda _m, _a, out, i=i: raw.update({i: out}), prepend=True)
        layer.register_forward_hook(lambda _m, _a, out, i=i: final.update({i: out}))
    logits(host, batch.inputs)
    is_visual = batch.inputs["input_ids"] == 92
    for i in raw:
        assert torch.equal(raw[i][~is_visual], final[i][~is_visual])
        added = final[i][is_visual] - raw[i][is_visual]
        if i in STACK.decoder_layers:
            pair = STACK.decoder_layers.index(i)
            cells = expected_cells(host, batch, STACK.encoder_layers[pair])
            merger = host.pathway.mergers[pair]
            torch.testing.assert_close(added, merger(cells), rtol=0, atol=1e-5)  # worst seen 2e-6
            swapped = merger(cells[:, [0, 2, 1, 3]])  # patches of a cell along its columns: the wrong order
            assert (added - swapped).abs().max() > 0.05
        else:
            assert not added.any()


@each_family
def test_a_single_layer_is_added_to_what_the_vision_tower_makes(family):
    host, batch = host_of(family, SINGLE), prompts(family, *IMAGES)
    seen = []
    host.model.model.language_model.layers[0].register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    logits(host, batch.inputs)
    plain = batch.without_geometry()
    with torch.no_grad():
        visual = host.model.model.get_image_features(plain["pixel_values"], plain["image_grid_thw"]).pooler_output
        expected = torch.cat(visual) + host.pathway.mergers[0](expected_cells(host, batch, 4))
    is_visual = plain["input_ids"] == 92
    torch.testing.assert_close(seen[0][is_visual], expected, rtol=0, atol=1e-5)  # worst seen 2e-6
    assert torch.equal(seen[0][~is_visual], host.model.get_input_embeddings()(plain["input_ids"])[~is_visual])


@each_family
def test_recorded_hidden_states_hold_the_geometry(family):
    batch = prompts(family, *IMAGES)
    states = host_of(family, STACK)(**batch.inputs, output_hidden_states=True).hidden_states
    stock_states = stock(family)(**batch.without_geometry(), output_hidden_states=True).hidden_states
    assert torch.equal(states[0], stock_states[0])
    assert (states[1] - stock_states[1]).abs().max() > 0.1


# --- batches ----------------------------------------------------------------------------------------------------------


@each_family
@each_pathway
def test_a_batch_of_two_lengths_equals_two_calls(family, config):
    host = host_of(family, config)
    together = logits(host, prompts(family, *IMAGES).inputs)
    first = logits(host, prompts(family, IMAGES[0]).inputs)
    second = logits(host, prompts(family, IMAGES[1], first=1).inputs)
    assert first.shape[1] > second.shape[1]
    torch.testing.assert_close(together[:1], first, rtol=0, atol=NOISE[family])  # worst seen 1.2e-5
    torch.testing.assert_close(together[1:, -second.shape[1] :], second, rtol=0, atol=NOISE[family])  # 3.1e-4, Qwen3.5


@each_family
@each_pathway
def test_a_sample_without_images_passes_untouched(family, config):
    host = host_of(family, config)
    words = prompts(family, [], [])
    with torch.no_grad():
        expected = stock(family)(**words.inputs).logits
    assert torch.equal(logits(host, words.inputs), expected)
    assert host.encoder.num_calls == 0
    beside = logits(host, prompts(family, [], IMAGES[1]).inputs)[0, -5:]
    torch.testing.assert_close(beside, expected[0], rtol=0, atol=NOISE[family])


@each_family
@each_pathway
def test_a_batch_without_images_gives_zero_gradients_and_the_same_logits(family, config):
    host = host_of(family, config)
    words = prompts(family, [], [])
    output = host(**words.inputs).logits
    assert torch.equal(output, logits(host, words.inputs))
    output.sum().backward()
    assert all(x.grad is not None and not x.grad.any() for x in host.pathway.parameters())
    assert host.encoder.num_calls == 0


@each_family
def test_images_of_one_sample_may_differ_in_size(family):
    host = host_of(family, STACK)
    batch = prompts(family, [(2, 8), (6, 2), (4, 4)])
    grids = batch.inputs["image_grid_thw"]
    features = host.features([14 - 3], batch.inputs["geometry_images"], grids)
    assert sorted(features) == [1, 3, 5]
    for layer, cells in features.items():
        torch.testing.assert_close(cells, expected_cells(host, batch, layer), rtol=0, atol=1e-6)


def test_images_of_one_sample_are_one_scene_and_those_of_another_are_not():
    host = host_of("qwen2_vl", STACK)
    batch = prompts("qwen2_vl", *IMAGES)
    before = logits(host, batch.inputs)
    assert host.encoder.num_calls == 2
    batch.inputs["geometry_images"][1] += 0.5
    after = logits(host, batch.inputs)
    assert (before[0, 4] - after[0, 4]).abs().max() > 1e-3  # a row of the first image, which did not change
    torch.testing.assert_close(before[1], after[1], rtol=0, atol=1e-5)


def test_an_odd_last_row_or_column_of_patches_is_left_out():
    host, batch = host_of("qwen2_vl", STACK), prompts("qwen2_vl", [(4, 4)])
    image = batch.inputs["geometry_images"][0]
    wider = torch.nn.functional.pad(image, (0, PATCH, 0, PATCH), value=1.0)
    features = host.features([4], [wider], batch.inputs["image_grid_thw"])
    patches = host.encoder.encode(wider[None], [1])[0]
    assert torch.equal(features[1], cells_by_loops(patches, [(4, 4)]))


# --- generation -------------------------------------------------------------------------------------------------------


@each_family
@each_pathway
def test_the_first_step_of_generate_equals_forward(family, config):
    host, batch = host_of(family, config), prompts(family, *IMAGES)
    generated = host.generate(**batch.inputs, max_new_tokens=2, **GREEDY)
    expected = logits(host, batch.inputs)[:, -1]
    torch.testing.assert_close(generated.logits[0], expected, rtol=0, atol=1e-5)  # worst seen 1e-6


@each_family
@each_pathway
def test_geometry_enters_in_the_prefill_only(family, config, monkeypatch):
    host, batch = host_of(family, config), prompts(family, *IMAGES)
    calls = applied_rows(host, monkeypatch)
    host.generate(**batch.inputs, max_new_tokens=4, **GREEDY)
    assert calls == [(site, 12) for site in host.pathway.sites]


class Always(LogitsProcessor):
    """Lets every step choose the same token."""

    def __init__(self, token: int):
        self.token = token

    def __call__(self, input_ids, scores):
        return torch.full_like(scores, -1e9).index_fill(1, torch.tensor([self.token]), 0.0)


@each_pathway
def test_an_image_placeholder_that_the_model_says_itself_is_no_image(config, monkeypatch):
    host, batch = host_of("qwen2_vl", config), prompts("qwen2_vl", *IMAGES)
    calls = applied_rows(host, monkeypatch)
    host.generate(**batch.inputs, max_new_tokens=4, logits_processor=LogitsProcessorList([Always(92)]))
    assert calls == [(site, 12) for site in host.pathway.sites]


@each_family
@each_pathway
@pytest.mark.parametrize("way", [{"prefill_chunk_size": 7}, {"use_cache": False}], ids=["chunks", "no cache"])
def test_other_ways_to_read_the_prompt_say_the_same(family, config, way):
    host, batch = host_of(family, config), prompts(family, *IMAGES, words=(3, 6))
    plain = host.generate(**batch.inputs, max_new_tokens=3, **GREEDY)
    other = host.generate(**batch.inputs, max_new_tokens=3, **GREEDY, **way)
    assert torch.equal(plain.sequences, other.sequences)
    for x, y in zip(plain.logits, other.logits, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=5e-4)  # worst seen 7e-5, Qwen3.5


@each_family
@each_pathway
def test_beams_of_a_batch_are_those_of_its_samples(family, config):
    host = host_of(family, config)
    options = GREEDY | {"max_new_tokens": 5, "num_beams": 2, "num_return_sequences": 2, "output_scores": True}
    together, first, second = (
        host.generate(**batch.inputs, **options)
        for batch in (
            prompts(family, *IMAGES),
            prompts(family, IMAGES[0]),
            prompts(family, IMAGES[1], first=1),
        )
    )
    alone = torch.cat([x.sequences[:, -5:] for x in (first, second)])
    assert torch.equal(together.sequences[:, -5:], alone)
    scores = torch.cat([first.sequences_scores, second.sequences_scores])
    torch.testing.assert_close(together.sequences_scores, scores, rtol=0, atol=1e-4)  # worst seen 1e-5, Qwen3.5


@each_family
@each_pathway
def test_a_second_question_needs_no_images_again(family, config):
    host, batch = host_of(family, config), prompts(family, *IMAGES)
    first = host.generate(**batch.inputs, max_new_tokens=2, **GREEDY)
    ids = torch.cat([first.sequences, torch.tensor([[20, 21], [22, 23]])], 1)
    mask = torch.cat([batch.inputs["attention_mask"], torch.ones(2, 4, dtype=torch.long)], 1)
    types = torch.cat([batch.inputs["mm_token_type_ids"], torch.zeros(2, 4, dtype=torch.int)], 1)
    second = host.generate(ids, attention_mask=mask, past_key_values=first.past_key_values, max_new_tokens=1, **GREEDY)
    whole = batch.inputs | {"input_ids": ids, "attention_mask": mask, "mm_token_type_ids": types}
    expected = logits(host, whole)[:, -1]
    torch.testing.assert_close(second.logits[0], expected, rtol=0, atol=2e-4)  # worst seen 3e-5, Qwen3.5


@each_family
@each_pathway
def test_a_prompt_may_come_in_two_parts_each_with_an_image(family, config):
    host, batch = host_of(family, config), prompts(family, [(2, 4), (4, 4)])
    host.encoder.scene_share = 0.0  # or the first image would look different beside the second
    grids, first, patches = batch.inputs["image_grid_thw"], 6, 8  # columns and patches up to the first image's end
    types = batch.inputs["mm_token_type_ids"]
    positions, _ = host.model.model.get_rope_index(batch.inputs["input_ids"], types, grids)
    turns = [
        {
            "input_ids": batch.inputs["input_ids"][:, columns],
            "position_ids": positions[..., columns],
            "pixel_values": batch.inputs["pixel_values"][pixels],
            "image_grid_thw": grids[images],
            "geometry_images": batch.inputs["geometry_images"][images],
            "mm_token_type_ids": types[:, columns],
        }
        for columns, pixels, images in (
            (slice(first), slice(patches), slice(1)),
            (slice(first, None), slice(patches, None), slice(1, None)),
        )
    ]
    with torch.no_grad():
        whole = host(**batch.inputs | {"position_ids": positions}).logits
        cache = host(**turns[0], use_cache=True).past_key_values
        behind = host(**turns[1], past_key_values=cache).logits
    torch.testing.assert_close(behind, whole[:, first:], rtol=0, atol=NOISE[family])


# --- training ---------------------------------------------------------------------------------------------------------


@each_family
def test_gradient_checkpointing_changes_no_gradient(family):
    batch = prompts(family, *IMAGES)
    gradients = []
    for is_on in (False, True):
        host = host_of(family, STACK).train()
        if is_on:
            host.model.activation_checkpointing_enable()
        host(**batch.inputs, labels=batch.inputs["input_ids"]).loss.backward()
        gradients.append([x.grad for x in host.pathway.parameters()])
        assert host.encoder.num_calls == 2
    for x, y in zip(*gradients, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-6)


def test_the_encoder_stays_frozen_and_in_evaluation_mode():
    host = host_of("qwen2_vl", STACK).train()
    assert host.model.training
    assert host.pathway.training
    assert not host.encoder.training
    assert not any(x.requires_grad for x in host.encoder.parameters())


# --- none, and what is refused ----------------------------------------------------------------------------------------


@each_family
def test_without_a_pathway_the_host_is_the_stock_model(family):
    batch = prompts(family, *IMAGES)
    host = Host(stock(family), NoPathway())
    with torch.no_grad():
        assert torch.equal(host(**batch.without_geometry()).logits, stock(family)(**batch.without_geometry()).logits)
    assert sum(x.numel() for x in host.parameters()) == sum(x.numel() for x in stock(family).parameters())


@each_family
@each_pathway
def test_image_tokens_without_geometry_raise(family, config):
    host, batch = host_of(family, config), prompts(family, *IMAGES)
    with pytest.raises(ValueError, match="hold 12 image tokens, but geometry_images is None"):
        host(**batch.without_geometry())
    with pytest.raises(ValueError, match="hold 12 image tokens, but geometry_images is None"):
        host.generate(**batch.without_geometry(), max_new_tokens=1)
    with pytest.raises(ValueError, match="hosts a geometry pathway"):
        host.model(**batch.without_geometry())
    with pytest.raises(ValueError, match="hosts a geometry pathway"):
        host.model.generate(**batch.without_geometry(), max_new_tokens=1)


def test_a_mask_without_its_name_is_not_taken_for_images():
    host, batch = host_of("qwen2_vl", STACK), prompts("qwen2_vl", (), ())
    for call in (host, host.generate):
        with pytest.raises(TypeError, match="positional"):
            call(batch.inputs["input_ids"], batch.inputs["attention_mask"])


def test_a_failed_call_leaves_nothing_behind():
    host, batch = host_of("qwen2_vl", STACK), prompts("qwen2_vl", *IMAGES)
    with pytest.raises(RuntimeError, match="size"):
        host(**batch.inputs | {"pixel_values": batch.inputs["pixel_values"][:8]})
    with pytest.raises(ValueError, match="hosts a geometry pathway"):
        host.model(**batch.without_geometry())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (lambda x: {"geometry_images": x["geometry_images"][:2]}, "2 images, but image_grid_thw has 3"),
        (
            lambda x: {"geometry_images": [torch.rand(3, 28, 56)] * 3},
            r"geometry_images\[1\] is 28 x 56 pixels, but image_grid_thw\[1\] is \[1, 4, 6\]; resize it to 56 x 84",
        ),
        (lambda x: {"geometry_images": [image[:, 1:] for image in x["geometry_images"]]}, "is 27 x 56 pixels"),
        (
            lambda x: {"input_ids": x["input_ids"].masked_fill(x["input_ids"] == 91, 92)},
            r"sample 0 has 10 image tokens, but its images in image_grid_thw fill 12",
        ),
        (
            lambda x: {"input_ids": x["input_ids"].masked_fill(x["input_ids"] == 92, 5)},
            "geometry_images has 3 images, but the image tokens of the batch take 0",
        ),
        (lambda x: {"pixel_values_videos": torch.zeros(1)}, "give the frames as images"),
    ],
)
def test_images_that_do_not_fit_the_prompt_are_refused(changes, message):
    host, batch = host_of("qwen2_vl", STACK), prompts("qwen2_vl", *IMAGES)
    with pytest.raises(ValueError, match=message):
        host(**batch.inputs | changes(batch.inputs))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            replace(STACK, decoder_layers=(0, 1, 5)),
            "decoder_layers asks for layer 5, but the host has num_hidden_layers=5",
        ),
        (replace(STACK, encoder_layers=(1, 3, 6)), "encoder_layers asks for layer 6, but the encoder has num_layers=6"),
        (replace(STACK, geometry_width=48), "geometry_width is 48, but the encoder's width is 24"),
    ],
)
def test_a_pathway_that_fits_neither_host_nor_encoder_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        Host(stock("qwen2_vl"), config, PatchEncoder())


def test_a_pathway_without_an_encoder_is_refused():
    with pytest.raises(ValueError, match="encoder is None, but SpatialStack reads one"):
        Host(stock("qwen2_vl"), STACK)


def test_a_model_of_another_family_is_refused():
    config = Qwen2Config(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    with pytest.raises(ValueError, match="model_type is 'qwen2'"):
        Host(Qwen2ForCausalLM(config), NoPathway())
