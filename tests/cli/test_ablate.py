"""The comparison through the command line; what it does is tested in tests/test_ablate.py."""

from g2vlm import ablate


def test_the_table_is_printed_at_the_end(run, tmp_path, monkeypatch):
    given = {}

    def compare(suite, out, **options):
        given.update(options, suite=suite)
        (out / "table.md").write_text("| variant |\n")

    monkeypatch.setattr(ablate, "compare", compare)
    outcome = run("ablate", "--out", tmp_path, "--seeds", 2, "--steps", 5, "--only", "none", "--only", "naive")
    assert (outcome.code, outcome.out) == (0, "| variant |\n")
    assert (given["suite"], given["seeds"], given["steps"], given["only"]) == ("pathways", 2, 5, ["none", "naive"])
    assert given["weights"] == "tiny"


def test_a_variant_that_is_not_there_is_one_line(run, tmp_path):
    outcome = run("ablate", "--out", tmp_path / "out", "--only", "geoalign_top_4")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    assert "only names 'geoalign_top_4'; did you mean geoalign_top_" in outcome.err
    assert not (tmp_path / "out").exists()
