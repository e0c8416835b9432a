"""Recipes in YAML: strict reading, one line for each mistake, and writing that round-trips."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from g2vlm.train.typed import BadField, apply_settings, load_typed, require, to_yaml


@dataclass(frozen=True)
class Weights:
    near: float = 1.0
    far: float = 2.0


@dataclass(frozen=True)
class Source:
    kind: Literal["rooms", "scenes"]
    weight: float = 1.0


@dataclass(frozen=True)
class Rate:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    factors: dict[str, float] = field(default_factory=dict)
    ema: float | None = None

    def __post_init__(self) -> None:
        require(self.lr > 0, "lr", self.lr, "it must be above 0")


@dataclass(frozen=True)
class Run:
    steps: int
    sources: tuple[Source, ...]
    rate: Rate = Rate()
    weights: Weights = Weights(far=5.0)
    name: str = "run"
    fast: bool = False

    def __post_init__(self) -> None:
        require(self.steps > self.rate.lr, "rate.lr", self.rate.lr, f"it must be below steps, {self.steps}")


PRESETS = {Weights: {"even": Weights(1.0, 1.0), "steep": Weights(1.0, 9.0)}}

TEXT = """\
steps: 10
sources:
  - {kind: rooms}
  - kind: scenes
    weight: 3
rate:
  lr: 1.0e-2
"""


def load(text: str) -> Run:
    return load_typed(text, Run, file="run.yaml", presets=PRESETS)


def test_what_is_not_written_keeps_its_default():
    run = load(TEXT)
    assert run == Run(10, (Source("rooms"), Source("scenes", 3.0)), Rate(lr=0.01))
    assert isinstance(run.sources[1].weight, float)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("steps: 10", "stpes: 10", "run.yaml:1: stpes: no such field; did you mean steps?"),
        ("weight: 3", "wieght: 3", "run.yaml:5: sources.1.wieght: no such field; did you mean weight?"),
        ("lr: 1.0e-2", "lr: 1e-2", "run.yaml:7: rate.lr is '1e-2', a string, but must be a number; YAML 1.1 .* 1.0e-2"),
        ("lr: 1.0e-2", "lr: fast", "run.yaml:7: rate.lr is 'fast', a string, but must be a number"),
        ("steps: 10", "steps: 10.0", "run.yaml:1: steps is 10.0, a number, but must be an integer; write 10"),
        ("steps: 10", "steps: true", "run.yaml:1: steps is true, a truth value, but must be an integer"),
        ("steps: 10", "steps: 010", "run.yaml:1: steps is '010'"),
        ("steps: 10", "steps:", "run.yaml:1: steps is empty, but must be an integer"),
        ("lr: 1.0e-2", "lr: true", "run.yaml:7: rate.lr is true"),
        ("lr: 1.0e-2", "betas: [0.9]", "run.yaml:7: rate.betas has 1 items; it must have 2"),
        ("lr: 1.0e-2", "betas: 0.9", "run.yaml:7: rate.betas is 0.9, a number, but must be a list"),
        ("lr: 1.0e-2", "factors: {head: x}", "run.yaml:7: rate.factors.head is 'x'"),
        ("lr: 1.0e-2", "lr: -1", "run.yaml:7: rate.lr is -1.0; it must be above 0"),
        ("lr: 1.0e-2", "lr: 11", "run.yaml:7: rate.lr is 11.0; it must be below steps, 10"),
        (
            "kind: scenes",
            "kind: scene",
            "run.yaml:4: sources.1.kind is 'scene', .* rooms, scenes; did you mean scenes?",
        ),
        ("{kind: rooms}", "rooms", "run.yaml:3: sources.0 is 'rooms', a string, but must be a mapping"),
        ("{kind: rooms}", "{weight: 1}", "run.yaml:3: sources.0.kind is missing"),
        ("steps: 10\n", "", "run.yaml:1: steps is missing"),
        ("steps: 10", "steps: 10\nsteps: 11", "run.yaml:2: steps is given twice"),
        ("steps: 10", "steps: 10\nname: 3", 'run.yaml:2: name is 3, an integer, but must be a string; .* "3"'),
        ("steps: 10", "steps: 10\nfast: 1", "run.yaml:2: fast is 1, an integer, but must be true or false"),
        ("steps: 10", "steps: [10", "run.yaml:2: not YAML"),
        ("steps: 10", "steps: !!python/name:os.system 10", "run.yaml:1: '10' has the tag .*python.*; delete it"),
    ],
)
def test_a_mistake_is_one_line_with_file_line_path_value_and_cure(old, new, message):
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        load(TEXT.replace(old, new))
    assert "\n" not in str(caught.value)


def test_an_empty_file_is_a_mistake_too():
    with pytest.raises(ValueError, match=r"^run.yaml: the whole is empty, but must be a mapping"):
        load("# nothing\n")


def test_a_partial_record_changes_what_its_own_field_holds():
    assert load(TEXT + "weights: {near: 3}\n").weights == Weights(3.0, 5.0)


def test_a_record_can_be_a_preset_by_name_or_one_with_changes():
    assert load(TEXT + "weights: steep\n").weights == Weights(1.0, 9.0)
    assert load(TEXT + "weights: {base: steep, near: 2}\n").weights == Weights(2.0, 9.0)
    with pytest.raises(ValueError, match=r"run.yaml:8: weights is 'stepp', .*did you mean steep"):
        load(TEXT + "weights: stepp\n")


def test_settings_reach_items_of_rows_and_are_typed_as_on_a_shell():
    run = apply_settings(
        load(TEXT),
        [
            "sources.0.weight=2",
            "rate.lr=1e-3",
            "rate.ema=0.99",
            "rate.factors={head.points: 5e-1}",
            "weights=even",
            "fast=true",
        ],
        presets=PRESETS,
    )
    assert run.sources == (Source("rooms", 2.0), Source("scenes", 3.0))
    assert run.rate == Rate(lr=1e-3, factors={"head.points": 0.5}, ema=0.99)
    assert run.weights == Weights(1.0, 1.0)
    assert run.fast
    assert apply_settings(run, ["rate.ema=null"]).rate.ema is None


def test_settings_are_checked_together_not_one_by_one():
    assert apply_settings(load(TEXT), ["rate.lr=20", "steps=30"]).rate.lr == 20


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("steps", "write path.to.field=value"),
        ("stpes=3", "stpes: no such field; did you mean steps"),
        ("rat.lr=3", "no field 'rat'; did you mean rate"),
        ("sources.2.weight=3", "'2' is not one of the 2 items"),
        ("steps.x=3", "no 'x' below a plain value"),
        ("steps=1e1", "steps is '1e1', a string, but must be an integer; write 10"),
        ("steps=0", "rate.lr is 0.01; it must be below steps, 0"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(setting, message):
    with pytest.raises(ValueError, match=f"^--set {setting}: .*{message}|^--set {setting}: {message}"):
        apply_settings(load(TEXT), [setting])


def test_a_record_comes_back_from_what_is_written_of_it():
    run = Run(
        3, (Source("rooms", 1e-7), Source("scenes", 1e22)), Rate(1e-12, ema=None, factors={"a.b": 2.0}), name="1e-3"
    )
    text = to_yaml(run)
    assert load(text) == run
    assert "betas: [0.9, 0.95]" in text
    assert "ema: null" in text


def test_bad_field_says_the_field_the_value_and_the_cure():
    with pytest.raises(BadField, match=r"^lr is 0; it must be above 0$"):
        Rate(lr=0)
