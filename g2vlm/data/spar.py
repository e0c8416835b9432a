"""Markers that SPAR-7M describes in a row's `spar_info`, drawn as its authors draw them."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from g2vlm.data.rows import BadRow
from g2vlm.marks import COLOURS, draw_disc, draw_outline
from g2vlm.pictures import Photo

# Pixels of the picture at its own size, before anything is made smaller.
RADIUS = 20
LINE = 20
PLAIN_DISTANCE, LABELLED_DISTANCE = 7.5, 20.0
"""From a box to the middle of its outline, which reaches 17.5 pixels (with a label: 30) beyond the box."""
LETTERS = 60

Shape = Literal["point", "bbox"]


@dataclass(frozen=True)
class Marker:
    """One marker on one picture, counted from 0.

    sides: x and y of a point, or left, top, right and bottom of a box, in thousandths of the width and of the height.
    label: beside it; on a ground of its colour where `is_filled`, otherwise in green.
    """

    picture: int
    sides: tuple[float, ...]
    colour: str
    label: str = ""
    is_filled: bool = False


ON_THE_PICTURE: dict[str, tuple[str, ...]] = {
    "obj_spatial_relation_oo": ("red_bbox", "blue_bbox"),
    "depth_prediction_oc": ("red_point", "blue_point"),
    "depth_prediction_oo": ("red_point", "blue_point", "green_point"),
    "distance_prediction_oc": ("red_point",),
    "distance_prediction_oo": ("red_point", "blue_point"),
    "distance_infer_center_oo": ("red_point", "blue_point", "green_point"),
    "spatial_volume_infer": ("red_bbox",),
    "spatial_imagination_oc": ("red_bbox", "blue_bbox", "green_bbox"),
    "spatial_imagination_oo": ("red_bbox", "blue_bbox", "green_bbox", "yellow_bbox"),
    "position_matching": ("red_bbox",),
}
"""What is drawn on the first picture, by type."""

ONE_PER_PICTURE: dict[str, tuple[str, ...]] = {
    "depth_prediction_oc_mv": ("red_point", "blue_point"),
    "depth_prediction_oo_mv": ("red_point", "blue_point", "green_point"),
    "distance_prediction_oc_mv": ("red_point",),
    "distance_prediction_oo_mv": ("red_point", "blue_point"),
    "distance_prediction_oo_video": ("red_point", "blue_point"),
    "distance_infer_center_oo_mv": ("red_point", "green_point", "blue_point"),
    "spatial_imagination_oc_mv": ("green_bbox", "blue_bbox", "red_bbox"),
    "spatial_imagination_oo_mv": ("green_bbox", "blue_bbox", "red_bbox", "yellow_bbox"),
    "spatial_imagination_oc_video": ("green_bbox", "blue_bbox", "red_bbox"),
    "spatial_imagination_oo_video": ("green_bbox", "blue_bbox", "red_bbox", "yellow_bbox"),
    "obj_frame_locate": ("red_bbox",),
}
"""What is drawn on the pictures that `point_img_idx` or `bbox_img_idx` name, in this order."""

LABELLED = ("spatial_imagination_oc_video", "spatial_imagination_oo_video")
"""Types of the table above whose boxes are called object0, object1 and so on."""

LISTS: dict[str, tuple[Shape, tuple[str, ...]]] = {
    "spatial_imagination_map_mv": ("bbox", ()),
    "distance_infer_center_oo_video": ("point", ("objectA",)),
}
"""Types with one blue marker for each entry of `bbox_list` or `point_list`; labels of the first, then object0 and so on."""

COLOURS_PRESENT = ("red_bbox", "blue_bbox", "green_bbox")

UNMARKED = (
    "view_change_infer",
    "camera_motion_infer",
    "distance_infer_center_oc",
    "distance_infer_center_oc_mv",
    "appearance_order",
    "room_size",
    "nav",
    "obj_count",
    "spatial_imagination_oc_video_hard",
    "spatial_imagination_oo_video_hard",
)


def spar_info(value: object) -> dict[str, Any]:
    """What a row says under `spar_info`: an object, or one written as text; empty without."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadRow("its spar_info is not JSON", str(error)) from error
    if value in (None, ""):
        return {}
    if not isinstance(value, dict):
        raise BadRow("its spar_info is not an object")
    return value


