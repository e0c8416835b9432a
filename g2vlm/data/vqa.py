"""Questions about pictures as data sets publish them: every format becomes one kind of row."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np
from jaxtyping import Float

from g2vlm.conversation import Turn
from g2vlm.data.questions_words import with_options
from g2vlm.data.rows import BadRow, JsonRows, ParquetRows, first_byte
from g2vlm.data.spar import Marker, markers, spar_info

PICTURE, VIDEO = "<image>", "<video>"
PLACES = re.compile(f"({PICTURE}|{VIDEO})")

ROWS_LOOKED_AT = 20
"""First rows of a file by which its format is known."""

Record = dict[str, Any]

Rows = JsonRows | ParquetRows | list[Record]


@dataclass(frozen=True)
class Exchange:
    """What is asked and answered. `<image>` stands in a question where a picture does, `<video>` where all frames do."""

    question: str
    answer: str


@dataclass(frozen=True)
class VqaRow:
    """A question, or a conversation, about pictures; its questions hold one `<image>` for each, or one `<video>`.

    name: file and row, counted from 1 as lines are, for messages and logs.
    pictures: paths from the folder of the media, or the bytes of a picture file. video: path of a video file, or of a folder
    of frames; "" without.
    kind: what sort of question it is, in the words of the data set. options: without their letters; the answer is a letter.
    accepted: all answers that count as right, where there are several.
    markers: drawn on the pictures of the vision tower.
    depths, poses, intrinsics: of the pictures, as the file has them; units and axes are those of the data set.
    missing: what a row lacks that training needs, "" if nothing; such rows serve to score answers.
    extra: all else that the row says.
    """

    name: str
    turns: tuple[Exchange, ...]
    pictures: tuple[str | bytes, ...] = ()
    video: str = ""
    kind: str = ""
    options: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    markers: tuple[Marker, ...] = ()
    depths: tuple[str | bytes, ...] = ()
    poses: Float[np.ndarray, "pictures 4 4"] | None = None
    intrinsics: Float[np.ndarray, "pictures 3 3"] | None = None
    missing: str = ""
    extra: Record = field(default_factory=dict)

    @property
    def has_media(self) -> bool:
        return bool(self.pictures or self.video)

    def chat(self, num_photos: int) -> list[Turn]:
        """Its turns, with so many photos in their places: those of a video all where it stands."""
        photos = iter(range(num_photos))
        turns = []
        for exchange in self.turns:
            parts: list[str | int] = []
            for piece in filter(None, PLACES.split(exchange.question)):
                parts += photos if piece == VIDEO else [next(photos)] if piece == PICTURE else [piece]
            turns += [Turn("user", tuple(parts)), Turn("assistant", (exchange.answer,))]
        return turns


@dataclass(frozen=True)
class Format:
    """A way to write rows: the keys that tell it from others, and the function that reads one."""

    name: str
    keys: tuple[str, ...]
    read: Callable[[Record, Path], VqaRow]

    def fits(self, row: Record) -> bool:
        return all(key in row for key in self.keys)


class QuestionFile:
    """The rows of an annotation file, read when they are asked for; `format` was found by what the first ones look like."""

    def __init__(self, path: Path):
        self.path = path
        self.rows = rows_of(path)
        if not len(self.rows):
            raise ValueError(f"{path}: holds no row; wanted is one of: {FORMAT_NAMES}")
        self.format = format_of(path, self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, index: int) -> VqaRow:
        """Raises BadRow, which names file and row, for what cannot be used."""
        place = f"{self.path}:{index + 1}"
        try:
            row = self.rows[index]
            found = self.format.read(row, self.path)
            require_characters(found.turns)
        except BadRow as error:
            raise BadRow(error.reason, error.detail, place=place) from error
        return replace(found, name=place if not found.name else f"{place} ({found.name})")

    def each_good(self, tell: Callable[[BadRow], None]) -> Iterator[VqaRow]:
        """The rows in order; those that cannot be used are told and left out."""
        for index in range(len(self)):
            try:
                row = self.row(index)
            except BadRow as error:
                tell(error)
            else:
                yield row


def require_characters(turns: Sequence[Exchange]) -> None:
    """JSON can write halves of characters, which are no text."""
    for number, turn in enumerate(turns):
        try:
            f"{turn.question}{turn.answer}".encode()
        except UnicodeEncodeError as error:
            raise BadRow("holds half a character", f"turn {number + 1}: {error}") from error


def rows_of(path: Path) -> Rows:
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; name the file with the questions, and its media beside it")
    if path.suffix == ".parquet":
        return ParquetRows(path)
    lines = JsonRows(path)
    if first_byte(path) == b"{" and (len(lines) == 0 or not is_row(lines, 0)) and path.suffix != ".jsonl":
        return joined_rows(path)
    return lines


def is_row(rows: Rows, index: int) -> bool:
    try:
        row = rows[index]
    except BadRow:
        return False
    return any(each.fits(row) for each in FORMATS)


def format_of(path: Path, rows: Rows) -> Format:
    """Of the first rows that are of a known one."""
    faults = []
    for index in range(min(len(rows), ROWS_LOOKED_AT)):
        try:
            row = rows[index]
        except BadRow as error:
            faults.append(str(error))
            continue
        if fitting := [each for each in FORMATS if each.fits(row)]:
            return fitting[0]
        faults.append(f"has the keys {', '.join(row)}")
    raise ValueError(f"{path}: no known format, row 1 {faults[0]}; known are: {FORMAT_NAMES}")


# What formats share


def text_of(row: Record, key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BadRow(f"has no {key}")
    return value.strip()


def texts_of(row: Record, key: str) -> tuple[str, ...]:
    """A list of texts, or one text; empty where there is none."""
    value = row.get(key)
    values = [value] if isinstance(value, str) else value
    if values is None:
        return ()
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise BadRow(f"{key} is not a list of texts")
    return tuple(values)


def media_of(row: Record, *keys: str) -> tuple[str | bytes, ...]:
    """Pictures under the first of the keys that is there: paths, bytes, or objects with either, one or a list of them."""
    value = next((row[key] for key in keys if row.get(key) is not None), [])
    values = value if isinstance(value, list) else [value]
    found = [(each.get("bytes") or each.get("path")) if isinstance(each, dict) else each for each in values]
    media = tuple(each for each in found if isinstance(each, str | bytes) and each)
    if len(media) < len(found):
        raise BadRow(f"{' or '.join(keys)} is not a list of paths")
    return media


def rest(row: Record, *used: str) -> Record:
    return {key: value for key, value in row.items() if key not in used and value is not None}


def bare(option: str) -> str:
    """An option without the letter before it, as in "A. left" or "(A) left"."""
    return re.sub(r"^\s*\(?[A-Z][.):]\s*", "", option).strip()


def letter_of(row: Record, key: str, options: Sequence[str]) -> str:
    """The letter of the right option, of which some files write the number, counted from 0, and some "(B)"."""
    value = row.get(key)
    if type(value) is int:
        number = value
    else:
        letter = text_of(row, key).strip("().")
        number = ascii_uppercase.find(letter) if len(letter) == 1 else -1
    if not 0 <= number < len(options):
        raise BadRow(f"{key} is none of the options", f"{value} of {len(options)}")
    return ascii_uppercase[number]


def placed(questions: Sequence[str], num_pictures: int, has_video: bool) -> list[str]:
    """The questions with one `<image>` for each picture, or one `<video>`.

    A line break behind a placeholder goes. Without any placeholder, all pictures stand before the first question; where a
    single one is written for several pictures, all stand there.
    """
    texts = [re.sub(rf"({PICTURE}|{VIDEO})\n", r"\1", question) for question in questions]
    found = Counter(place for text in texts for place in PLACES.findall(text))
    wanted, number = (VIDEO, 1) if has_video else (PICTURE, num_pictures)
    if not number:
        if found:
            raise BadRow("asks about pictures, but names none", f"{sum(found.values())} placeholders")
        return texts
    if has_video and not found[VIDEO]:
        texts = [re.sub(f"(?:{PICTURE})+", VIDEO, text) for text in texts]
    elif not has_video and not found[PICTURE]:
        texts = [text.replace(VIDEO, PICTURE) for text in texts]
    places = [place for text in texts for place in PLACES.findall(text)]
    if not places:
        return [wanted * number + texts[0], *texts[1:]]
    if len(places) == 1 != number:
        return [text.replace(wanted, wanted * number) for text in texts]
    if places != [wanted] * number:
        named = "1 video" if has_video else f"{num_pictures} pictures"
        raise BadRow("placeholders do not match its media", f"{len(places)} of them, {named}")
    return texts


def one_turn(question: str, answer: str, num_pictures: int = 0, *, video: str = "") -> tuple[Exchange, ...]:
    return (Exchange(placed([question], num_pictures, bool(video))[0], answer),)


# Conversations: LLaVA, SPAR-7M, VSI-590K, VLM-3R


ROLES = (("human", "user"), ("gpt", "assistant"))


def conversation(row: Record, _: Path) -> VqaRow:
    said = [spoken(turn, number) for number, turn in enumerate(turns_of(row))]
    pictures, videos = media_of(row, "images", "image"), media_of(row, "video")
    if len(videos) > 1 or (videos and pictures):
        raise BadRow("has several media", f"{len(videos)} videos, {len(pictures)} pictures")
    video = str(videos[0]) if videos else ""
    info = spar_info(row.get("spar_info"))
    return VqaRow(
        name=str(row.get("id", "")),
        turns=tuple(map(Exchange, placed(said[::2], len(pictures), bool(video)), said[1::2])),
        pictures=pictures,
        video=video,
        kind=kind_of(row, info),
        markers=markers(info, len(pictures)),
        extra=rest(row, "id", "conversations", "images", "image", "video", "spar_info"),
    )


def turns_of(row: Record) -> list[Any]:
    turns = row.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise BadRow("has no conversations")
    if len(turns) % 2:
        raise BadRow("its conversation ends with a question", f"{len(turns)} turns")
    return turns


def spoken(turn: object, number: int) -> str:
    """What a turn says; people and models speak by turns."""
    if not isinstance(turn, dict):
        raise BadRow("a turn of its conversation is not an object", f"turn {number + 1}")
    role, text = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    if role not in ROLES[number % 2]:
        raise BadRow(
            "the turns of its conversation are not by human and gpt in turn", f"turn {number + 1} is by {role}"
        )
    if not isinstance(text, str) or not text.strip():
        raise BadRow("a turn of its conversation is empty", f"turn {number + 1}")
    return text.strip()


def kind_of(row: Record, info: Record) -> str:
    named = (info.get("type"), row.get("question_type"), row.get("data_source"), row.get("dataset_name"))
    return next((name for name in named if isinstance(name, str)), "")


# Rows with poses: the columns G2VLM trains on


def geometric(row: Record, _: Path) -> VqaRow:
    pictures = media_of(row, "image_list", "image_path", "images")
    if not pictures:
        raise BadRow("has no image_list")
    metadata = metadata_of(row)
    info = spar_info(metadata.get("spar_info"))
    depths = media_of(row, "depth_list")
    if depths and len(depths) != len(pictures):
        raise BadRow("has not one depth for each picture", f"{len(depths)} and {len(pictures)}")
    matrix = "intrinsic" if row.get("intrinsic") is not None else "depth_intrinsic"
    intrinsics = matrices(row.get(matrix), matrix, len(pictures), may_be_shared=True)
    return VqaRow(
        name=str(row.get("id") or metadata.get("id") or ""),
        turns=one_turn(text_of(row, "question"), text_of(row, "answer"), len(pictures)),
        pictures=pictures,
        kind=kind_of(row, info),
        markers=markers(info, len(pictures)),
        depths=depths,
        poses=matrices(row.get("poses"), "poses", len(pictures)),
        intrinsics=None if intrinsics is None else intrinsics[:, :3, :3],
        extra=rest(
            row, "id", "question", "answer", "image_list", "image_path", "images", "depth_list", "poses", matrix
        ),
    )


def metadata_of(row: Record) -> Record:
    """What stands under "metadata", as an object or as text; the published rows have a second one in it."""
    value = row.get("metadata")
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadRow("its metadata is not JSON", str(error)) from error
    if not isinstance(value, dict):
        return {}
    inner = value.get("metadata")
    return inner if isinstance(inner, dict) else value


def matrices(
    value: object, key: str, number: int, *, may_be_shared: bool = False
) -> Float[np.ndarray, "pictures side side"] | None:
    """One matrix of 3 x 3 or 4 x 4 for each picture, however its numbers are nested; None where there is none."""
    if value is None or value == []:
        return None
    numbers = np.array(flat(value))
    if may_be_shared and numbers.size in (9, 16):
        numbers = np.tile(numbers, number)
    side = {9 * number: 3, 16 * number: 4}.get(numbers.size)
    if side is None or numbers.dtype.kind not in "if" or not np.isfinite(numbers).all():
        raise BadRow(f"{key} is not one matrix for each picture", f"{numbers.size} values, {number} pictures")
    return numbers.astype(np.float64).reshape(number, side, side)


def flat(value: object) -> list[Any]:
    return [x for each in value for x in flat(each)] if isinstance(value, list) else [value]


# Benchmarks


def vsibench(row: Record, _: Path) -> VqaRow:
    question, scene = text_of(row, "question"), text_of(row, "scene_name")
    options = tuple(map(bare, texts_of(row, "options")))
    truth = row.get("ground_truth")
    if options:
        answer = letter_of(row, "ground_truth", options)
    else:
        answer = str(truth) if type(truth) in (int, float) else text_of(row, "ground_truth")
    video = f"{text_of(row, 'dataset')}/{scene}.mp4"
    return VqaRow(
        name=str(row.get("id", "")),
        turns=one_turn(with_options(question, options), answer, video=video),
        video=video,
        kind=str(row.get("question_type", "")),
        options=options,
        extra=rest(row, "id", "question", "ground_truth", "options", "question_type"),
    )


def mindcube(row: Record, _: Path) -> VqaRow:
    pictures = some_media(row, "images")
    return VqaRow(
        name=str(row.get("id", "")),
        turns=one_turn(text_of(row, "question"), text_of(row, "gt_answer"), len(pictures)),
        pictures=pictures,
        kind=str(row.get("type", "")),
        extra=rest(row, "id", "question", "gt_answer", "images", "type"),
    )


def some_media(row: Record, *keys: str) -> tuple[str | bytes, ...]:
    media = media_of(row, *keys)
    if not media:
        raise BadRow(f"has no {keys[0]}, a list of paths")
    return media


def omnispatial(row: Record, _: Path) -> VqaRow:
    """The picture follows from the question's number: 12_3 is the third about Dynamic_Reasoning/12.png."""
    name, options, task = text_of(row, "id"), texts_of(row, "options"), text_of(row, "task_type")
    answer = letter_of(row, "answer", options)
    return VqaRow(
        name=name,
        turns=one_turn(with_options(text_of(row, "question"), options), answer, 1),
        pictures=(f"{task}/{name.split('_')[0]}.png",),
        kind=str(row.get("sub_task_type", task)),
        options=options,
        extra=rest(row, "id", "question", "options", "answer", "sub_task_type"),
    )


