"""Presets, flags, validation."""

import dataclasses
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import docstring_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_punkvae.config import Config, DataConfig, ModelConfig, TrainConfig, batches, differences, validate
from flax_punkvae.errors import UserError
from flax_punkvae.experiments import benchmark, doctor, evaluate, explore, sample, train, train_features
from flax_punkvae.flags import parse, parse_known
from flax_punkvae.presets import from_run, read_preset, to_toml
from helpers.bad_input import BAD_FLAGS, BAD_PRESETS

REFERENCE = Path(__file__).parent.parent / "experiments" / "reference" / "config.toml"

seeds = st.integers(0, 2**31 - 1)
widths = st.lists(st.integers(1, 512), max_size=7).map(tuple)
tables = st.tuples(widths, st.sampled_from(("reference", "crisp", "sprite", "indices"))).flatmap(
    lambda choices: _table(*choices)
)


def _table(encoder: tuple[int, ...], render: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {
            "data": st.fixed_dictionaries(
                {
                    "source": st.text(),
                    "background": st.from_regex(r"#[0-9a-f]{6}", fullmatch=True),
                    "tile": st.none() | st.tuples(st.integers(1, 65_536), st.integers(1, 65_536)),
                    "margin": st.none() | st.integers(0, 65_536),
                    "spacing": st.none() | st.integers(0, 65_536),
                    "frames": st.sampled_from(("all", "first")),
                    "fit": st.sampled_from(("auto", "centre", "bottom", "crop", "refuse")),
                    "alpha": st.sampled_from(("auto", "background", *("keep", "hard") * (render == "indices"))),
                    "duplicates": st.sampled_from(("once", "keep")),
                    "render": st.just(render),
                    "colours": st.none() | st.integers(2, 65_536) if render == "indices" else st.none(),
                    "limit": st.none() | st.integers(2, 2**31 - 1),
                    "test_fraction": st.floats(0, 1, exclude_min=True, exclude_max=True),
                    "validation_fraction": st.floats(0.0, 1.0, exclude_min=True, exclude_max=True),
                    "shift": st.integers(0, 127),
                    "flip": st.booleans(),
                    "augment_until": st.floats(0, 1),
                    "split_seed": seeds,
                    "synthetic_count": st.integers(2, 1_000_000),
                    "synthetic_seed": seeds,
                    "synthetic_size": st.integers(8, 128),
                }
            ),
            "model": st.fixed_dictionaries(
                {
                    "likelihood": st.just("categorical" if render == "indices" else "gaussian"),
                    "embedding": st.integers(1, 1024),
                    "encoder_widths": st.just(encoder),
                    "decoder_widths": st.just(encoder[1:]),
                    "hidden": st.integers(1, 65_536),
                    "residual_blocks": st.integers(0, 64),
                    "pixel_hidden": st.just(0),
                    "latent": st.integers(1, 65_536),
                    "prior": st.sampled_from(("normal", "autoregressive")),
                    "encoder_dropout": st.floats(0, 0.99),
                    "decoder_dropout": st.floats(0, 0.99),
                }
            ),
            "train": st.fixed_dictionaries(
                {
                    "epochs": st.integers(1, 1_000_000),
                    "batch_size": st.integers(1, 65_536),
                    "fit_batches": st.booleans(),
                    "beta": st.floats(0, 1e6),
                    "beta_warmup": st.floats(0, 1),
                    "schedule": st.sampled_from(("constant", "cosine")),
                    "weight_decay": st.floats(0, 10),
                    "auxiliary": st.floats(0, 1),
                    "learning_rate": st.floats(0, 10, exclude_min=True, exclude_max=True),
                    "precision": st.sampled_from(("f32", "bf16")),
                    "checkpoint_every": st.integers(1, 2**31 - 1),
                    "patience": st.integers(0, 2**31 - 1),
                }
            ),
            "seed": seeds,
            "init": st.none() | st.text(),
        }
    )


def build(table: dict[str, Any]) -> Config:
    # In the test, not in the strategy: beartype, which checks constructors here, draws random numbers.
    return Config(
        DataConfig(**table["data"]),
        ModelConfig(**table["model"]),
        TrainConfig(**table["train"]),
        table["seed"],
        table["init"],
    )


def flags(*arguments: str, default: Config | None = None) -> Config:
    config = parse(Config, arguments, default or Config(), "prog")
    validate(config)
    return config


@given(tables)
def test_toml_round_trip(tmp_path_factory: pytest.TempPathFactory, table: dict[str, Any]):
    config = build(table)
    path = tmp_path_factory.mktemp("preset") / "config.toml"
    path.write_text(to_toml(config), encoding="utf-8")
    assert read_preset(path) == config
    # The standard library's reader sees the same values as ours.
    read = tomllib.loads(to_toml(config))
    expected = {key: value for key, value in table["data"].items() if value is not None}
    tile = {"tile": list(expected["tile"])} if "tile" in expected else {}
    assert {**expected, **tile} == read["data"]
    assert table["train"] == read["train"]


