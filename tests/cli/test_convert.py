"""The command hands over source, place and layout; the hub does and guards the rest."""

import inspect


def test_the_arguments_reach_the_hub(run, hub, tmp_path):
    outcome = run("convert", "some/model", tmp_path / "new", "--to", "official")
    assert (outcome.code, outcome.out) == (0, f"{tmp_path / 'new'}\n")
    run("convert", "some/model", tmp_path / "new", "--overwrite")
    assert hub.converted == [
        ("some/model", tmp_path / "new", "official", False),
        ("some/model", tmp_path / "new", "g2vlm", True),
    ]


def test_an_unknown_layout_is_refused(run, hub, tmp_path):
    assert run("convert", "some/model", tmp_path / "new", "--to", "gguf").code == 2
    assert not hub.converted


def test_the_true_hub_takes_what_the_command_hands_over(tmp_path):
    from g2vlm import hub

    inspect.signature(hub.convert).bind("in", tmp_path, to="official", overwrite=True)
    inspect.signature(hub.load).bind(None, device="auto", dtype="auto")


def test_an_unknown_model_is_refused_with_its_name(run, tmp_path):
    outcome = run("convert", tmp_path / "gone", tmp_path / "new")
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {tmp_path / 'gone'}")
    assert not (tmp_path / "new").exists()