def openeqa(row: Record, _: Path) -> VqaRow:
    video, answer = text_of(row, "episode_history"), text_of(row, "answer")
    return VqaRow(
        name=str(row.get("question_id", "")),
        turns=one_turn(text_of(row, "question"), answer, video=video),
        video=video,
        kind=str(row.get("category", "")),
        accepted=(answer, *texts_of(row, "extra_answers")),
        extra=rest(row, "question_id", "question", "answer", "category", "extra_answers"),
    )


def scanqa(row: Record, _: Path) -> VqaRow:
    """Of the test split, the answers are not published."""
    scene, answers = text_of(row, "scene_id"), texts_of(row, "answers")
    return VqaRow(
        name=str(row.get("question_id", "")),
        turns=one_turn(text_of(row, "question"), answers[0] if answers else "", video=scene),
        video=scene,
        accepted=answers,
        missing="" if answers else "answers",
        extra=rest(row, "question_id", "question", "answers"),
    )


def sqa3d(row: Record, path: Path) -> VqaRow:
    scene, situation, question = (text_of(row, key) for key in ("scene_id", "situation", "question"))
    answers = row.get("answers", [])
    is_list = isinstance(answers, list) and all(isinstance(each, dict) for each in answers)
    accepted = tuple(text_of(each, "answer") for each in answers) if is_list else ()
    return VqaRow(
        name=str(row.get("question_id", "")),
        turns=one_turn(f"{situation} {question}", accepted[0] if accepted else "", video=scene),
        video=scene,
        kind=question.split()[0].lower(),
        accepted=accepted,
        missing="" if accepted else f"answers, in a file beside {path.name}",
        extra=rest(row, "question_id", "situation", "question", "answers"),
    )


