"""A run directory: filled in place, whole or not at all; refused where it would lose something; its run.json."""

import contextlib
import dataclasses
import errno
import json
import os
from pathlib import Path

import pytest

from flax_punkvae.config import Config, DataConfig, ModelConfig, TrainConfig, to_table
from flax_punkvae.errors import UserError
from flax_punkvae.presets import read_preset, to_toml
from flax_punkvae.training import run_directory

FACTS = {"data": {"sha256": "abc", "source": "synthetic"}, "starts": []}


def start(path: Path, config: Config | None = None) -> Path:
    with run_directory.locked(path):
        run_directory.check_free(path)
        run_directory.start(path, config or Config(), FACTS)
    return path


def test_start_writes_config_and_facts(tmp_path: Path):
    config = Config(seed=5)
    run = start(tmp_path / "a" / "run", config)
    assert read_preset(run / "config.toml") == config
    assert run_directory.read_facts(run) == {"config": json.loads(json.dumps(to_table(config))), **FACTS}
    assert os.listdir(tmp_path / "a") == ["run"]
    assert sorted(os.listdir(run)) == [".lock", "config.toml", "run.json"]


def test_an_empty_directory_is_free_any_other_is_not(tmp_path: Path):
    run_directory.check_free(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    start(tmp_path / "empty")
    with pytest.raises(UserError, match="already holds a run: add --resume"):
        run_directory.check_free(tmp_path / "empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"holds other files \(thesis\.tex\)"):
        run_directory.check_free(tmp_path / "full")
    with pytest.raises(UserError, match="is not a directory"):
        run_directory.check_free(tmp_path / "full" / "thesis.tex")


@pytest.mark.parametrize(
    "name", [".DS_Store", "._config", "Thumbs.db", "desktop.ini", "lost+found", "@eaDir", "Icon\r", ".localized"]
)
def test_what_a_file_manager_left_is_no_content(tmp_path: Path, name: str):
    (tmp_path / name).touch()
    start(tmp_path)
    assert run_directory.holds_run(tmp_path) and (tmp_path / name).exists()


def test_somebodys_config_is_not_taken_for_an_unfinished_start(tmp_path: Path):
    (tmp_path / "config.toml").write_text("seed = 3  # mine")
    with pytest.raises(UserError, match=r"holds other files \(config\.toml\)"):
        start(tmp_path)
    assert (tmp_path / "config.toml").read_text() == "seed = 3  # mine"
    (tmp_path / "config.toml").rename(tmp_path / "run.json")
    with pytest.raises(UserError, match=r"holds other files \(run\.json\)"):
        run_directory.check_free(tmp_path)


def test_directories_behind_links_and_the_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "big").mkdir()
    (tmp_path / "link").symlink_to("big")
    start(tmp_path / "link")
    assert run_directory.holds_run(tmp_path / "big")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    start(Path())
    assert run_directory.holds_run(tmp_path / "here")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(UserError, match="is not a directory"):
        run_directory.check_free(tmp_path / "dangling")


def test_a_start_that_was_cut_off_may_be_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Killed at each of its writes: never a run, always free for the next start."""

    class Killed(BaseException):
        pass

    for reached in range(4):
        run, calls = tmp_path / str(reached), []

        def replace(path: Path, target: Path, calls=calls, reached=reached, real=Path.replace) -> Path:
            calls.append(path)
            if len(calls) - 1 == reached // 2 and reached % 2 == 0:
                raise Killed
            moved = real(path, target)
            if len(calls) - 1 == reached // 2:
                raise Killed
            return moved

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(Path, "replace", replace)
            start(run)
        assert run_directory.holds_run(run) == (reached == 3)
        if reached < 3:
            assert run_directory.holds_run(start(run))


def test_a_disk_that_refuses_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="cannot be a run directory \\(No space left"):
        start(tmp_path / "run")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["x" * 300, "file/run"])
def test_a_place_that_cannot_be_is_one_line(tmp_path: Path, name: str):
    (tmp_path / "file").touch()
    for action in (run_directory.check_free, start, run_directory.free_name, run_directory.read_config):
        with pytest.raises(UserError) as caught:
            action(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_default_name_that_is_taken_gets_a_number(tmp_path: Path):
    names = [run_directory.free_name(tmp_path / "runs" / "2026").name for _ in range(3)]
    assert names == ["2026", "2026-2", "2026-3"]


def test_one_process_at_a_time(tmp_path: Path):
    with run_directory.locked(tmp_path), pytest.raises(UserError, match="another process is working on this run"):
        start(tmp_path)
    start(tmp_path)


def test_what_matters_may_not_change(tmp_path: Path):
    config = Config()
    run = start(tmp_path / "run", config)
    more = TrainConfig(epochs=60, checkpoint_every=5)
    run_directory.check_same(run, dataclasses.replace(config, train=more))
    other = dataclasses.replace(config, seed=1, train=TrainConfig(beta=1.0))
    with pytest.raises(UserError, match=r"train\.beta \(1\.0, was 3\.4\), seed \(1, was 0\)"):
        run_directory.check_same(run, other)
    # Where the images are is for their digest to decide.
    run_directory.check_same(run, dataclasses.replace(config, data=DataConfig(source="sheet.png", tile=(8, 8))))


def test_what_ends_after_a_fraction_of_the_steps_may_not_move(tmp_path: Path):
    """Augmentation and the auxiliary loss; without an end, or with nothing to end, epochs may be added."""
    sprites = DataConfig(render="indices")
    for number, (config, refused) in enumerate(
        [
            (Config(data=DataConfig(shift=1)), True),
            (Config(data=DataConfig(flip=True)), True),
            (Config(data=DataConfig(shift=1, augment_until=1.0)), False),
            (Config(data=DataConfig(augment_until=0.5)), False),
            (Config(data=sprites, model=ModelConfig(likelihood="categorical", pixel_hidden=4)), True),
            (Config(data=sprites, model=ModelConfig(likelihood="categorical")), False),
        ]
    ):
        run = start(tmp_path / str(number), config)
        more = dataclasses.replace(config, train=TrainConfig(epochs=31))
        with pytest.raises(UserError, match=r"train\.epochs \(31, was 30\)") if refused else contextlib.nullcontext():
            run_directory.check_same(run, more)


def test_an_edited_config_is_noticed(tmp_path: Path):
    run = start(tmp_path / "run")
    edited = Config(seed=1)
    (run / "config.toml").write_text(to_toml(edited))
    with pytest.raises(UserError, match=r"seed \(1, was 0\)"):
        run_directory.check_same(run, run_directory.read_config(run))


def never() -> str:
    raise AssertionError("images are rendered only if their sprites have another digest")


def test_other_images_are_refused(tmp_path: Path):
    run = start(tmp_path / "run")
    run_directory.check_same_data(run, {"sha256": "abc", "source": "elsewhere"}, never)
    # Older versions wrote the SHA-256 of the rendered images.
    run_directory.check_same_data(run, {"sha256": "def", "source": "elsewhere"}, lambda: "abc")
    with pytest.raises(
        UserError,
        match=r"folder x does not hold the images that .* was trained on .*: name the original images with --data",
    ):
        run_directory.check_same_data(run, {"sha256": "xyz", "source": "folder x"}, lambda: "uvw")


def test_no_run_to_resume(tmp_path: Path):
    with pytest.raises(UserError, match="holds no run"):
        run_directory.read_config(tmp_path)


DAMAGED = ["", "{}", "null", "[]", '{"data": 1}', '{"data": {"sha256": 3}}', "\x00", "{", "[" * 10**5]
DAMAGED += ['{"data": {"sha256": "a"}, "config": 3}']


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_run_json_is_one_line(tmp_path: Path, text: str):
    run = start(tmp_path / "run")
    (run / "run.json").write_text(text)
    for action in (run_directory.read_facts, lambda run: run_directory.check_same(run, Config())):
        with pytest.raises(UserError, match=r"run\.json is damaged") as caught:
            action(run)
        assert "\n" not in str(caught.value)


def test_every_start_is_kept_and_an_end_only_while_it_is_the_end(tmp_path: Path):
    run = start(tmp_path / "run")
    run_directory.begin(run, Config(), {"step": 0, "device": "a"}, unfinished=True)
    run_directory.finish(run, 8, "def")
    run_directory.begin(run, Config(), {"step": 8, "device": "b"}, unfinished=False)
    facts = run_directory.read_facts(run)
    assert (facts["final_step"], facts["params_sha256"]) == (8, "def")
    run_directory.begin(run, Config(), {"step": 8, "device": "c"}, unfinished=True)
    facts = run_directory.read_facts(run)
    assert [start["device"] for start in facts["starts"]] == ["a", "b", "c"]
    assert "final_step" not in facts and "params_sha256" not in facts


def test_a_run_of_before_the_list_of_starts(tmp_path: Path):
    run = start(tmp_path / "run")
    begun = {"command": ["train"], "libraries": {"jax": "0.1"}}
    old = {**begun, "data": FACTS["data"], "final_step": 4, "params_sha256": "d"}
    (run / "run.json").write_text(json.dumps(old))
    run_directory.check_same(run, Config())
    run_directory.begin(run, Config(), {"step": 4}, unfinished=False)
    facts = run_directory.read_facts(run)
    assert facts["starts"] == [begun, {"step": 4}]
    assert facts["final_step"] == 4 and facts["data"] == old["data"]


def test_a_run_of_before_alpha_composited_its_images(tmp_path: Path):
    """So it still does, though new runs keep transparent pixels; and it can be resumed with its own config."""
    run = start(tmp_path)
    assert run_directory.read_config(run).data.alpha == "auto"
    config = (run / "config.toml").read_text().replace('alpha = "auto"\n', "")
    (run / "config.toml").write_text(config)
    facts = json.loads((run / "run.json").read_text())
    del facts["config"]["data"]["alpha"]
    (run / "run.json").write_text(json.dumps(facts))
    old = run_directory.read_config(run)
    assert old == dataclasses.replace(Config(), data=DataConfig(alpha="background"))
    run_directory.check_same(run, old)
    with pytest.raises(UserError, match=r"data.alpha \(auto, was background\)"):
        run_directory.check_same(run, Config())


def test_links_out_of_the_run_directory_are_refused(tmp_path: Path):
    run, elsewhere = start(tmp_path / "run"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (run / "inside").symlink_to("config.toml")
    run_directory.check_links(run)
    for name in ("metrics.jsonl", "images/epoch-0001.png", "checkpoints"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).symlink_to(elsewhere)
        with pytest.raises(UserError, match="a symbolic link leads out of the run directory"):
            run_directory.check_links(run)
        (run / name).unlink()
    (run / "circle").symlink_to("circle")
    run_directory.check_links(run)
    (run / ".lock").unlink()
    (run / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match="a symbolic link leads out"), run_directory.locked(run):
        pass
    assert not (tmp_path / "precious").exists()


def test_the_contact_sheet_is_written_once_and_in_the_run_directory(tmp_path: Path):
    run = start(tmp_path / "run")
    run_directory.write_contact_sheet(run, b"first")
    run_directory.write_contact_sheet(run, b"second")
    assert (run / "contact.png").read_bytes() == b"first"
    (run / "contact.png").unlink()
    (run / "contact.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(UserError, match="leads out of the run directory"):
        run_directory.write_contact_sheet(run, b"third")
    assert not (tmp_path / "outside.png").exists()
