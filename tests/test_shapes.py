import pytest
import torch
from jaxtyping import TypeCheckError

from g2vlm.geometry.pose import invert
from g2vlm.records import Geometry, Views


def test_while_tests_run_a_call_with_a_wrong_shape_is_refused():
    with pytest.raises(TypeCheckError):
        invert(torch.eye(3))


def test_while_tests_run_fields_that_disagree_are_refused():
    with pytest.raises(TypeCheckError):
        Views(images=torch.zeros(2, 3, 4, 5), poses=torch.eye(4).expand(3, 4, 4))


def test_maps_of_views_may_differ_in_size():
    for _ in range(20):
        Geometry(local_points=(torch.zeros(4, 5, 3), torch.zeros(6, 5, 3)), poses=torch.eye(4).expand(2, 4, 4))