BLINK_NAME = re.compile(r"^(?:val|test)_(.+)_\d+$")
BLINK_TEMPLATES = "question_templates.json"


def blink(row: Record, path: Path) -> VqaRow:
    """From the hub's parquet files; the lists of answers in the authors' repository have neither pictures nor questions.

    What is asked is the same for all rows of some tasks, and is taken from a file of templates where one lies nearby.
    """
    name, answer = text_of(row, "idx"), text_of(row, "answer").strip("()")
    task = BLINK_NAME.match(name)
    kind = task[1] if task else ""
    pictures = tuple(each for i in range(1, 5) for each in media_of(row, f"image_{i}"))
    options = texts_of(row, "choices")
    if pictures:
        question = with_options(text_of(row, "question"), options)
        missing = "" if len(answer) == 1 else "the answer"
    else:
        question = blink_template(path, name.rsplit("_", 1)[0])
        missing = "pictures" if question else "pictures and question"
    return VqaRow(
        name=name,
        turns=one_turn(question, answer, len(pictures)),
        pictures=pictures,
        kind=kind,
        options=options,
        missing=missing,
        extra=rest(row, "idx", "question", "answer", "choices", *(f"image_{i}" for i in range(1, 5))),
    )


def blink_template(path: Path, task: str) -> str:
    for folder in list(path.resolve().parents)[:3]:
        if (folder / BLINK_TEMPLATES).is_file():
            question = json_object(folder / BLINK_TEMPLATES).get(task, "")
            return question if isinstance(question, str) else ""
    return ""


