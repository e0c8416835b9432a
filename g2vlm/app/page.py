"""The page in the browser: drop photos, see the scene, mark points, ask, take files away. Drawn by gradio."""

import html
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from transformers import MaxTimeCriteria, StoppingCriteriaList

from g2vlm.app.scene import Scene, downloads, open_scene
from g2vlm.app.talk import draw_evidence, spoken
from g2vlm.app.uploads import Limits, photos_of
from g2vlm.data.scenes import TEST_SEEDS, rooms
from g2vlm.drawing import panel
from g2vlm.errors import raised_here
from g2vlm.export.save import USUAL
from g2vlm.marks import COLOURS, draw_marks
from g2vlm.pictures import SUFFIXES
from g2vlm.predictor import Predictor
from g2vlm.records import Answer, Mark
from g2vlm.video import SUFFIXES as VIDEO_SUFFIXES

if TYPE_CHECKING:
    from gradio import Blocks, SelectData  # pyright: ignore[reportMissingImports]

LOOPBACK = "127.0.0.1"
EXAMPLES, EXAMPLE_VIEWS, EXAMPLE_SIZE = 2, 4, (336, 448)
QUESTIONS = ("How large is the room?", "Which point is closer to the camera, A or B?", "How far apart are A and B?")
ORBIT = (105, 70, None)
"""Degrees about the vertical and from it, and a distance that shows all: where one looks from first."""

PANEL = 448
"""Pixels of the longer side of depth, normals and confidence."""

Marks = tuple[Mark, ...]


def launch(
    predictor: Predictor,
    limits: Limits | None = None,
    *,
    host: str = LOOPBACK,
    port: int | None = None,
    started: Callable[[str], None] = print,
) -> None:
    """Serve the page until somebody interrupts. started: is told its address. port: the first free one from 7860 on."""
    with served(predictor, limits or Limits(), host=host, port=port) as blocks:
        started(blocks.local_url)
        blocks.block_thread()


@contextmanager
def served(predictor: Predictor, limits: Limits, *, host: str = LOOPBACK, port: int | None = None) -> Iterator[Any]:
    """The page while the block lasts, with all files of its visitors in one folder that goes with it."""
    gr = _gradio()
    with tempfile.TemporaryDirectory(prefix="g2vlm-app-") as folder, _settings_of_gradio(Path(folder)):
        page = Page(predictor, limits, Path(folder), gr)
        blocks = page.blocks()
        blocks.queue(max_size=limits.waiting, default_concurrency_limit=1)
        try:
            blocks.launch(
                server_name=host,
                server_port=port,
                share=False,
                quiet=True,
                prevent_thread_lock=True,
                max_file_size=limits.file_bytes,
                state_session_capacity=limits.scenes,
                footer_links=[],
                enable_monitoring=False,
                ssr_mode=False,
                theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
                css=STYLE,
            )
        except OSError as error:
            raise ValueError(
                f"{host} has no free port {port or 'from 7860 on'} to listen on; give another one"
            ) from error
        try:
            yield blocks
        finally:
            blocks.close(verbose=False)


