import lzma

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load

from g2vlm.losses.text import text_loss, token_losses
from g2vlm.records import IGNORE

TOKENS, WIDTH, VOCABULARY = 23, 8, 31


def task(*, seed=0, dtype=torch.float32):
    """Hidden states, head and labels, a third of which is not to be learnt."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(TOKENS, WIDTH, generator=generator, dtype=dtype).requires_grad_()
    head = torch.randn(VOCABULARY, WIDTH, generator=generator, dtype=dtype).requires_grad_()
    labels = torch.randint(VOCABULARY, (TOKENS,), generator=generator)
    labels[::3] = IGNORE
    return hidden, head, labels


@pytest.mark.parametrize("chunk", [1, 7, TOKENS, 1000])
def test_value_and_gradients_equal_cross_entropy_over_all_logits(chunk):
    hidden, head, labels = task(dtype=torch.float64)
    ours = text_loss(hidden, head, labels, chunk=chunk)
    theirs = F.cross_entropy(hidden @ head.T, labels, ignore_index=IGNORE)
    torch.testing.assert_close(ours, theirs)
    gradients = (torch.autograd.grad(loss, (hidden, head)) for loss in (ours, theirs))
    for our_gradient, their_gradient in zip(*gradients, strict=True):
        torch.testing.assert_close(our_gradient, their_gradient)


@pytest.mark.parametrize("variant", ["ref", "fix_oneblock"])
def test_the_losses_of_tokens_are_those_of_the_reference(recorded, shared, variant):
    tensors, meta = recorded("seedA/train_joint")
    weights = load(lzma.decompress((shared / "goldens/seedA/weights.safetensors.xz").read_bytes()))
    hidden = tensors[f"{variant}.last_hidden"][tensors["in.ce_loss_indexes"]]
    losses = token_losses(hidden, weights["language_model.lm_head.weight"].float(), tensors["in.packed_label_ids"])
    torch.testing.assert_close(losses, tensors[f"{variant}.ce_per_token"], atol=1e-5, rtol=1e-5)
    if variant == "ref":
        weighted = text_loss(
            hidden,
            weights["language_model.lm_head.weight"].float(),
            tensors["in.packed_label_ids"],
            weights=tensors["in.ce_loss_weights"],
        )
        assert weighted.item() == pytest.approx(meta["ref.loss"]["ce_weighted_mean"], rel=1e-5)


def test_never_more_than_one_chunk_of_logits_is_kept():
    hidden, head, labels = task()
    kept = []

    def pack(tensor):
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        token_losses(hidden, head, labels, chunk=5).sum().backward()
    with_vocabulary = [shape for shape in kept if VOCABULARY in shape and shape != (VOCABULARY, WIDTH)]
    assert all(shape.count(VOCABULARY) == 1 and min(shape) <= 5 for shape in with_vocabulary)


def test_weights_say_how_much_a_token_counts():
    hidden, head, labels = task()
    weights = torch.rand(TOKENS)
    known = labels != IGNORE
    losses = F.cross_entropy(hidden[known] @ head.T, labels[known], reduction="none")
    expected = (losses * weights[known]).sum() / weights[known].sum()
    torch.testing.assert_close(text_loss(hidden, head, labels, weights=weights), expected)


def test_without_labels_the_loss_is_zero_and_still_connected():
    hidden, head, labels = task()
    loss = text_loss(hidden, head, torch.full_like(labels, IGNORE))
    loss.backward()
    assert loss.item() == 0
    for leaf in (hidden, head):
        assert leaf.grad is not None
        assert not leaf.grad.any()
    assert text_loss(hidden[:0], head, labels[:0]).item() == 0


def test_another_label_can_mean_ignore():
    hidden, head, labels = task()
    with_zero = torch.where(labels == IGNORE, 0, labels.clamp(min=1))
    losses = token_losses(hidden, head, with_zero, ignore_index=0)
    assert torch.equal(losses == 0, with_zero == 0)


def test_a_frozen_head_gets_no_gradient():
    hidden, head, labels = task()
    text_loss(hidden, head.detach(), labels, chunk=4).backward()
    assert hidden.grad is not None
    assert head.grad is None


def test_under_autocast_the_softmax_is_single_precision():
    hidden, head, labels = task()
    with torch.autocast("cpu", torch.bfloat16):
        losses = token_losses(hidden, head, labels, chunk=4)
        logits = F.linear(hidden, head)
    assert logits.dtype == torch.bfloat16
    assert losses.dtype == torch.float32
    exact = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE, reduction="none")
    torch.testing.assert_close(losses, exact)


def test_half_precision_is_only_the_product():
    hidden, head, labels = (x.detach().bfloat16() if x.is_floating_point() else x for x in task())
    losses = token_losses(hidden, head, labels, chunk=4)
    torch.testing.assert_close(losses, F.cross_entropy((hidden @ head.T).float(), labels, reduction="none"))


def test_the_gradient_is_right():
    hidden, head, labels = task(dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda h, w: text_loss(h, w, labels[:5], chunk=2), (hidden[:5], head))