# Our own, the simplest


def plain(row: Record, _: Path) -> VqaRow:
    """Without "images" it is a question in words alone."""
    question, answer = text_of(row, "question"), text_of(row, "answer")
    pictures = media_of(row, "images")
    if "images" in row and (not pictures or not isinstance(row["images"], list)):
        raise BadRow("has no images, a list of paths")
    return VqaRow(
        name=str(row.get("id", "")),
        turns=one_turn(question, answer, len(pictures)),
        pictures=pictures,
        kind=str(row.get("kind", "")),
        extra=rest(row, "id", "question", "answer", "images", "kind"),
    )


FORMATS = (
    Format("LLaVA conversations", ("conversations",), conversation),
    Format("VSI-Bench", ("question", "ground_truth", "scene_name"), vsibench),
    Format("MindCube", ("question", "gt_answer", "images"), mindcube),
    Format("OmniSpatial", ("question", "options", "answer", "task_type"), omnispatial),
    Format("OpenEQA", ("question", "answer", "episode_history"), openeqa),
    Format("SQA3D", ("question", "situation", "scene_id"), sqa3d),
    Format("ScanQA", ("question", "question_id", "scene_id"), scanqa),
    Format("BLINK", ("idx", "answer"), blink),
    Format("G2VLM columns", ("question", "answer", "image_list"), geometric),
    Format("G2VLM columns", ("question", "answer", "image_path"), geometric),
    Format("question and answer", ("question",), plain),
)
"""In the order in which they are tried."""

