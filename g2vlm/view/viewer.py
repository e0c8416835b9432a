"""A reconstruction in the browser, shown by viser: as a server to walk around in and measure, or as one page."""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from g2vlm.drawing import DepthRange, depth_range, panel
from g2vlm.evidence import measurable_of
from g2vlm.export.cloud import Cloud, Selection, cloud_of, finite_pixels, selected_pixels
from g2vlm.export.glb import COLOUR, frustum_depth
from g2vlm.export.names import stem
from g2vlm.export.overview import pictures_of_view
from g2vlm.records import Reconstruction
from g2vlm.view.framing import frame_of, spacing
from g2vlm.view.measuring import picked, said_length

if TYPE_CHECKING:
    from viser import CameraFrustumHandle, SceneApi, ViserServer  # pyright: ignore[reportMissingImports]

LOOPBACK = "127.0.0.1"
STEPS = 100
"""Of the slider of confidence."""

PANEL = 448
"""Pixels of the longer side of a photo beside the scene."""

POINT = 0.25
"""Size of a point for viser, in distances of neighbours: what it calls 1 is drawn about four times as wide."""

PICK = (255, 0, 255)
HOW_TO_MEASURE = "Tick *measure*, then click two points."


def page(reconstruction: Reconstruction, selection: Selection) -> str:
    """One HTML page that opens without a network: the points, and the cameras with their photos."""
    with _server(LOOPBACK, 8080) as server:
        Shown(server, reconstruction, selection)
        return server.scene.as_html()


@contextmanager
def serve(
    reconstruction: Reconstruction, selection: Selection, *, host: str = LOOPBACK, port: int = 8080
) -> Iterator["Viewer"]:
    """A viewer that ends with the block. host: who may look; loopback is this machine alone."""
    with _server(host, port) as server:
        yield Viewer(server, reconstruction, selection)


@contextmanager
def _server(host: str, port: int) -> Iterator["ViserServer"]:
    viser = _viser()
    with redirect_stdout(io.StringIO()):  # viser announces itself whatever it is told
        server = viser.ViserServer(host=host, port=port, label="g2vlm", verbose=False)
    try:
        yield server
    finally:
        with redirect_stdout(io.StringIO()):
            server.stop()


def _viser() -> ModuleType:
    try:
        import viser  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError("the viewer needs viser: pip install 'g2vlm[viewer]'; --turntable works without") from error
    return viser


class Shown:
    """A reconstruction on a server of viser: points and cameras.

    cloud: the points that may be shown, of which `is_shown` says which are.
    """

    def __init__(self, server: "ViserServer", reconstruction: Reconstruction, selection: Selection):
        pixels = selected_pixels(reconstruction, selection)
        self.reconstruction, self.cloud = reconstruction, cloud_of(reconstruction, pixels)
        self.is_shown: Bool[np.ndarray, " points"] = np.ones(len(self.cloud), bool)
        self.point_size = POINT * spacing(reconstruction, len(self.cloud))
        self.server, self.scene = server, server.scene
        frame = frame_of(reconstruction, self.cloud)
        self.radius = frame.radius
        self.scene.set_up_direction(frame.up)
        eye = reconstruction.poses[:, :3, 3].mean(0) + 0.5 * frame.radius * (frame.front + 0.5 * frame.up)
        camera: Any = server.initial_camera
        camera.position, camera.look_at, camera.up = map(tuple, (eye, frame.middle, frame.up))
        self.draw_points()
        self.cameras = _cameras(self.scene, reconstruction)

    def draw_points(self) -> None:
        """Draw them anew, after `is_shown` or `point_size` changed."""
        self.scene.add_point_cloud(
            "/points",
            self.cloud.positions[self.is_shown],
            self.cloud.colours[self.is_shown],
            point_size=self.point_size,
            point_shape="circle",
            point_shading="flat",
            precision="float32",
        )


def _cameras(scene: "SceneApi", reconstruction: Reconstruction) -> dict[int, "CameraFrustumHandle"]:
    """Frusta that hold their photos, by view; none for a camera that could not be fitted."""
    depth = frustum_depth(reconstruction)
    known = [view for view in range(len(reconstruction.names)) if np.isfinite(reconstruction.intrinsics[view]).all()]
    cameras = {}
    for view in known:
        (height, width), pose = reconstruction.original_sizes[view], reconstruction.poses[view]
        fov = 2 * float(np.arctan(height / 2 / reconstruction.intrinsics[view][1, 1]))
        handle = scene.add_camera_frustum(
            f"/cameras/{stem(reconstruction, view)}",
            fov,
            width / height,
            color=COLOUR[:3],
            image=reconstruction.images[view],
            thickness=2,
            thickness_units="screen",
            wxyz=Rotation.from_matrix(pose[:3, :3]).as_quat(scalar_first=True),
            position=pose[:3, 3],
        )
        handle.scale = depth / handle.compute_canonical_frustum_size()[2]
        cameras[view] = handle
    return cameras


