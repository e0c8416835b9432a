"""Writing coloured points with normals and confidence as PLY, beside plyfile and trimesh: `python benchmarks/export.py`.

All are given the same arrays (positions, normals, colours, confidence) and write the same points to the same disk, by turns;
then every file is read back and compared. The last line is JSON.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import trimesh
from plyfile import PlyData, PlyElement
from trimesh.exchange.ply import export_ply

from g2vlm.export.atomic import publish
from g2vlm.export.cloud import Cloud
from g2vlm.export.ply import PLY_TYPES, PROPERTIES, ply


def random_cloud(num_points: int) -> Cloud:
    random = np.random.default_rng(0)
    return Cloud(
        positions=random.random((num_points, 3), dtype=np.float32),
        normals=random.random((num_points, 3), dtype=np.float32),
        colours=random.integers(0, 256, (num_points, 3), dtype=np.uint8),
        confidence=random.random(num_points, dtype=np.float32),
    )


def by_g2vlm(cloud: Cloud, file: Path) -> None:
    publish(file.parent, [(file.name, ply(cloud))])


def by_plyfile(cloud: Cloud, file: Path) -> None:
    """A record per point, a column at a time, as its documentation shows."""
    points = np.empty(len(cloud), [(name, PLY_TYPES[kind]) for name, kind in PROPERTIES.items()])
    columns = (*cloud.positions.T, *cloud.normals.T, *cloud.colours.T, cloud.confidence)
    for name, column in zip(PROPERTIES, columns, strict=True):
        points[name] = column
    PlyData([PlyElement.describe(points, "vertex")], byte_order="<").write(str(file))


def by_trimesh(cloud: Cloud, file: Path) -> None:
    """A mesh without faces: the one way in which trimesh writes normals and further columns of points."""
    mesh = trimesh.Trimesh(
        cloud.positions,
        np.empty((0, 3), np.int64),
        vertex_normals=cloud.normals,
        vertex_colors=cloud.colours,
        vertex_attributes={"confidence": cloud.confidence},
        process=False,
    )
    file.write_bytes(export_ply(mesh, vertex_normal=True))


def by_trimesh_bare(cloud: Cloud, file: Path) -> None:
    """A point cloud, whose normals and confidence trimesh leaves out."""
    trimesh.PointCloud(cloud.positions, cloud.colours).export(file)


WRITERS: dict[str, Callable[[Cloud, Path], None]] = {
    "g2vlm": by_g2vlm,
    "plyfile": by_plyfile,
    "trimesh": by_trimesh,
    "trimesh, colours alone": by_trimesh_bare,
}


def is_read_back(cloud: Cloud, file: Path, *, whole: bool) -> bool:
    vertex = PlyData.read(str(file))["vertex"]
    columns = dict(
        zip(PROPERTIES, (*cloud.positions.T, *cloud.normals.T, *cloud.colours.T, cloud.confidence), strict=True)
    )
    names = PROPERTIES if whole else ("x", "y", "z", "red", "green", "blue")
    return all(np.array_equal(vertex[name], columns[name]) for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    cloud = random_cloud(options.points)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}; {len(cloud):,} points, {options.runs} runs"
    )
    seconds: dict[str, list[float]] = {name: [] for name in WRITERS}
    busy: dict[str, list[float]] = {name: [] for name in WRITERS}
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / str(number) / "points.ply" for number, name in enumerate(WRITERS)}
        for file in files.values():
            file.parent.mkdir()
        for _ in range(options.runs):
            for name, write in WRITERS.items():
                files[name].unlink(missing_ok=True)
                started, was_busy = perf_counter(), process_time()
                write(cloud, files[name])
                seconds[name].append(perf_counter() - started)
                busy[name].append(process_time() - was_busy)
        equal = {name: is_read_back(cloud, file, whole="alone" not in name) for name, file in files.items()}
    assert all(equal.values()), equal
    best, median = ({name: f(s) for name, s in seconds.items()} for f in (min, statistics.median))
    computing = {name: statistics.median(s) for name, s in busy.items()}
    print(f"{'':24}{'best':>9}{'median':>10}{'against g2vlm':>16}{'processor':>12}{'against g2vlm':>16}")
    for name in WRITERS:
        by_clock, by_processor = (values[name] / values["g2vlm"] for values in (median, computing))
        times = (
            f"{best[name]:7.2f} s{median[name]:8.2f} s{by_clock:15.2f}x{computing[name]:10.2f} s{by_processor:15.2f}x"
        )
        print(f"{name:24}{times}")
    print(json.dumps({"points": len(cloud), "best_s": best, "median_s": median, "processor_s": computing}))


if __name__ == "__main__":
    main()