def test_a_run_of_before_a_field_keeps_what_it_did():
    """In old sprite models the dense layers saw all positions. Models without a palette have no such choice."""
    sprites = {"data": {"render": "indices"}, "model": {"likelihood": "categorical"}}
    old = from_run(sprites, Path("old"))
    assert (old.data.alpha, old.model.positions) == ("background", "all")
    assert from_run({"data": {}, "model": {}}, Path("old")).model.positions == "open"
    new = {"data": {"render": "indices", "alpha": "keep"}, "model": {"likelihood": "categorical", "positions": "open"}}
    new = from_run(new, Path("new"))
    assert (new.data.alpha, new.model.positions) == ("keep", "open")


def test_the_reference_preset_equals_the_defaults_and_names_every_field():
    assert read_preset(REFERENCE) == Config()
    table = tomllib.loads(REFERENCE.read_text(encoding="utf-8"))
    for name in ("data", "model", "train"):
        fields = {
            field.name: getattr(getattr(Config(), name), field.name)
            for field in dataclasses.fields(getattr(Config(), name))
        }
        assert set(table[name]) == {key for key, value in fields.items() if value is not None}


def test_the_preset_for_small_sets_leaves_no_image_out_and_reaches_its_unaugmented_end():
    preset = read_preset(REFERENCE.parent.parent / "own_sprites" / "config.toml")
    data, train = preset.data, preset.train
    assert (data.shift, data.flip, data.validation_fraction, train.fit_batches) == (1, True, 0.1, True)
    # Stopped only if it was at its best before the end of the augmentation.
    assert train.patience >= round((1 - data.augment_until) * train.epochs) > 0


def test_the_defaults_are_the_reference():
    # facts of the reference system
    assert Config().model == ModelConfig(
        likelihood="gaussian",
        encoder_widths=(32, 64, 128, 256),
        decoder_widths=(128, 64, 32),
        hidden=512,
        residual_blocks=0,
        latent=256,
        prior="normal",
        encoder_dropout=0.38,
        decoder_dropout=0.36,
    )
    train = Config().train
    assert (train.epochs, train.batch_size, train.beta, train.learning_rate) == (30, 64, 3.4, 0.0008)
    assert (train.beta_warmup, train.schedule, train.weight_decay) == (0.0, "constant", 0.0)
    assert (Config().data.test_fraction, Config().data.background) == (0.2, "#638596")


def test_flags_override_the_preset_and_it_the_defaults(tmp_path: Path):
    path = tmp_path / "preset.toml"
    path.write_text("seed = 7\n[train]\nbeta = 2.0\nepochs = 5\n")
    config = flags("--train.epochs", "9", default=read_preset(path))
    assert (config.seed, config.train.beta, config.train.epochs, config.train.batch_size) == (7, 2.0, 9, 64)


def test_a_flag_turns_off_what_the_preset_turns_on(tmp_path: Path):
    path = tmp_path / "preset.toml"
    path.write_text("[data]\nflip = true\n[train]\nfit_batches = true\n")
    preset = read_preset(path)
    assert preset.data.flip and preset.train.fit_batches
    config = flags("--data.no-flip", default=preset)
    assert not config.data.flip and config.train.fit_batches


@given(st.integers(1, 5000), st.integers(1, 300))
def test_fitted_batches_hold_every_image_in_the_fewest_steps_and_little_more(count: int, batch_size: int):
    """Oracle: by what they must hold, and the complete batches of today without the fit."""
    steps, size = batches(TrainConfig(batch_size=batch_size, fit_batches=True), count)
    assert size <= min(batch_size, count) and (steps - 1) * batch_size < count <= steps * size < count + steps
    assert batches(TrainConfig(batch_size=batch_size), count) == (
        (1, count) if batch_size > count else (count // batch_size, batch_size)
    )


def test_a_string_that_looks_like_a_flag_is_a_string(tmp_path: Path):
    path = tmp_path / "preset.toml"
    path.write_text('[data]\nsource = "--help"\n')
    assert read_preset(path).data.source == "--help"


@pytest.mark.parametrize(("arguments", "named"), BAD_FLAGS)
def test_a_bad_flag_is_one_line_that_names_it(arguments: tuple[str, ...], named: str):
    with pytest.raises(UserError) as caught:
        flags(*arguments)
    message = str(caught.value)
    assert named in message.replace("-", "_") or named in message
    assert "\n" not in message


@pytest.mark.parametrize(("text", "named"), BAD_PRESETS)
def test_a_bad_preset_is_one_line_that_names_file_and_field(tmp_path: Path, text: str, named: str):
    path = tmp_path / "preset.toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_preset(path)
    message = str(caught.value)
    assert str(path) in message
    assert named in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_bytes(b"\xff\xfe")]
)
def test_a_preset_that_cannot_be_read_is_one_line(tmp_path: Path, make):
    path = tmp_path / "preset.toml"
    make(path)
    with pytest.raises(
        UserError, match=r"preset\.toml: (cannot read the preset|not valid TOML|the preset is in UTF-16)"
    ):
        read_preset(path)


