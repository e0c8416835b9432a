"""Our own decoder as a host; what it shares with stock models is tested in test_host.py."""

from dataclasses import replace

import pytest
import torch
from builders import TOKENS, left_padded, prompt, random_pictures, random_views, small_config, small_model
from hosts import CHANNELS, PATCH, PatchEncoder

from g2vlm.expert_encoder import ExpertEncoder
from g2vlm.host import Host
from g2vlm.host_hub import is_host, load_host, save_host
from g2vlm.hub import load_model
from g2vlm.layout import Picture, Text, ViewBlock
from g2vlm.pathway_config import GeoAlign, NoPathway, PreDecoder, SpatialStack
from g2vlm.pathways.geo_align import recorded_routing

LAYERS = 4
SIZES = {"geometry_width": CHANNELS, "hidden_width": 20}
STACK = SpatialStack((0, 1, 3), (1, 3, 5), **SIZES)
SINGLE = PreDecoder((4,), **SIZES)
ROUTED = GeoAlign(encoder_layers=(1, 2, 4, 5), router_width=8, **SIZES)
INSIDE = replace(ROUTED, decoder_layers=("pre", 2))
PATHWAYS = {"stack": STACK, "single": SINGLE, "routed": ROUTED, "inside": INSIDE}
each_pathway = pytest.mark.parametrize("config", PATHWAYS.values(), ids=PATHWAYS)

PICTURES = [[(1, 2), (2, 2)], [(2, 1)]]
"""Merged tokens of the pictures of two samples."""


def host_of(config, *, moved=True):
    torch.manual_seed(0)
    host = Host(model_of(), config, PatchEncoder())
    if moved:
        with torch.no_grad():
            for x in host.pathway.parameters():
                x.copy_(torch.randn_like(x) * 0.3)
    return host


def model_of():
    return small_model(small_config(text={"num_hidden_layers": LAYERS}))


def sample(number, *, words=3):
    segments = [Text(2), *map(Picture, PICTURES[number]), Text(words)]
    return prompt(*segments, seed=number)


def pictures(*numbers):
    """pixel_values, image_grid_thw and geometry_images of these samples, which look alike wherever they stand."""
    single = [random_pictures(*PICTURES[number], seed=number) for number in numbers]
    images = [
        image
        for number in numbers
        for image in random_views(*[(2 * r, 2 * c) for r, c in PICTURES[number]], patch=PATCH, seed=number)
    ]
    return {name: torch.cat([x[name] for x in single]) for name in single[0]} | {"geometry_images": images}


def inputs_of(*numbers):
    words = [3 if number == 0 else 5 for number in numbers]
    return left_padded([sample(n, words=w) for n, w in zip(numbers, words, strict=True)]) | pictures(*numbers)


def without_geometry(inputs):
    return {name: x for name, x in inputs.items() if name != "geometry_images"}


@torch.no_grad()
def logits(host, inputs):
    return host(**inputs).logits


def is_visual(inputs):
    return inputs["input_ids"] == TOKENS.image_patch


# --- where geometry enters --------------------------------------------------------------------------------------------


@each_pathway
def test_a_fresh_pathway_leaves_the_logits_bit_equal(config):
    inputs = inputs_of(0, 1)
    with torch.no_grad():
        expected = model_of()(**without_geometry(inputs)).logits
    assert torch.equal(logits(host_of(config, moved=False), inputs), expected)
    assert (logits(host_of(config), inputs) - expected).abs().max() > 0.1


def test_without_a_pathway_the_host_is_the_model():
    inputs = without_geometry(inputs_of(0, 1))
    with torch.no_grad():
        expected = model_of()(**inputs).logits
    assert torch.equal(logits(Host(model_of(), NoPathway()), inputs), expected)


def states(host, inputs):
    """Rows that enter the decoder, and those that leave each block."""
    seen = []
    handle = host.model.decoder.layers[0].register_forward_pre_hook(lambda _m, args: seen.append(args))
    with handle, torch.no_grad():
        out = host(**inputs, output_hidden_states=True)
    parts, _, layout, _ = seen[0]
    return [torch.cat(parts)[layout.restore].view(out.hidden_states[0].shape), *out.hidden_states]


def expected_at(host, site, visual_rows, inputs):
    counts = is_visual(inputs).sum(1).tolist()
    features = host.features(counts, inputs["geometry_images"], inputs["image_grid_thw"])
    with torch.no_grad():
        return host.pathway.apply_at(site, visual_rows, features)


