import pytest
import torch
from builders import prompt, random_views, small_config, small_model

from g2vlm.expert_encoder import ExpertEncoder
from g2vlm.layout import Text, ViewBlock

LAYERS = 4


def model_of(**options):
    return small_model(small_config(text={"num_hidden_layers": LAYERS}, **options))


@pytest.mark.parametrize("view_positions", ["shared", "sequential"])
@pytest.mark.parametrize("visibility", ["global", "frame", "block_causal", "mixed"])
def test_features_are_the_hidden_states_of_the_ordinary_forward(visibility, view_positions):
    model = model_of(visibility=visibility, view_positions=view_positions)
    views = random_views((2, 4), (2, 4), (2, 4))
    # words before and behind: the photos alone decide
    ids = prompt(Text(3), ViewBlock(((2, 4),) * 3), Text(5))
    with torch.no_grad():
        out = model(ids, views=views, output_hidden_states=True)
    features = ExpertEncoder(model).encode(torch.stack(views), [0, 1, 2, 3])
    for ours, hidden in zip(features, out.hidden_states, strict=True):
        expected = hidden[0, out.layout.is_geometric].view(3, 2, 4, -1)
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)
    assert (features[0] - features[3]).abs().max() > 0.1


def test_layers_come_in_the_order_asked_for_and_none_runs_behind_the_last():
    encoder = ExpertEncoder(model_of())
    calls = []
    for i, layer in enumerate(encoder.decoder.layers):
        layer.register_forward_hook(lambda *_, i=i: calls.append(i))
    images = torch.stack(random_views((2, 4), (2, 4)))
    second, first = encoder.encode(images, [2, 0])
    assert calls == [0, 1, 2]
    assert torch.equal(first, encoder.encode(images, [0])[0])
    assert torch.equal(second, encoder.encode(images, [2])[0])
    assert calls == [0, 1, 2, 0, 0, 1, 2]


def test_views_of_a_scene_see_each_other():
    encoder = ExpertEncoder(model_of())
    images = torch.stack(random_views((2, 4), (2, 4)))
    before = encoder.encode(images, [3])[0]
    images[1] = 1 - images[1]
    assert (encoder.encode(images, [3])[0][0] - before[0]).abs().max() > 1e-3


def test_the_encoder_is_frozen_and_builds_no_graph():
    encoder = ExpertEncoder(model_of().train())
    assert not encoder.training
    assert not any(x.requires_grad for x in encoder.parameters())
    assert not encoder.encode(torch.stack(random_views((2, 4))), [0])[0].requires_grad
    assert (encoder.num_layers, encoder.width, encoder.patch) == (LAYERS, 32, 4)


def test_an_expert_that_listens_to_words_is_refused():
    with pytest.raises(ValueError, match=r"view_context is 'sequence'.*open it with view_context='views'"):
        ExpertEncoder(model_of(view_context="sequence"))


def test_layers_and_sizes_that_are_not_there_are_refused():
    encoder = ExpertEncoder(model_of())
    with pytest.raises(ValueError, match="layers has 4, but this expert has 4 layers; name some of 0 to 3"):
        encoder.encode(torch.rand(1, 3, 8, 8), [1, 4])
    with pytest.raises(ValueError, match="a view is 9 x 8 pixels"):
        encoder.encode(torch.rand(1, 3, 9, 8), [1])


def test_beside_a_model_stands_a_copy_that_leaves_the_model_as_it_was():
    model = model_of()
    encoder = ExpertEncoder.beside(model)
    images = torch.stack(random_views((2, 4), (2, 4)))
    before = encoder.encode(images, [3])[0]
    assert all(x.requires_grad for x in model.decoder.parameters())
    with torch.no_grad():
        for x in model.parameters():
            x.zero_()
    assert torch.equal(encoder.encode(images, [3])[0], before)
