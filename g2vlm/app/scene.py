"""What the page remembers of one visitor: photos that were read, what was reconstructed of them, and files to take away."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from g2vlm.answering import Session
from g2vlm.drawing import depth_range
from g2vlm.export.cloud import Selection, cloud_of, finite_pixels, selected_pixels
from g2vlm.export.conventions import Y_UP, statement
from g2vlm.export.glb import glb
from g2vlm.export.overview import ViewPictures, pictures_of_view
from g2vlm.export.save import FORMATS, NEEDS, save
from g2vlm.pictures import Photo
from g2vlm.predictor import Predictor
from g2vlm.records import Reconstruction
from g2vlm.view.framing import spacing
from g2vlm.view.surfels import surfels
from g2vlm.view.turntable import turntable

TURNTABLE = "turntable"
TURNTABLE_FRAMES = 36

MOST_TILES = 15_000
TILE = 1.2
"""Side, in distances of neighbours."""


def downloads() -> list[str]:
    """What can be taken away here: formats whose packages are installed, and a turntable."""
    return [name for name in FORMATS if name not in NEEDS or find_spec(NEEDS[name][0]) is not None] + [TURNTABLE]


@dataclass(frozen=True)
class Scene:
    """session: None where the model does not speak. folder: for its files; it goes with the scene."""

    photos: tuple[Photo, ...]
    reconstruction: Reconstruction
    session: Session | None
    folder: Path

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def pictures(self) -> list[ViewPictures]:
        """Of each view, all with one range of depth."""
        finite = [finite_pixels(self.reconstruction, view) for view in range(len(self.reconstruction.names))]
        depths = depth_range(self.reconstruction.depth, finite)
        return [pictures_of_view(self.reconstruction, view, of_view, depths) for view, of_view in enumerate(finite)]

    def surface(self) -> Path:
        """A GLB of what is seen, with the cameras."""
        pixels = selected_pixels(self.reconstruction, Selection(MOST_TILES))
        cloud = cloud_of(self.reconstruction, pixels)
        tiles = surfels(cloud, TILE * spacing(self.reconstruction, len(cloud)))
        file = Path(tempfile.mkdtemp(dir=self.folder)) / "scene.glb"
        file.write_bytes(glb(self.reconstruction, tiles, statement(self.reconstruction, axes=Y_UP)))
        return file

    def packed(self, wanted: Sequence[str]) -> Path:
        """A ZIP with these downloads, in a folder of its own."""
        if not wanted:
            raise ValueError("no format was chosen; tick at least one")
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        formats = [name for name in wanted if name != TURNTABLE]
        if formats:
            save(self.reconstruction, folder / "scene", formats)
        if TURNTABLE in wanted:
            file = folder / "scene" / "turntable.gif"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(turntable(self.reconstruction, Selection(), file, num_frames=TURNTABLE_FRAMES))
        return Path(shutil.make_archive(str(folder / "scene"), "zip", folder, "scene"))


def open_scene(predictor: Predictor, photos: Sequence[Photo], folder: Path) -> Scene:
    """Read photos once, for maps and for questions; the scene's files will lie in a new folder inside this one."""
    if predictor.model.config.has_language:
        session = predictor.open(photos)
        reconstruction = session.reconstruction
    else:
        session, reconstruction = None, predictor.reconstruct(photos)
    return Scene(tuple(photos), reconstruction, session, Path(tempfile.mkdtemp(prefix="scene-", dir=folder)))