@pytest.mark.parametrize(("config", "depth"), [(SINGLE, 0), (ROUTED, 0), (replace(STACK, decoder_layers=(2, 2, 2)), 3)])
def test_geometry_enters_at_visual_rows_only_and_before_the_next_block(config, depth):
    """depth: of the first state that holds geometry: 0 enters the decoder, n leaves block n - 1."""
    inputs = inputs_of(0, 1)
    plain, moved = states(host_of(config, moved=False), inputs), states(host_of(config), inputs)
    for n in range(depth):
        assert torch.equal(plain[n], moved[n])
    visual = is_visual(inputs)
    assert torch.equal(plain[depth][~visual], moved[depth][~visual])
    host = host_of(config)
    expected = expected_at(host, host.pathway.sites[0], plain[depth][visual], inputs)
    torch.testing.assert_close(moved[depth][visual], expected, rtol=0, atol=1e-5)
    swapped = inputs | {"geometry_images": [image.flip(1) for image in inputs["geometry_images"]]}
    assert (states(host, swapped)[depth][visual] - expected).abs().max() > 0.05


@pytest.mark.parametrize(("site", "depth"), [("pre", 0), (2, 3)])
def test_views_of_the_geometric_expert_are_left_alone(site, depth):
    config, grids = replace(ROUTED, decoder_layers=(site,)), ((2, 2), (2, 2))
    host, ids = host_of(config), prompt(ViewBlock(grids), *map(Picture, PICTURES[0]), Text(4))
    inputs = {"input_ids": ids, "views": random_views(*grids)} | pictures(0)
    plain, moved = states(host_of(config, moved=False), inputs), states(host, inputs)
    visual = is_visual(inputs)
    assert torch.equal(plain[depth][~visual], moved[depth][~visual])
    expected = expected_at(host, site, plain[depth][visual], inputs)
    torch.testing.assert_close(moved[depth][visual], expected, rtol=0, atol=1e-5)
    is_view = ids == TOKENS.view_patch
    assert torch.equal(plain[-1][is_view], moved[-1][is_view])


@each_pathway
def test_a_sample_without_pictures_passes_untouched(config):
    host, words = host_of(config), {"input_ids": prompt(Text(6))}
    with torch.no_grad():
        expected = model_of()(**words).logits
    assert torch.equal(logits(host, words), expected)
    assert host.encoder.num_calls == 0


@each_pathway
def test_a_batch_without_pictures_gives_zero_gradients(config):
    host = host_of(config)
    host(input_ids=prompt(Text(6))).logits.sum().backward()
    assert all(x.grad is not None and not x.grad.any() for x in host.pathway.parameters())


# --- batches and branches ---------------------------------------------------------------------------------------------


@each_pathway
def test_a_left_padded_batch_equals_single_calls(config):
    host = host_of(config)
    together = logits(host, inputs_of(0, 1))
    for row, number in enumerate((0, 1)):
        alone = logits(host, inputs_of(number))
        torch.testing.assert_close(together[row, -alone.shape[1] :], alone[0], rtol=0, atol=1e-4)


@each_pathway
def test_questions_that_share_a_context_are_answered_as_if_alone(config):
    host = host_of(config)
    context, tails = sample(0), [prompt(Text(length), seed=7 + length) for length in (3, 4)]
    together = logits(host, {"input_ids": torch.cat([context, *tails], 1), "branches": [(3, 4)]} | pictures(0))[0]
    ends = {3: slice(-7, -4), 4: slice(-4, None)}
    for tail in tails:
        alone = logits(host, {"input_ids": torch.cat([context, tail], 1)} | pictures(0))[0]
        torch.testing.assert_close(together[ends[tail.shape[1]]], alone[-tail.shape[1] :], rtol=0, atol=1e-4)


# --- generation -------------------------------------------------------------------------------------------------------

GREEDY = {"do_sample": False, "output_logits": True, "return_dict_in_generate": True, "eos_token_id": None}


@each_pathway
def test_the_first_step_of_generate_equals_forward(config):
    host, inputs = host_of(config), inputs_of(0, 1)
    generated = host.generate(**inputs, max_new_tokens=2, **GREEDY)
    torch.testing.assert_close(generated.logits[0], logits(host, inputs)[:, -1], rtol=0, atol=1e-5)


@each_pathway
def test_geometry_enters_in_the_prefill_only(config, monkeypatch):
    host, inputs = host_of(config), inputs_of(0, 1)
    calls, apply_at = [], host.pathway.apply_at

    def counted(site, visual_rows, features):
        calls.append((site, len(visual_rows)))
        return apply_at(site, visual_rows, features)

    monkeypatch.setattr(host.pathway, "apply_at", counted)
    host.generate(**inputs, max_new_tokens=4, **GREEDY)
    assert calls == [(site, 8) for site in host.pathway.sites]


@each_pathway
def test_without_a_cache_the_same_is_said(config):
    host, inputs = host_of(config), inputs_of(0, 1)
    cached = host.generate(**inputs, max_new_tokens=3, **GREEDY)
    again = host.generate(**inputs, max_new_tokens=3, use_cache=False, **GREEDY)
    assert torch.equal(cached.sequences, again.sequences)
    torch.testing.assert_close(cached.logits[2], again.logits[2], rtol=0, atol=1e-4)


