import pytest

from tests.parity.run import Case
from tests.parity.vggt import vggt_rows


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_encoder_reproduces_the_recorded_features(shared, name):
    folder = shared / "goldens" / "pathways" / name
    if not folder.is_dir():
        pytest.skip(f"no recorded numbers of pathways: {folder.relative_to(shared)} is not in {shared.name}/")
    case = Case(name, {}, {})
    for row in vggt_rows(folder):
        case.add(row.name, row.ours, row.recorded, row.tolerance)
    assert case.rows
    assert [row for row in case.rows if not row.is_ok] == []
