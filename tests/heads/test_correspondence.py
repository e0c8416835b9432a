import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize
from transformers import Qwen2Config, Qwen2Model

from g2vlm.heads.correspondence import CorrespondenceHeads


def states(num_layers: int = 3, samples: int = 2, tokens: int = 5, width: int = 16) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(samples, tokens, width, generator=generator) for _ in range(num_layers)]


def test_each_head_reads_its_own_layer_at_visual_tokens_alone():
    heads = CorrespondenceHeads(16, (0, 2), out_width=4)
    is_visual = torch.tensor([[0, 1, 1, 0, 0], [1, 0, 0, 0, 1]]).bool()
    hidden = states()
    found = heads(hidden, is_visual)
    assert [x.shape for x in found] == [(4, 4), (4, 4)]
    for embeddings, project, layer in zip(found, heads.project, (0, 2), strict=True):
        expected = torch.stack([project(hidden[layer][s, t]) for s, t in ((0, 1), (0, 2), (1, 0), (1, 4))])
        torch.testing.assert_close(embeddings, normalize(expected, dim=-1))
        torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(4))


def test_a_fresh_head_measures_tokens_by_the_queries_of_its_layer():
    """If the embeddings are as wide as the queries have rank, their cosine is that of the queries, GELU and all."""
    heads = CorrespondenceHeads(16, (0, 1), out_width=8)
    projections = {layer: torch.randn(8, 16, generator=torch.Generator().manual_seed(layer)) for layer in (0, 1)}
    heads.start_from_queries(projections)
    hidden = states()
    for layer, embeddings in enumerate(heads(hidden, torch.ones(2, 5).bool())):
        queries = hidden[layer].flatten(0, 1) @ projections[layer].T
        expected = cosine_similarity(queries[:, None], queries[None], dim=-1)
        torch.testing.assert_close(embeddings @ embeddings.T, expected, atol=1e-5, rtol=0)  # worst seen 5.8e-7


def test_narrower_embeddings_keep_the_strongest_directions():
    weight = torch.diag(torch.arange(8.0, 0, -1))
    heads = CorrespondenceHeads(8, (0,), out_width=3)
    heads.start_from_queries({0: weight})
    first = heads.project[0][0].weight
    assert (first[:3, :3].abs() - torch.diag(torch.tensor([8.0, 7, 6]) / 8)).abs().max() < 1e-6
    assert not first[:3, 3:].any()


def test_what_a_fresh_head_learns_from_reaches_every_weight():
    heads = CorrespondenceHeads(16, (0,), out_width=8)
    heads.start_from_queries({0: torch.randn(8, 16)})
    heads(states(), torch.ones(2, 5).bool())[0][:, 0].sum().backward()
    assert all(parameter.grad.any() for parameter in heads.parameters())


def test_a_stock_decoder_of_transformers_gives_all_that_heads_need():
    """Hidden states behind the word embeddings, a mask of rows, and the query projections of its layers."""
    shape = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    host = Qwen2Model(Qwen2Config(**shape, num_attention_heads=2, num_key_value_heads=1)).eval()
    heads = CorrespondenceHeads(16, range(2), out_width=16)
    heads.start_from_queries(
        {i: layer.self_attn.q_proj.weight * layer.input_layernorm.weight for i, layer in enumerate(host.layers)}
    )
    ids = torch.tensor([[1, 9, 9, 2], [3, 1, 9, 9]])
    hidden = host(ids, output_hidden_states=True).hidden_states[1:]
    embeddings = heads(hidden, ids == 9)
    queries = host.layers[1].self_attn.q_proj.weight @ hidden[1][ids == 9].T
    expected = cosine_similarity(queries.T[:, None], queries.T[None], dim=-1)
    torch.testing.assert_close(embeddings[1] @ embeddings[1].T, expected, atol=1e-5, rtol=0)


def test_embeddings_wider_than_the_queries_have_directions_are_refused():
    heads = CorrespondenceHeads(16, (3,), out_width=9)
    with pytest.raises(ValueError, match="are 9 wide, but the query projection of layer 3, 8 x 16, has only 8"):
        heads.start_from_queries({3: torch.randn(8, 16)})