@each_pathway
def test_beams_of_a_batch_are_those_of_its_samples(config):
    host, options = host_of(config), {"max_new_tokens": 3, "num_beams": 2, "do_sample": False}
    together = host.generate(**inputs_of(0, 1), **options)
    for row, number in enumerate((0, 1)):
        inputs = inputs_of(number)
        alone = host.generate(**inputs, **options)
        answer = alone[0, inputs["input_ids"].shape[1] :]
        assert torch.equal(together[row, inputs_of(0, 1)["input_ids"].shape[1] :][: len(answer)], answer)


# --- training ---------------------------------------------------------------------------------------------------------


@each_pathway
def test_pathway_and_semantic_expert_learn_and_the_encoder_does_not(config):
    host = host_of(config).train()
    host(**inputs_of(0, 1)).logits.square().mean().backward()
    assert all(x.grad is not None and x.grad.any() for x in host.pathway.parameters() if x.dim() > 1)
    assert host.model.decoder.layers[0].semantic.q.weight.grad.any()
    assert all(x.grad is None for x in host.encoder.parameters())


@each_pathway
def test_activations_that_are_computed_again_change_no_gradient(config):
    gradients = []
    for is_on in (False, True):
        host = host_of(config).train()
        if is_on:
            host.model.recompute_activations()
        host(**inputs_of(0, 1)).logits.square().mean().backward()
        gradients.append({name: x.grad for name, x in host.named_parameters() if x.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    torch.testing.assert_close(gradients[1], gradients[0], atol=0, rtol=0)


def test_routing_of_a_whole_batch_is_recorded_in_the_order_of_its_visual_tokens():
    host = host_of(INSIDE)
    with recorded_routing(host.pathway) as routing:
        logits(host, inputs_of(0, 1))
    assert {site: weights.shape for site, weights in routing.items()} == {"pre": (8, 4), 2: (8, 4)}
    with recorded_routing(host.pathway) as second:
        logits(host, inputs_of(1))
    torch.testing.assert_close(second["pre"], routing["pre"][6:], rtol=0, atol=1e-5)


def test_a_g2vlm_can_be_the_geometry_encoder_of_another():
    torch.manual_seed(0)
    encoder = ExpertEncoder(small_model(seed=1))
    config = replace(STACK, encoder_layers=(0, 1, 1), geometry_width=32)
    host = Host(model_of(), replace(config, zero_init=False), encoder)
    images = [
        torch.nn.functional.interpolate(x[None], scale_factor=4 / PATCH)[0] for x in pictures(0)["geometry_images"]
    ]
    inputs = {"input_ids": sample(0)} | pictures(0) | {"geometry_images": images}
    plain = logits(Host(model_of(), config, encoder), inputs)
    assert (logits(host, inputs) - plain).abs().max() > 1e-3


# --- on disk ----------------------------------------------------------------------------------------------------------


@each_pathway
def test_what_is_saved_says_the_same_when_it_is_loaded(config, tmp_path):
    host, inputs = host_of(config), inputs_of(0, 1)
    save_host(host, tmp_path / "host")
    loaded = load_host(tmp_path / "host", encoder=PatchEncoder())
    assert is_host(tmp_path / "host")
    assert loaded.config == config
    assert torch.equal(logits(loaded, inputs), logits(host, inputs))
    plain = load_model(tmp_path / "host")
    assert all(torch.equal(x, y) for x, y in zip(plain.parameters(), host.model.parameters(), strict=True))


def test_the_encoder_of_a_saved_host_has_to_be_given(tmp_path):
    save_host(host_of(ROUTED), tmp_path / "host")
    with pytest.raises(ValueError, match="read an encoder other than VGGT; pass it as encoder="):
        load_host(tmp_path / "host")


# --- what is refused --------------------------------------------------------------------------------------------------


@each_pathway
def test_image_tokens_without_geometry_raise(config):
    host, inputs = host_of(config), without_geometry(inputs_of(0, 1))
    with pytest.raises(ValueError, match="hold 8 image tokens, but geometry_images is None"):
        host(**inputs)
    with pytest.raises(ValueError, match="hosts a geometry pathway"):
        host.model(**inputs)
    with pytest.raises(ValueError, match="hosts a geometry pathway"):
        host.model.generate(**inputs, max_new_tokens=1)


def test_a_layer_that_the_decoder_does_not_have_is_refused():
    with pytest.raises(ValueError, match="decoder_layers asks for layer 4, but the host has num_hidden_layers=4"):
        Host(model_of(), replace(ROUTED, decoder_layers=("pre", 4)), PatchEncoder())