def test_a_preset_may_begin_with_a_byte_order_mark(tmp_path: Path):
    path = tmp_path / "preset.toml"
    path.write_bytes(b"\xef\xbb\xbfseed = 1\r\n[train]\r\nbeta = 2\r\n")
    assert read_preset(path) == dataclasses.replace(Config(), seed=1, train=TrainConfig(beta=2.0))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_preset_in_utf_16_is_named_as_such(tmp_path: Path, encoding: str):
    path = tmp_path / "preset.toml"
    path.write_bytes("seed = 1\n".encode(encoding))
    with pytest.raises(UserError, match=r"preset\.toml: the preset is in UTF-16 or UTF-32: save it again as UTF-8$"):
        read_preset(path)


def test_an_empty_table_changes_nothing(tmp_path: Path):
    path = tmp_path / "preset.toml"
    path.write_text("[data]\n[train]\n")
    assert read_preset(path) == Config()


@pytest.mark.parametrize("parser", [lambda words: flags(*words), lambda words: parse_known(DataConfig, words)])
def test_a_path_that_is_not_utf_8_is_one_line(parser):
    # As Python hands on the argument bytes b"--data.source=sprit\xe9s".
    with pytest.raises(UserError, match=r"^--data\.source=sprit\\udce9s: not UTF-8: ") as caught:
        parser(["--data.source=sprit\udce9s"])
    str(caught.value).encode()


def test_so_is_a_working_directory_that_is_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.getcwd", lambda: "/home/caf\udce9")
    with pytest.raises(UserError, match=r"^/home/caf\\udce9: not UTF-8: "):
        flags("--seed", "1")


def test_a_message_of_the_parser_has_no_colours(monkeypatch: pytest.MonkeyPatch):
    """Oracle: the message where standard output is no terminal."""
    with pytest.raises(UserError) as plain:
        flags("--train.epoch", "3")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    with pytest.raises(UserError) as coloured:
        flags("--train.epoch", "3")
    assert str(coloured.value) == str(plain.value)


def _descriptions(cls: Any) -> Iterator[str]:
    """The docstrings of a dataclass, of its fields, and of those of the dataclasses it holds."""
    yield cls.__doc__
    for base in filter(dataclasses.is_dataclass, cls.__mro__):
        yield from (field.description or "" for field in docstring_parser.parse_from_object(base).params)
    for declared in get_type_hints(cls).values():
        yield from (text for part in get_args(declared) or (declared,) for text in _of_nested(part))


def _of_nested(declared: Any) -> Iterator[str]:
    if dataclasses.is_dataclass(declared):
        yield from _descriptions(declared)


@pytest.mark.parametrize(
    ("options", "words", "described"),
    [
        # The parts of train's options: tyro puts all of them into several columns, in which the longest text wraps.
        *((cls, (), cls) for cls in (train.Where, DataConfig, ModelConfig, TrainConfig)),
        *((program.Options, (), program.Options) for program in (sample, evaluate, doctor, benchmark, train_features)),
        (explore.Options, ("run", "reconstruct"), explore.Reconstruct),
        (explore.Options, ("run", "interpolate"), explore.Interpolate),
        (explore.Options, ("run", "traverse"), explore.Traverse),
        (explore.Options, ("run", "edit"), explore.Edit),
    ],
)
def test_help_wraps_as_running_text(
    options: Any,
    words: tuple[str, ...],
    described: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """Oracle: in a terminal wider than any text, each is one line: the words of its docstring, joined by spaces."""
    monkeypatch.setenv("COLUMNS", "3000")
    with pytest.raises(SystemExit):
        parse(options, (*words, "--help"), None, "prog")
    output = capsys.readouterr().out
    for text in _descriptions(described):
        assert " ".join(text.split()) in output


def test_differences_name_the_fields():
    ours = dataclasses.replace(Config(), seed=3, train=TrainConfig(beta=2.0))
    assert differences(ours, Config()) == ["train.beta (2.0, was 3.4)", "seed (3, was 0)"]
    assert differences(Config(), Config()) == []


@given(tables)
def test_what_is_in_range_is_valid(table: dict[str, Any]):
    validate(build(table))