def markers(info: dict[str, Any], num_pictures: int) -> tuple[Marker, ...]:
    """The markers of a row. Raises BadRow for an unknown type with markers, and for what does not fit its pictures."""
    kind = str(info.get("type", ""))
    if kind in UNMARKED:
        return ()
    if kind in ON_THE_PICTURE:
        found = [marker(info, key, 0) for key in ON_THE_PICTURE[kind]]
    elif kind in ONE_PER_PICTURE:
        keys = ONE_PER_PICTURE[kind]
        labels = [f"object{i}" if kind in LABELLED else "" for i in range(len(keys))]
        places = pictures_of(info, shape_of(keys[0]), len(keys))
        found = [marker(info, *each) for each in zip(keys, places, labels, strict=True)]
    elif kind in LISTS:
        found = listed(info, *LISTS[kind])
    elif kind in ("obj_spatial_relation_oc_mv", "obj_spatial_relation_oo_mv"):
        keys = [key for key in COLOURS_PRESENT if info.get(key)]
        on_one = kind == "obj_spatial_relation_oc_mv"
        if not on_one and len(keys) != 2:
            raise BadRow(f"{kind} needs two boxes in its spar_info", f"it has {', '.join(keys) or 'none'}")
        places = pictures_of(info, "bbox", 1) * len(keys) if on_one else pictures_of(info, "bbox", 2)
        found = [marker(info, key, place) for key, place in zip(keys, places, strict=True)]
    elif any(name.endswith(("_point", "_bbox", "_list")) for name in info):
        raise BadRow("its spar_info has markers of an unknown type", kind or "none is given")
    else:
        return ()
    for each in found:
        if not 0 <= each.picture < num_pictures:
            raise BadRow("a marker of its spar_info lies on a picture that it does not have", str(each.picture))
    return tuple(found)


def shape_of(key: str) -> Shape:
    return "point" if key.endswith("_point") else "bbox"


def marker(info: dict[str, Any], key: str, picture: int, label: str = "") -> Marker:
    """The one that stands under a key such as `red_point`; the published files wrap it in a list."""
    outer = info.get(key)
    value = outer[0] if isinstance(outer, list) and len(outer) == 1 else outer
    return Marker(picture, sides(value, shape_of(key), key), key.split("_")[0], label, is_filled=bool(label))


def listed(info: dict[str, Any], shape: Shape, first_labels: tuple[str, ...]) -> list[Marker]:
    key = f"{shape}_list"
    values = inner_list(info, key)
    labels = [*first_labels, *(f"object{i}" for i in range(len(values)))]
    places = pictures_of(info, shape, len(values))
    return [
        Marker(place, sides(value, shape, key), "blue", label)
        for place, value, label in zip(places, values, labels, strict=False)
    ]


def pictures_of(info: dict[str, Any], shape: Shape, number: int) -> list[int]:
    """The pictures that so many markers lie on."""
    key = f"{shape}_img_idx"
    places = inner_list(info, key)
    if len(places) < number or not all(type(place) is int for place in places):
        raise BadRow(f"{key} in its spar_info does not name {number} pictures", str(places))
    return places[:number]


def inner_list(info: dict[str, Any], key: str) -> list[Any]:
    """The published files wrap these lists in another."""
    value = info.get(key)
    inner = value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list) else value
    if not isinstance(inner, list) or not inner:
        raise BadRow(f"its spar_info has no {key}")
    return inner


def sides(value: object, shape: Shape, key: str) -> tuple[float, ...]:
    number = 2 if shape == "point" else 4
    if (
        not isinstance(value, list)
        or len(value) != number
        or not all(type(x) in (int, float) and math.isfinite(x) for x in value)
    ):
        raise BadRow(f"{key} in its spar_info is not {number} numbers", str(value))
    return tuple(map(float, value))


def draw_markers(photos: Sequence[Photo], marked: Sequence[Marker]) -> list[Photo]:
    """Copies of the photos with markers, drawn at their own size; photos without are handed back as they are."""
    drawn = {each.picture: photos[each.picture].rgb.copy() for each in marked}
    for each in marked:
        drawn[each.picture] = with_marker(drawn[each.picture], each)
    return [Photo(photo.name, drawn[i]) if i in drawn else photo for i, photo in enumerate(photos)]


def with_marker(pixels: np.ndarray, each: Marker) -> np.ndarray:
    height, width = pixels.shape[:2]
    scale = np.array([width, height] * (len(each.sides) // 2)) / 1000
    at = [int(side) for side in np.array(each.sides) * scale]
    if len(at) == 2:
        draw_disc(pixels, at[0] + 0.5, at[1] + 0.5, COLOURS[each.colour], radius=RADIUS)
        return labelled(pixels, each, (at[0] + RADIUS, at[1] + RADIUS), "ls") if each.label else pixels
    far = LABELLED_DISTANCE if each.label else PLAIN_DISTANCE
    left, top, right, bottom = at
    outline = (left - far, top - far, right + far, bottom + far)
    draw_outline(pixels, outline, COLOURS[each.colour], line=LINE)
    return labelled(pixels, each, (right, bottom), "rt") if each.label else pixels


def labelled(pixels: np.ndarray, each: Marker, at: tuple[int, int], anchor: str) -> np.ndarray:
    """anchor: which corner of the text lies `at` the place, in PIL's letters; text that would hang out below stands above."""
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(LETTERS)
    left, top, right, bottom = draw.textbbox(at, each.label, font, anchor)
    if bottom > image.height:
        anchor = f"{anchor[0]}b"
        left, top, right, bottom = draw.textbbox(at, each.label, font, anchor)
    if each.is_filled:
        draw.rectangle((left, top, right, bottom), fill=COLOURS[each.colour])
    draw.text(at, each.label, "white" if each.is_filled else COLOURS["green"], font, anchor, stroke_width=2)
    return np.array(image)
