"""A scene as USD, which Omniverse, Houdini, Blender and phones open: points and cameras, or surfaces and cameras."""

import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from g2vlm.data.readers.cameras import resized
from g2vlm.export.cloud import Cloud
from g2vlm.export.conventions import lines, y_up, y_up_cameras
from g2vlm.export.mesh import Mesh
from g2vlm.export.names import photo_names
from g2vlm.records import Reconstruction

POINT_WIDTH = 0.004
"""Of the median distance of points to the first camera."""

APERTURE = 36.0
"""Millimetres of film across a picture; only its ratio to the focal length counts."""


def usd(reconstruction: Reconstruction, shape: Cloud | Mesh, said: dict[str, str], *, text: bool) -> bytes:
    """A stage with y up; cameras without intrinsics have a place and no lens of their own."""
    stages, geom = import_module("pxr.Usd").Stage, import_module("pxr.UsdGeom")  # by name: usd-core has no types
    with tempfile.TemporaryDirectory() as folder:  # the library writes binary stages to files alone
        file = Path(folder) / ("scene.usda" if text else "scene.usdc")
        stage = stages.CreateNew(str(file))
        geom.SetStageUpAxis(stage, geom.Tokens.y)
        if reconstruction.scale == "metric":
            geom.SetStageMetersPerUnit(stage, 1.0)
        layer = stage.GetRootLayer()
        layer.customLayerData, layer.comment = said, "\n".join(lines(said))
        stage.SetDefaultPrim(geom.Xform.Define(stage, "/scene").GetPrim())
        if isinstance(shape, Mesh):
            surfaces = geom.Mesh.Define(stage, "/scene/surfaces")
            surfaces.CreateFaceVertexCountsAttr(np.full(len(shape.faces), 3, np.int32))
            surfaces.CreateFaceVertexIndicesAttr(shape.faces.astype(np.int32).ravel())
            surfaces.CreateSubdivisionSchemeAttr(geom.Tokens.none)
            _describe(surfaces, shape.vertices)
        else:
            points = geom.Points.Define(stage, "/scene/points")
            width = POINT_WIDTH * float(np.median(np.linalg.norm(shape.positions, axis=1)))
            points.CreateWidthsAttr(np.array([width], np.float32))
            points.SetWidthsInterpolation(geom.Tokens.constant)
            _describe(points, shape)
        for view, photo in enumerate(photo_names(reconstruction)):
            _add_camera(stage, reconstruction, view, photo)
        layer.Save()
        return file.read_bytes()


def _describe(geometry: Any, vertices: Cloud) -> None:
    geom, types = import_module("pxr.UsdGeom"), import_module("pxr.Sdf").ValueTypeNames
    geometry.CreatePointsAttr(y_up(vertices.positions))
    geometry.CreateNormalsAttr(y_up(vertices.normals))
    geometry.SetNormalsInterpolation(geom.Tokens.vertex)
    geometry.CreateDisplayColorPrimvar(geom.Tokens.vertex).Set(vertices.colours.astype(np.float32) / 255)
    confidence = geom.PrimvarsAPI(geometry).CreatePrimvar("confidence", types.FloatArray, geom.Tokens.vertex)
    confidence.Set(vertices.confidence)


def _add_camera(stage: Any, reconstruction: Reconstruction, view: int, photo: str) -> None:
    """USD multiplies row vectors, so matrices are transposed; its pictures have their middle where its axis goes through."""
    geom, matrix = import_module("pxr.UsdGeom"), import_module("pxr.Gf").Matrix4d
    camera = geom.Camera.Define(stage, f"/scene/camera_{view:02d}")
    pose = y_up_cameras(reconstruction.poses[view : view + 1].astype(np.float64))[0]
    camera.AddTransformOp().Set(matrix(pose.T.tolist()))
    camera.GetPrim().SetCustomDataByKey("photo", photo)
    if np.isfinite(reconstruction.intrinsics[view]).all():
        unit = resized(reconstruction.intrinsics[view].astype(np.float64), reconstruction.original_sizes[view], (1, 1))
        focal, vertical = APERTURE * unit[0, 0], APERTURE * unit[0, 0] / unit[1, 1]
        camera.CreateFocalLengthAttr(focal)
        camera.CreateHorizontalApertureAttr(APERTURE)
        camera.CreateVerticalApertureAttr(vertical)
        camera.CreateHorizontalApertureOffsetAttr(APERTURE * (0.5 - unit[0, 2]))
        camera.CreateVerticalApertureOffsetAttr(vertical * (unit[1, 2] - 0.5))