@contextmanager
def _settings_of_gradio(folder: Path) -> Iterator[None]:
    """What gradio takes from the environment alone: where uploads lie, and that nobody is told of the page."""
    wanted = {"GRADIO_TEMP_DIR": str(folder / "uploads"), "GRADIO_ANALYTICS_ENABLED": "False"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _gradio() -> ModuleType:
    try:
        import gradio  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError(
            "the page needs gradio: pip install 'g2vlm[ui]'; g2vlm predict and ask work without"
        ) from error
    return gradio


STYLE = "footer {display: none !important}"


@dataclass
class Page:
    """What the page does, and how it is laid out. folder: for all files. gr: gradio."""

    predictor: Predictor
    limits: Limits
    folder: Path
    gr: Any

    def reconstruct(self, before: Scene | None, files: Sequence[str] | None) -> list[Any]:
        """A new scene, and all that shows it; the one before is forgotten."""
        with self._telling():
            photos = photos_of(files or (), self.limits)
            scene = open_scene(self.predictor, photos, self.folder)
        if before is not None:
            before.close()
        names = [f"{view}: {photo.name}" for view, photo in enumerate(photos)]
        galleries = [
            [(panel(pixels, PANEL), name) for pixels, name in zip(maps, names, strict=True)]
            for maps in list(zip(*scene.pictures(), strict=True))[1:]
        ]
        choice = self.gr.Dropdown(choices=list(zip(names, range(len(names)), strict=True)), value=0, interactive=True)
        return [scene, (), str(scene.surface()), choice, photos[0].rgb, *galleries, self._account(scene), [], []]

    def _account(self, scene: Scene) -> str:
        views = len(scene.photos)
        again = "" if views > 1 else " One photo gives depth, but no camera motion."
        scale = scene.reconstruction.scale.replace("_", "-")
        return f"{views} views, {scale}, by {self.predictor.source}.{again}"

    def show_view(self, scene: Scene | None, marks: Marks, view: int | None) -> Any:
        """A photo with what is marked on it."""
        return None if scene is None else draw_marks(scene.photos, marks, ())[view or 0].rgb

    def mark(self, scene: Scene | None, marks: Marks, view: int | None, event: "SelectData") -> tuple[Marks, Any]:
        """One more point, named by the next letter."""
        if scene is None:
            return marks, None
        with self._telling():
            if len(marks) == len(COLOURS):
                raise ValueError(f"{len(marks)} points are all that there are colours for; clear them first")
        x, y = event.index
        marks = (*marks, Mark(view or 0, x + 0.5, y + 0.5, "ABCDEF"[len(marks)]))
        return marks, self.show_view(scene, marks, view)

    def ask(
        self, scene: Scene | None, marks: Marks, question: str, measures: bool, chat: list[dict]
    ) -> Iterator[tuple[list[dict], Any, str]]:
        """The chat as the answer grows, the evidence at the end, and an empty line for the next question."""
        with self._telling():
            if scene is None:
                raise ValueError("there is no scene yet; drop photos and press Reconstruct first")
            if scene.session is None:
                raise ValueError("this model sees but does not speak; start the page with another one to ask")
            if len(question) > self.limits.question_characters:
                raise ValueError(
                    f"the question has {len(question)} characters, over the limit of {self.limits.question_characters}"
                )
            chat = [*chat, {"role": "user", "content": question}]
            for said in spoken(
                scene.session,
                self.predictor.processor.tokenizer,
                question,
                marks=marks,
                reasoning="geometry" if measures else None,
                max_new_tokens=self.limits.new_tokens,
                stopping_criteria=StoppingCriteriaList([MaxTimeCriteria(self.limits.answer_seconds)]),
            ):
                text, evidence = (said.text, said.evidence) if isinstance(said, Answer) else (said, ())
                told = [*chat, {"role": "assistant", "content": _with_evidence(text, [s.text for s in evidence])}]
                drawn = draw_evidence(draw_marks(scene.photos, marks, ()), evidence)
                yield told, [(photo.rgb, caption) for photo, caption in drawn], ""

    def pack(self, scene: Scene | None, wanted: list[str]) -> str:
        """A ZIP of the formats that were ticked."""
        with self._telling():
            if scene is None:
                raise ValueError("there is no scene yet; drop photos and press Reconstruct first")
            return str(scene.packed(wanted))

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """What a visitor can mend is said on the page; a file's name is a stranger's text, so no HTML of it is drawn."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise self._told("these photos do not fit into memory; drop fewer") from error
        except ValueError as error:
            if not raised_here(error.__traceback__):
                raise
            raise self._told(html.escape(str(error))) from error

    def _told(self, text: str) -> Exception:
        """Shown until it is closed."""
        return self.gr.Error(text, duration=None, print_exception=False)

    def blocks(self) -> "Blocks":
        gr = self.gr
        keep = self.limits.scene_seconds
        with gr.Blocks(
            title="g2vlm", analytics_enabled=False, delete_cache=(keep // 4, keep), fill_width=True
        ) as blocks:
            scene = gr.State(time_to_live=keep, delete_callback=_close)
            marks = gr.State((), time_to_live=keep)
            gr.Markdown("# A scene in 3-D from a few photos, and answers about it")
            with gr.Row():
                with gr.Column(scale=2):
                    files, go = self._inputs()
                    chat, question, measures, ask = self._chat()
                with gr.Column(scale=3):
                    surface = gr.Model3D(
                        label="Scene; drag to turn, scroll to come closer",
                        height=420,
                        camera_position=ORBIT,
                        elem_id="scene",
                    )
                    account = gr.Markdown()
                    view, photo, clear, evidence, galleries = self._views()
                    wanted, pack, packed = self._downloads()
            shown = [surface, view, photo, *galleries, account, chat, evidence]
            go.click(
                self.reconstruct,
                [scene, files],
                [scene, marks, *shown],
                concurrency_id="model",
                show_progress_on=surface,
            )
            view.change(self.show_view, [scene, marks, view], photo, show_progress="hidden")
            photo.select(self._mark_listener(), [scene, marks, view], [marks, photo], show_progress="hidden")
            clear.click(lambda scene, view: ((), self.show_view(scene, (), view)), [scene, view], [marks, photo])
            asked = [scene, marks, question, measures, chat]
            for event in (ask.click, question.submit):
                event(self.ask, asked, [chat, evidence, question], concurrency_id="model", show_progress_on=question)
            pack.click(self.pack, [scene, wanted], packed)
        return blocks

    def _mark_listener(self) -> Callable[..., Any]:
        """gradio hands the place of a click to the argument that has this type."""

        def mark(scene, marks, view, event):
            return self.mark(scene, marks, view, event)

        mark.__annotations__["event"] = self.gr.SelectData
        return mark

    def _inputs(self) -> tuple[Any, Any]:
        gr = self.gr
        kinds = [*SUFFIXES, *VIDEO_SUFFIXES]
        files = gr.File(label="Photos or a video of one scene", file_count="multiple", file_types=kinds, height=160)
        go = gr.Button("Reconstruct", variant="primary")
        labels = [f"procedural room {number + 1}" for number in range(EXAMPLES)]
        gr.Examples(
            [[room] for room in _example_rooms(self.folder)], files, example_labels=labels, cache_examples=False
        )
        return files, go

    def _chat(self) -> tuple[Any, Any, Any, Any]:
        gr = self.gr
        chat = gr.Chatbot(label="Questions about the scene", height=320, feedback_options=None, buttons=["copy"])
        question = gr.Textbox(label="Question", placeholder=QUESTIONS[0], max_length=self.limits.question_characters)
        with gr.Row():
            measures = gr.Checkbox(True, label="measure first, and show where")
            ask = gr.Button("Ask")
        gr.Examples([[text] for text in QUESTIONS], question, label="For example", cache_examples=False)
        return chat, question, measures, ask

    def _views(self) -> tuple[Any, Any, Any, Any, list[Any]]:
        gr, galleries = self.gr, []
        fitting = {"object_fit": "contain", "fit_columns": False, "height": 480}
        with gr.Tabs():
            with gr.Tab("Photos"):
                with gr.Row():
                    view = gr.Dropdown(label="View", choices=[])
                    clear = gr.Button("Clear points")
                photo = gr.Image(
                    label="Click to mark points A, B, ... for a question",
                    interactive=False,
                    buttons=[],
                    elem_id="photo",
                )
            galleries = []
            for name in ("Depth", "Normals", "Confidence"):
                with gr.Tab(name):
                    galleries.append(gr.Gallery(label=name, format="png", columns=2, **fitting))
            with gr.Tab("Evidence"):
                evidence = gr.Gallery(label="What an answer rests on", format="png", columns=2, **fitting)
        return view, photo, clear, evidence, galleries

    def _downloads(self) -> tuple[Any, Any, Any]:
        gr = self.gr
        with gr.Accordion("Take it away", open=False):
            wanted = gr.CheckboxGroup(downloads(), value=[*USUAL, "glb"], label="Formats")
            pack = gr.Button("Pack")
            packed = gr.File(label="ZIP", interactive=False, elem_id="zip")
        return wanted, pack, packed


def _close(scene: Scene | None) -> None:
    if scene is not None:
        scene.close()


def _with_evidence(answer: str, measured: Sequence[str]) -> str:
    """What was measured, and below it the answer that follows from it, which may still be growing."""
    lines = [f"- {html.escape(text)}" for text in measured]
    return "\n".join([*(["Measured:", *lines, ""] if lines else []), html.escape(answer) or "…"])


def _example_rooms(folder: Path) -> list[list[str]]:
    """Photos of rooms that no model was trained on."""
    height, width = EXAMPLE_SIZE
    photographed = []
    for number, seed in enumerate(TEST_SEEDS[:EXAMPLES]):
        room = rooms([seed], num_views=EXAMPLE_VIEWS, height=height, width=width)
        photographed.append([str(folder / f"room_{number + 1}_{view}.png") for view in range(EXAMPLE_VIEWS)])
        for path, image in zip(photographed[-1], room.views.images[0], strict=True):
            Image.fromarray((255 * image.permute(1, 2, 0)).round().byte().numpy()).save(path)
    return photographed