FORMAT_NAMES = ", ".join(dict.fromkeys(each.name for each in FORMATS))


# Files that are one JSON object


def joined_rows(path: Path) -> list[Record]:
    """The rows of a file that is one object: SQA3D's, whose answers are in a second file, and BLINK's answers."""
    whole = json_object(path)
    if isinstance(whole.get("questions"), list):
        return sqa3d_rows(whole, json_beside(path, "questions", "sqa_annotations"))
    if isinstance(whole.get("annotations"), list):
        questions = json_beside(path, "sqa_annotations", "questions")
        if not questions:
            raise ValueError(f"{path}: holds answers alone; put the file with their questions beside it")
        return sqa3d_rows(questions, whole)
    if whole and all(isinstance(value, str) and BLINK_NAME.match(key) for key, value in whole.items()):
        return [{"idx": key, "answer": value} for key, value in whole.items()]
    for split in ("val", "test"):
        if isinstance(rows := whole.get(split), list) and all(isinstance(row, dict) for row in rows):
            return rows
    keys = ", ".join(list(whole)[:5])
    raise ValueError(f"{path}: no known format, its keys are {keys}; known are: {FORMAT_NAMES}")


def json_object(path: Path) -> Record:
    try:
        whole = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is neither JSON nor JSON lines ({error}); known are: {FORMAT_NAMES}") from error
    if type(whole) is not dict:
        raise ValueError(f"{path}: is not a JSON object; download it again")
    return whole


def json_beside(path: Path, mine: str, other: str) -> Record:
    """The file whose name has `other` where this one's has `mine`; empty where there is none."""
    beside = path.with_name(path.name.replace(mine, other))
    return json_object(beside) if beside != path and beside.is_file() else {}


def sqa3d_rows(questions: Record, annotations: Record) -> list[Record]:
    """Each question with its answers, each answer without a question by itself."""
    rows = [*questions.get("questions", []), *annotations.get("annotations", [])]
    if wrong := [row for row in rows if not isinstance(row, dict)]:
        raise ValueError(f"a question or answer of SQA3D is not an object but {wrong[0]!r}; download the file again")
    joined: dict[str, Record] = {}
    for row in rows:
        name = str(row.get("question_id"))
        joined[name] = joined.get(name, {}) | row
    return list(joined.values())
