"""The page: what it answers to good and bad input, to ten visitors at once, and to a person with a browser."""

import io
import os
import re
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from browser import opened, screenshot
from PIL import Image

import g2vlm
from g2vlm.app.page import Page, launch, served
from g2vlm.app.uploads import Limits
from g2vlm.data.scenes import TEST_SEEDS, rooms
from g2vlm.records import Mark

REPOSITORY = Path(__file__).resolve().parents[2]


class Told(Exception):
    """What gradio shows a visitor."""


@pytest.fixture(scope="module")
def predictor():
    return g2vlm.load(device="cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[str]:
    """Two small photos of a room."""
    folder = tmp_path_factory.mktemp("photos")
    images = rooms([TEST_SEEDS[0]], num_views=2, height=84, width=112).views.images[0]
    files = [folder / f"{view}.png" for view in range(2)]
    for file, image in zip(files, images, strict=True):
        Image.fromarray((255 * image.permute(1, 2, 0)).round().byte().numpy()).save(file)
    return [str(file) for file in files]


@pytest.fixture
def page(predictor, tmp_path) -> Page:
    gradio = SimpleNamespace(Dropdown=lambda **options: options, Error=lambda message, **options: Told(message))
    return Page(predictor, Limits(new_tokens=8), tmp_path, gradio)


@pytest.fixture
def scene(page, photos):
    scene, *_ = page.reconstruct(None, photos)
    yield scene
    scene.close()


def test_photos_become_a_scene_with_all_its_maps(page, photos):
    _, marks, surface, choice, photo, depth, normals, confidence, account, chat, evidence = page.reconstruct(
        None, photos
    )
    assert (marks, chat, evidence) == ((), [], [])
    assert Path(surface).read_bytes()[:4] == b"glTF"
    assert choice["choices"] == [("0: 0.png", 0), ("1: 1.png", 1)]
    assert photo.shape == (84, 112, 3)
    for gallery in (depth, normals, confidence):
        assert [(panel.size, name) for panel, name in gallery] == [((448, 336), "0: 0.png"), ((448, 336), "1: 1.png")]
    assert account == "2 views, scale-free, by tiny."


def test_a_new_scene_removes_the_files_of_the_one_before(page, scene, photos):
    later, *_ = page.reconstruct(scene, photos[:1])
    assert later.folder.exists()
    assert not scene.folder.exists()


def test_points_are_named_by_letters_and_drawn(page, scene):
    marks, photo = page.mark(scene, (), 1, SimpleNamespace(index=(30, 40)))
    assert marks == (Mark(1, 30.5, 40.5, "A"),)
    assert photo[40, 30].tolist() == [255, 0, 0]
    marks, _ = page.mark(scene, marks, 0, SimpleNamespace(index=(1, 2)))
    assert marks[1] == Mark(0, 1.5, 2.5, "B")
    for _ in range(4):
        marks, _ = page.mark(scene, marks, 0, SimpleNamespace(index=(1, 2)))
    with pytest.raises(Told, match="6 points are all"):
        page.mark(scene, marks, 0, SimpleNamespace(index=(1, 2)))


def test_an_answer_grows_and_ends_with_its_evidence(page, scene):
    marks = (Mark(0, 20.5, 20.5, "A"), Mark(0, 80.5, 60.5, "B"))
    steps = list(page.ask(scene, marks, "How far apart are A and B?", True, []))
    chats = [chat for chat, _, _ in steps]
    assert all(chat[0] == {"role": "user", "content": "How far apart are A and B?"} for chat in chats)
    assert chats[-1][1]["content"].startswith("Measured:\n- depth A ")
    assert "Measured" not in chats[0][1]["content"]
    assert [len(drawn) for _, drawn, _ in steps] == [0] * (len(steps) - 1) + [1]
    *_, (chat, drawn, line) = page.ask(scene, marks, "Why?", False, chats[-1])
    assert len(chat) == 4
    assert (drawn, line) == ([], "")


@pytest.mark.parametrize(
    ("files", "says"), [(None, "no photo was given"), (["<img src=x>.txt"], "&lt;img src=x&gt;.txt: wanted are files")]
)
def test_what_cannot_be_read_is_told_without_drawing_a_strangers_html(page, tmp_path, monkeypatch, files, says):
    monkeypatch.chdir(tmp_path)
    for name in files or ():
        Path(name).write_text("")
    with pytest.raises(Told, match=re.escape(says)):
        page.reconstruct(None, files)


def test_without_a_scene_nothing_is_asked_or_packed(page):
    for ask in (lambda: list(page.ask(None, (), "Why?", True, [])), lambda: page.pack(None, ["ply"])):
        with pytest.raises(Told, match="press Reconstruct first"):
            ask()


def test_a_question_that_is_too_long_is_refused(page, scene):
    with pytest.raises(Told, match="2001 characters, over the limit of 2000"):
        list(page.ask(scene, (), "x" * 2001, False, []))


def test_our_own_mistakes_are_not_told_as_the_visitors(page):
    with pytest.raises(ValueError, match="invalid literal"), page._telling():
        int("x")


def test_without_gradio_the_error_names_the_extra(predictor, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ValueError, match=re.escape("pip install 'g2vlm[ui]'")):
        launch(predictor)


@pytest.fixture(scope="module")
def address(predictor):
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'g2vlm[ui]'")
    with served(predictor, Limits(file_bytes=100_000, new_tokens=8)) as blocks:
        yield blocks.local_url.rstrip("/")
    assert "GRADIO_TEMP_DIR" not in os.environ


@pytest.fixture
def web(address):
    httpx = pytest.importorskip("httpx")
    with httpx.Client(base_url=address, timeout=120) as client:
        yield client


def called(web, name: str, *data) -> str:
    """The events that a call ends with."""
    started = web.post(f"/gradio_api/call/{name}", json={"data": list(data)})
    return web.get(f"/gradio_api/call/{name}/{started.json()['event_id']}").text if started.is_success else started.text


def file(path: str) -> dict:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def test_it_listens_on_this_machine_alone(address):
    assert address.startswith("http://127.0.0.1:")


def test_a_port_that_is_taken_is_said(predictor, address):
    port = int(address.rsplit(":", 1)[1])
    with pytest.raises(ValueError, match=f"127.0.0.1 has no free port {port} to listen on"):
        launch(predictor, port=port)


def test_a_name_that_leads_out_of_the_folder_stays_inside(web, photos):
    content = Path(photos[0]).read_bytes()
    for name in ("../../../../evil.png", "a;$(touch evil)`x`.png"):
        (path,) = web.post("/gradio_api/upload", files={"files": (name, content)}).json()
        assert Path(path).resolve().is_relative_to(Path(os.environ["GRADIO_TEMP_DIR"]).resolve())
        assert "scene.glb" in called(web, "reconstruct", [file(path)])


def test_files_of_the_server_are_not_given_away(web, photos):
    for path in ("/etc/passwd", photos[0]):
        said = called(web, "reconstruct", [file(path)])
        assert "error" in said
        assert "glb" not in said
    for path in ("/etc/passwd", "../../../etc/passwd"):
        assert web.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_a_file_that_is_too_large_is_refused(web):
    answer = web.post("/gradio_api/upload", files={"files": ("a.png", bytes(200_000))})
    assert answer.status_code == 413


def test_no_page_speaks_of_other_hosts(web):
    config = web.get("/config").json()
    assert config["analytics_enabled"] is False
    assert not re.search(r"fonts\.g(oogleapis|static)\.com", web.get("/").text)


@pytest.mark.slow
def test_ten_visitors_at_once_are_served_one_after_the_other(address, web, photos):
    paths = web.post(
        "/gradio_api/upload", files=[("files", (Path(p).name, Path(p).read_bytes())) for p in photos]
    ).json()
    with ThreadPoolExecutor(10) as visitors:
        said = list(visitors.map(lambda _: called(web, "reconstruct", [file(path) for path in paths]), range(10)))
    assert all("event: complete" in one and "scene.glb" in one for one in said)
    surfaces = {re.search(r'"path": "([^"]*scene\.glb)"', one)[1] for one in said}
    assert surfaces


@pytest.fixture(scope="module")
def started():
    """Address of a page that the command line started."""
    pytest.importorskip("gradio", reason="gradio is not installed: pip install 'g2vlm[ui]'")
    command = [sys.executable, "-m", "g2vlm", "app", "--port", "7971"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        said = process.stdout.readline()
        assert "Ctrl-C ends it" in said
        yield said.split()[4].rstrip(";")
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.slow
def test_a_person_uploads_turns_asks_and_downloads(started, tmp_path):
    with opened(width=900, height=700) as (tab, away):
        tab.goto(started)
        tab.get_by_text("procedural room 1").click()
        tab.get_by_text("room_1_0").first.wait_for()
        tab.get_by_role("button", name="Reconstruct").click()
        tab.get_by_text("4 views, scale-free, by tiny.").wait_for()
        tab.wait_for_timeout(6000)
        scene = tab.locator("#scene canvas").bounding_box()
        before = screenshot(tab, "app_1_scene", tmp_path, clip=scene)
        x, y = scene["x"] + scene["width"] / 2, scene["y"] + scene["height"] / 2
        tab.mouse.move(x, y)
        tab.mouse.down()
        tab.mouse.move(x + 90, y + 20, steps=2)
        tab.mouse.up()
        tab.wait_for_timeout(4000)
        assert screenshot(tab, "app_2_turned", tmp_path, clip=scene) != before
        tab.add_style_tag(content="#scene {display: none}")  # drawn by the processor, it slows all else down
        photo = tab.locator("#photo img")
        size = photo.bounding_box()
        for across, down in ((0.2, 0.5), (0.6, 0.7)):
            photo.click(position={"x": across * size["width"], "y": down * size["height"]})
            tab.wait_for_timeout(3000)
        tab.get_by_label("Question", exact=True).fill("How far apart are A and B?")
        tab.get_by_role("button", name="Ask").click()
        tab.get_by_text("distance A B").first.wait_for()
        tab.wait_for_timeout(1000)
        screenshot(tab, "app_3_answered", tmp_path, full_page=True)
        for name in ("Depth", "Normals", "Confidence", "Evidence"):
            tab.get_by_role("tab", name=name).click()
            tab.wait_for_timeout(2500)
            screenshot(tab, f"app_4_{name.lower()}", tmp_path, full_page=True)
        tab.get_by_text("Take it away").click()
        tab.get_by_role("button", name="Pack").click()
        with tab.expect_download() as downloading:
            tab.locator("#zip a[download]").first.click()
        screenshot(tab, "app_5_packed", tmp_path, full_page=True)
        with zipfile.ZipFile(io.BytesIO(Path(downloading.value.path()).read_bytes())) as packed:
            assert {"scene/points.ply", "scene/scene.glb", "scene/overview.png"} <= set(packed.namelist())
    assert away == []


@pytest.mark.slow
def test_a_bad_file_is_told_on_the_page(started, tmp_path):
    bad = tmp_path / "no picture.png"
    bad.write_bytes(b"nothing")
    with opened() as (tab, _):
        tab.goto(started)
        tab.set_input_files("input[type=file]", str(bad))
        tab.get_by_text("no picture").first.wait_for()
        tab.get_by_role("button", name="Reconstruct").click()
        tab.get_by_text("not a JPEG, PNG, WebP, TIFF or BMP picture").wait_for()
        screenshot(tab, "app_6_bad", tmp_path)
