import io
from collections.abc import Callable, Sequence

import pytest

from g2vlm.conversation import Turn


@pytest.fixture
def talk(run, hub, photos, monkeypatch) -> Callable:
    """Pipe these lines into a chat that begins with these photos."""

    def talk(*lines: str, begin: tuple = (), options: Sequence[str] = ()):
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        return run("chat", *begin, *options)

    return talk


def test_a_conversation_remembers_what_was_said(talk, hub, photos):
    outcome = talk("Why?", "", "  Where?  ", "/quit", "never", begin=(photos / "1.png", photos / "2.jpg"))
    assert (outcome.code, outcome.out) == (0, "?yhW\n?erehW\n")
    assert len(hub.asked) == 2
    assert hub.asked[1]["turns"] == (
        Turn("user", (0, 1, "Why?")),
        Turn("assistant", ("?yhW",)),
        Turn("user", ("Where?",)),
    )
    assert hub.asked[1]["names"] == ["1.png", "2.jpg"]


def test_the_end_of_the_input_ends_it(talk, hub, photos):
    assert talk("Why?", begin=(photos,)).code == 0


def test_photos_may_be_added_in_any_turn(talk, hub, photos):
    talk("Why?", f"/image {photos / '2.jpg'}", f"/image {photos / '10.webp'}", "Where?", begin=(photos / "1.png",))
    assert hub.asked[1]["turns"][-1] == Turn("user", (1, 2, "Where?"))
    assert hub.asked[1]["names"] == ["1.png", "2.jpg", "10.webp"]


def test_a_chat_may_begin_without_photos(talk, hub, photos):
    outcome = talk("Why?", f"/image {photos}", "Where?")
    assert "error: no image was given" in outcome.err
    assert outcome.out == "?erehW\n"
    assert hub.asked[0]["turns"] == (Turn("user", (0, 1, 2, "Where?")),)


def test_reset_begins_anew_with_the_first_photos(talk, hub, photos):
    talk("Why?", f"/image {photos / '2.jpg'}", "/reset", "Where?", begin=(photos / "1.png",))
    assert hub.asked[1]["turns"] == (Turn("user", (0, "Where?")),)
    assert hub.asked[1]["names"] == ["1.png"]


def test_options_reach_the_model_and_evidence_is_shown(talk, hub, photos):
    options = "--model m --device cpu --dtype float32 --resolution 84 --max-new-tokens 9 --reasoning geometry"
    outcome = talk("Why?", begin=(photos,), options=options.split())
    assert outcome.out == "measured: depth A 1.50 u about 2.4 m\n?yhW\n"
    assert hub.loaded == [("m", "cpu", "float32")]
    wanted = {"geometry": "on", "reasoning": "geometry", "resolution": 84, "max_new_tokens": 9}
    assert wanted.items() <= hub.asked[0].items()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/image nowhere.png", "error: nowhere.png: there is no such file or folder; check the path"),
        ("/image", "error: /image needs a file, folder or glob"),
        ("/imgae x.png", "error: there is no /imgae; /image PATH shows more photos"),
        ("/image {photos}/3.png", "3.png: not a JPEG"),
    ],
)
def test_a_slip_gets_one_line_and_the_chat_goes_on(talk, hub, photos, line, message):
    first = photos / "1.png"
    (photos / "3.png").write_bytes(b"no picture")
    outcome = talk(line.format(photos=photos), "Why?", begin=(first,))
    assert (outcome.code, outcome.out) == (0, "?yhW\n")
    assert message in outcome.err
    assert hub.asked[0]["names"] == ["1.png"]


def test_a_defect_keeps_its_traceback(talk, hub, photos, monkeypatch):
    def answer(**_):
        raise ValueError("shapes differ")

    monkeypatch.setattr(hub, "answer", answer)
    with pytest.raises(ValueError, match="shapes differ"):
        talk("Why?", begin=(photos,))


def test_photos_that_are_not_there_are_refused_before_the_model_loads(talk, hub):
    outcome = talk("Why?", begin=("nowhere",))
    assert outcome.code == 2
    assert not hub.loaded