class Viewer(Shown):
    """The same with sliders, pictures of the view that was clicked last, and a rule."""

    def __init__(self, server: "ViserServer", reconstruction: Reconstruction, selection: Selection):
        super().__init__(server, reconstruction, selection)
        self.address = f"http://{server.get_host()}:{server.get_port()}"
        self.measurable = measurable_of(reconstruction)
        self.ends: list[Float[np.ndarray, "3"]] = []
        self._finite = [finite_pixels(reconstruction, view) for view in range(len(reconstruction.names))]
        self._depths = depth_range(reconstruction.depth, self._finite)
        gui = server.gui
        gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
        gui.add_markdown(f"**{len(reconstruction.names)} views, {reconstruction.scale.replace('_', '-')}**")
        self.how_many = gui.add_markdown("")
        low, high = _range(self.cloud)
        step = (high - low) / STEPS
        self.least = gui.add_slider("confidence at least", low, high, step, low)
        self.size = gui.add_slider("size of points", 0.25, 4.0, 0.25, 1.0)
        self.with_cameras = gui.add_checkbox("cameras", True)
        self.measures = gui.add_checkbox("measure", False)
        self.measured = gui.add_markdown(HOW_TO_MEASURE)
        labels = [f"{view}: {name}" for view, name in enumerate(reconstruction.names)]
        self.view = gui.add_dropdown("view", labels, hint="Or click a camera.")
        photo, depth = self._pictures(0)
        self.photo = gui.add_image(photo, label="photo")
        self.depth = gui.add_image(depth, label=_depth_label(reconstruction, self._depths))
        self._listen(labels)
        self._choose_points()

    def wait(self) -> None:
        """Until somebody interrupts."""
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return

    def show_view(self, view: int) -> None:
        """Photo and depth of this view beside the scene."""
        self.photo.image, self.depth.image = self._pictures(view)

    def _pictures(self, view: int) -> tuple[np.ndarray, np.ndarray]:
        """Photo and depth, large enough to be looked at."""
        shown = pictures_of_view(self.reconstruction, view, self._finite[view], self._depths)
        return np.array(panel(shown.photo, PANEL)), np.array(panel(shown.depth, PANEL))

    def pick(self, eye: Float[np.ndarray, "3"], direction: Float[np.ndarray, "3"]) -> None:
        """Take the point that a ray meets for an end of the rule; a third one begins anew."""
        positions = self.cloud.positions[self.is_shown]
        number = picked(positions, eye, direction)
        if number is None:
            return
        ends = [*self.ends, positions[number]] if len(self.ends) == 1 else [positions[number]]
        self._draw_rule(ends)

    def _listen(self, labels: list[str]) -> None:
        self.least.on_update(lambda _: self._choose_points())
        self.size.on_update(lambda _: self._choose_points())
        self.view.on_update(lambda _: self.show_view(labels.index(self.view.value)))
        self.with_cameras.on_update(lambda _: self._show_cameras())
        self.measures.on_update(lambda _: self._listen_for_picks())
        for view, camera in self.cameras.items():
            camera.on_click(lambda _, label=labels[view]: setattr(self.view, "value", label))

    def _choose_points(self) -> None:
        self.is_shown = self.cloud.confidence >= self.least.value - 1e-6
        self.point_size = POINT * self.size.value * spacing(self.reconstruction, len(self.cloud))
        self.draw_points()
        self.how_many.content = f"{int(self.is_shown.sum()):,} of {len(self.cloud):,} points"

    def _show_cameras(self) -> None:
        for camera in self.cameras.values():
            camera.visible = self.with_cameras.value

    def _listen_for_picks(self) -> None:
        if self.measures.value:
            self.scene.on_click()(lambda event: self.pick(np.array(event.ray_origin), np.array(event.ray_direction)))
        else:
            self.scene.remove_click_callback()
            self._draw_rule([])

    def _draw_rule(self, ends: list[Float[np.ndarray, "3"]]) -> None:
        for number in range(2):
            self.scene.remove_by_name(f"/rule/{number}")
        self.scene.remove_by_name("/rule/line")
        self.ends = ends
        for number, end in enumerate(ends):
            self.scene.add_icosphere(f"/rule/{number}", 0.01 * self.radius, PICK, position=end)
        if len(ends) < 2:
            self.measured.content = "Click the other end." if ends else HOW_TO_MEASURE
            return
        length = float(np.linalg.norm(ends[1] - ends[0]))
        line = np.stack(ends)[None]
        self.scene.add_line_segments("/rule/line", line, PICK, thickness=3, thickness_units="screen")
        self.measured.content = f"**{said_length(self.measurable, length)}**"


def _range(cloud: Cloud) -> tuple[float, float]:
    """Least and greatest confidence; all of it where every point has the same."""
    low, high = float(cloud.confidence.min()), float(cloud.confidence.max())
    return (low, high) if high > low else (0.0, 1.0)


def _depth_label(reconstruction: Reconstruction, depths: DepthRange) -> str:
    unit = "m" if reconstruction.scale == "metric" else "scale-free"
    return f"depth, bright {depths.near:.3g} to dark {depths.far:.3g}, {unit}"
