"""The table of a run can be read after any end of it."""

import errno
import json
import os

import pytest

from g2vlm.atomic import append_line
from g2vlm.train.metrics import append_row, keep_until, parts_of, read_rows


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "metrics.jsonl"
    for step in (5, 10, 15):
        append_row(file, {"step": step, "total": 1 / step, "text": None, "lr": 1e-4})
    return file


def test_rows_come_back_as_they_were_to_six_digits(table):
    rows = read_rows(table)
    assert [row["step"] for row in rows] == [5, 10, 15]
    assert rows[2] == {"step": 15, "total": 0.0666667, "text": None, "lr": 1e-4}


def test_what_is_no_column_of_every_row_is_a_loss_part(table):
    assert parts_of(read_rows(table)[0]) == ["text"]


def test_a_number_that_is_not_finite_becomes_null_for_json_has_none(tmp_path):
    append_row(tmp_path / "m.jsonl", {"step": 1, "total": float("nan"), "lr": float("inf")})
    assert json.loads((tmp_path / "m.jsonl").read_text()) == {"step": 1, "total": None, "lr": None}


def test_a_line_cut_off_by_a_full_disk_is_left_out_and_a_damaged_one_is_named(table):
    with table.open("a") as file:
        file.write('{"step": 20, "tot')
    assert [row["step"] for row in read_rows(table)] == [5, 10, 15]
    table.write_text('{"step": 5}\nstep 10\n')
    with pytest.raises(ValueError, match=r"metrics.jsonl:2: is not JSON"):
        read_rows(table)


def test_a_resumed_run_has_no_step_twice(table):
    with table.open("a") as file:
        file.write('{"step": 20, "tot')
    keep_until(table, 10)
    append_row(table, {"step": 15})
    assert [row["step"] for row in read_rows(table)] == [5, 10, 15]
    assert [path.name for path in table.parent.iterdir()] == ["metrics.jsonl"]


def test_a_table_that_is_not_there_yet_becomes_an_empty_one(tmp_path):
    keep_until(tmp_path / "metrics.jsonl", 0)
    assert read_rows(tmp_path / "metrics.jsonl") == []


def test_a_line_is_one_write(table, monkeypatch):
    written = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: written.append(data) or real(descriptor, data))
    append_row(table, {"step": 20})
    assert written == [b'{"step": 20}\n']


def test_a_full_disk_names_the_file(table, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*metrics.jsonl'"):
        append_line(table, "x")
