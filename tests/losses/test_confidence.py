import math

import pytest
import torch

from g2vlm.losses.confidence import confidence_loss

ERROR = torch.tensor([[[0.01, 0.03, 0.0199, 0.5]]])
VALID = torch.tensor([[[True, True, True, False]]])


def test_confidence_is_judged_by_whether_the_error_is_small():
    logits = torch.tensor([[[2.0, 2.0, -1.0, 9.0]]])
    sure, wrong, shy = (math.log1p(math.exp(x)) for x in (-2.0, 2.0, 1.0))
    assert confidence_loss(logits, ERROR, VALID).item() == pytest.approx((sure + wrong + shy) / 3)
    assert confidence_loss(logits, ERROR, VALID, good_below=0.1).item() == pytest.approx((2 * sure + shy) / 3)


def test_good_points_pull_up_bad_ones_down_and_unknown_ones_not_at_all():
    logits = torch.zeros(1, 1, 4, requires_grad=True)
    confidence_loss(logits, ERROR, VALID).backward()
    assert logits.grad is not None
    assert logits.grad.sign().tolist() == [[[-1, 1, -1, 0]]]


def test_the_points_get_no_gradient_from_confidence():
    error = ERROR.clone().requires_grad_()
    confidence_loss(torch.zeros(1, 1, 4, requires_grad=True), error, VALID).backward()
    assert error.grad is None


def test_without_a_valid_pixel_it_is_zero():
    logits = torch.zeros(1, 1, 4, requires_grad=True)
    loss = confidence_loss(logits, torch.full_like(ERROR, torch.nan), torch.zeros_like(VALID))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_the_gradient_is_right():
    logits = torch.randn(1, 1, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: confidence_loss(x, ERROR, VALID), logits)
