import pytest

from tests.parity.run import Case
from tests.parity.vggt import vggt_rows


@pytest.mark.parametrize("folder", ["a", "b"])
def test_the_encoder_reproduces_the_recorded_features(shared, folder):
    case = Case(folder, {}, {})
    for name, recorded, ours, tolerance in vggt_rows(shared / "goldens" / "pathways" / folder):
        case.add(name, ours, recorded, tolerance)
    assert case.rows
    assert [row for row in case.rows if not row.is_ok] == []
