"""sample and explore, run for real on a small run of made-up characters."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import flax_punkvae
from flax_punkvae import data, images
from flax_punkvae.errors import UserError
from flax_punkvae.experiments import explore, sample, train
from flax_punkvae.measures import features
from flax_punkvae.trained import latents, probing, samplers
from flax_punkvae.trained.model import Model
from flax_punkvae.trained.runs import open_run
from flax_punkvae.trained.selection import Wanted
from helpers.compiling import compile_optimised
from helpers.programs import PICTURES
from helpers.streams import Gone

LABELS = data.load(data.DataConfig(source="synthetic", synthetic_count=40)).label_names


def label_logits(network: features.Network, sprites: np.ndarray) -> np.ndarray:
    """A stand-in that tells labels by a random projection: what matters is that the programs say what it says."""
    weights = np.random.default_rng(0).standard_normal((24 * 24 * 3, len(network.label_names)))
    return (sprites.reshape(len(sprites), -1) / 255.0 - 0.4) @ weights


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generate") / "run"
    assert train.main([*PICTURES, "--train.epochs", "1", "--run-dir", str(folder)]) == 0
    compile_optimised(flax_punkvae.load(folder))
    return folder


@pytest.fixture(autouse=True)
def reader(monkeypatch: pytest.MonkeyPatch) -> Callable[[tuple[str, ...]], None]:
    """Puts a reader of some labels in the place of the shipped network, which knows punks alone."""

    def put(names: tuple[str, ...]) -> None:
        monkeypatch.setattr(features, "load", lambda: features.Network(None, names, "f" * 64))

    put(LABELS)
    monkeypatch.setattr(features, "label_logits", label_logits)
    return put


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "RGB"
        return np.asarray(image)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("how", ["prior", "gaussian", "mixture"])
def test_snapped_samples_and_their_certificates(run: Path, tmp_path: Path, how: str):
    """Oracle: the written sprites, compared anew, pixel by pixel, with every training sprite."""
    out = tmp_path / "out"
    assert sample.main([str(run), "--count", "5", "--from", how, "--snap", "--output", str(out)]) == 0
    facts = json.loads((out / "samples.json").read_text())
    assert (facts["from"], facts["seed"], len(facts["samples"])) == (how, 0, 5)
    dataset = open_run(run).dataset
    assert dataset.sprites is not None
    train_indices, _ = data.split(40, 0.2, 0)
    colours = {tuple(pixel) for pixel in dataset.sprites[train_indices].reshape(-1, 3).tolist()}
    sprites = np.stack([opened(out / row["file"]) for row in facts["samples"]])
    assert sprites.shape == (5, 24, 24, 3)
    np.testing.assert_array_equal(opened(out / "grid.png"), images.grid(images.enlarge(sprites, 10), 5, gap=8))
    for sprite, row in zip(sprites, facts["samples"], strict=True):
        assert {tuple(pixel) for pixel in sprite.reshape(-1, 3).tolist()} <= colours
        differing = {i: int((dataset.sprites[i] != sprite).any(-1).sum()) for i in train_indices}
        assert row["pixels_differ"] == min(differing.values()) == differing[row["nearest"]]
        assert row["new"] == (row["pixels_differ"] > 0) and row["of_pixels"] == 576
        expected = np.flatnonzero(label_logits(features.Network(None, LABELS, None), sprite[None])[0] > 0)
        assert row["traits"] == [LABELS[i] for i in expected]


def test_samples_follow_from_the_seed(run: Path, tmp_path: Path):
    """Oracle: equal bytes; and the distance to a sprite from the files with and without --snap."""
    for name, more in (("a", ()), ("b", ()), ("c", ("--seed", "1")), ("snapped", ("--snap",))):
        assert sample.main([str(run), "--count", "3", "--output", str(tmp_path / name), *more]) == 0
    assert sorted(contents(tmp_path / "a")) == ["0000.png", "0001.png", "0002.png", "grid.png", "samples.json"]
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a")["0000.png"] != contents(tmp_path / "c")["0000.png"]
    assert contents(tmp_path / "a")["samples.json"] == contents(tmp_path / "snapped")["samples.json"]
    for row in json.loads((tmp_path / "a" / "samples.json").read_text())["samples"]:
        image = opened(tmp_path / "a" / row["file"])
        whole = images.render(opened(tmp_path / "snapped" / row["file"])[None], "reference")[0]
        off = np.sqrt(((image.astype(float) - whole) ** 2).sum(-1))
        assert row["rgb_distance_to_sprite"] == pytest.approx({"mean": off.mean(), "max": off.max()}, rel=1e-5)


@pytest.mark.parametrize("more", [("--from", "mixture"), ("--new", "--snap")])
def test_many_samples_are_those_of_smaller_chunks(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], more
):
    """Oracle: one chunk, file by file. The grid and the table have the first of them alone."""
    count = ("--count", "9", *more, "--temperature", "3")
    assert sample.main([str(run), *count, "--output", str(tmp_path / "whole")]) == 0
    monkeypatch.setattr(samplers, "CHUNK", 4)
    monkeypatch.setattr(sample, "_PREVIEW", 5)
    capsys.readouterr()
    assert sample.main([str(run), *count, "--output", str(tmp_path / "parts")]) == 0
    whole, parts = contents(tmp_path / "whole"), contents(tmp_path / "parts")
    grids = whole.pop("grid.png"), parts.pop("grid.png")
    assert parts == whole and len(whole) == 10 and grids[0] != grids[1]
    first = np.stack([opened(tmp_path / "parts" / f"{number:04d}.png") for number in range(5)])
    large = images.enlarge(first, max(256 // first.shape[1], 1))
    np.testing.assert_array_equal(opened(tmp_path / "parts" / "grid.png"), images.grid(large, 5, gap=8))
    out = capsys.readouterr().out
    assert "show the first 5 of 9; samples.json lists all" in out and "0004.png" in out and "0005.png" not in out


def test_new_samples_are_no_training_sprites_and_no_two_the_same(run: Path, monkeypatch: pytest.MonkeyPatch):
    """Oracle: by hand, of a decoder that draws a training sprite, then each of three others twice, over and over."""
    opened_run = open_run(run)
    assert opened_run.dataset.sprites is not None
    known = opened_run.dataset.sprites[opened_run.train_indices[0]]
    others = np.stack([known.transpose(1, 0, 2), known[::-1], known[:, ::-1]])
    cycle = np.stack([known, *others.repeat(2, axis=0)])
    monkeypatch.setattr(samplers, "CHUNK", 5)
    drawn: list[np.ndarray] = []

    def decode(_: Model, z: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        assert len(seeds) == len(z)
        start = sum(map(len, drawn))
        drawn.append(z)
        return cycle[np.arange(start, start + len(z)) % len(cycle)]

    monkeypatch.setattr(Model, "decode", decode)
    for count, chunks in ((3, 2), (4, 4)):
        drawn.clear()
        new = opened_run.model.select(Wanted(new=True, limit=5 * count), "prior", count, 0).draws.latents
        assert len(drawn) == chunks
        np.testing.assert_array_equal(new, np.concatenate(drawn)[[1, 3, 5]])


def test_samples_with_and_without_labels(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Oracle: the first draws whose traits qualify, by hand; the count of draws is the place of the last one."""
    monkeypatch.setattr(samplers, "CHUNK", 8)
    model = open_run(run).model
    drawn = model.to_sprites(model.sample(32, temperature=5.0, reencode=1))
    present = label_logits(features.Network(None, LABELS, None), drawn) > 0
    shares = np.argsort(np.abs(present.mean(0) - 0.5), kind="stable")
    has, lacks = int(shares[0]), int(shares[1])
    expected = np.flatnonzero(present[:, has] & ~present[:, lacks])[:3]
    arguments = ("--count", "3", "--temperature", "5", "--reencode", "1", "--snap", "--without", LABELS[lacks])
    assert sample.main([str(run), *arguments, "--with", LABELS[has], "--output", str(tmp_path / "out")]) == 0
    found = [opened(tmp_path / "out" / f"{number:04d}.png") for number in range(3)]
    np.testing.assert_array_equal(found, drawn[expected])
    facts = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert (facts["with"], facts["without"], facts["reencode"]) == ([LABELS[has]], [LABELS[lacks]], 1)
    assert facts["drawn"] == expected[-1] + 1
    assert f"drew {expected[-1] + 1} samples to keep 3" in capsys.readouterr().out
    limit = str(expected[-1])
    with pytest.raises(
        UserError, match=rf"--with, --without: found only 2 of 3 sprites with .* in {limit} draws: lower"
    ):
        sample.main([str(run), *arguments, "--with", LABELS[has], "--limit", limit])


@pytest.mark.parametrize("mask", [False, True])
def test_a_sprite_is_completed(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], mask: bool):
    """Oracle: the known pixels of the file in every tile, of Model.complete the rest."""
    opened_run = open_run(run)
    assert opened_run.dataset.sprites is not None
    sprite = opened_run.dataset.sprites[0].copy()
    sprite[2, 3] ^= 1
    known = np.broadcast_to(np.arange(24)[:, None] < 10, (24, 24))
    alpha = np.full((24, 24, 1), 255, np.uint8) if mask else known[..., None] * np.uint8(255)
    Image.fromarray(np.concatenate([sprite, alpha], axis=-1)).save(tmp_path / "sprite.png")
    Image.fromarray(known * np.uint8(255)).save(tmp_path / "mask.png")
    more = ("--keep", str(tmp_path / "mask.png")) if mask else ()
    out = tmp_path / "out.png"
    command = ("complete", str(tmp_path / "sprite.png"), *more, "--count", "3", "--steps", "2", "--output", str(out))
    assert explore.main([str(run), *command]) == 0
    expected = opened_run.model.complete(sprite, known, count=3, steps=2)
    tiles = opened(out)[4:244].reshape(240, -1, 3)
    for number, tile in enumerate(expected, 1):
        left = 4 + 244 * number
        np.testing.assert_array_equal(tiles[:, left : left + 240], images.enlarge(tile[None], 10)[0])
    printed = " ".join(capsys.readouterr().out.split())
    assert "240 of 576 pixels are known, 1 of them changed by snapping" in printed


def test_what_cannot_be_completed_is_one_line(run: Path, tmp_path: Path):
    rgba = np.full((24, 24, 4), 255, np.uint8)
    for name, pixels in {"whole": rgba, "empty": rgba * np.uint8(0), "small": rgba[:20]}.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    (tmp_path / "text.png").write_text("text")
    before = sorted(run.rglob("*"))
    for arguments, named in (
        (("whole.png",), "every pixel is known"),
        (("empty.png",), "no pixel is known"),
        (("whole.png", "--keep", "empty.png"), "no pixel is known"),
        (("small.png",), "expected an image of 24x24 pixels, the run's sprites, got 24x20"),
        (("whole.png", "--keep", "small.png"), "expected an image of 24x24 pixels"),
        (("missing.png",), "there is no file"),
        (("text.png",), "cannot be read (not an image in a known format"),
        (("whole.png", "--count", "0"), "--count: 0 is out of range"),
    ):
        paths = [str(tmp_path / part) if part.endswith(".png") else part for part in arguments]
        with pytest.raises(UserError) as caught:
            explore.main([str(run), "complete", *paths])
        assert named in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(run.rglob("*")) == before


def test_a_second_sample_takes_the_next_free_name(run: Path):
    names = ["prior-seed5", "prior-seed5-2", "prior-seed5-3"]
    (run / "samples" / names[1]).mkdir(parents=True)  # Another process's, still empty.
    for count in ("1", "2"):
        assert sample.main([str(run), "--count", count, "--seed", "5"]) == 0
    found = [sorted(path.name for path in (run / "samples" / name).glob("0*.png")) for name in names]
    assert found == [["0000.png"], [], ["0000.png", "0001.png"]]


PRINTING = [
    (sample, ("--count", "2", "--seed", "7"), ["samples/prior-seed7/samples.json", "samples/prior-seed7/grid.png"]),
    (explore, ("traverse", "3", "--top", "1"), ["explore/traverse-3-top1.png"]),
    (explore, ("edit", "3", "--add", "top bald", "--measured", "1"), ["explore/edit-3-add-top-bald.json"]),
]


@pytest.mark.parametrize("stdout", [Gone, lambda: None], ids=["gone", "none"])
@pytest.mark.parametrize(("program", "arguments", "written"), PRINTING, ids=[row[1][0] for row in PRINTING])
def test_results_are_written_though_nobody_reads(
    run: Path, monkeypatch: pytest.MonkeyPatch, stdout, program, arguments, written: list[str]
):
    for name in written:
        (run / name).unlink(missing_ok=True)
    if program is sample:
        shutil.rmtree(run / "samples", ignore_errors=True)
    monkeypatch.setattr(sys, "stdout", stdout())
    assert program.main([str(run), *arguments]) == 0
    assert all((run / name).stat().st_size for name in written)


LINKS = [
    (sample, ("--count", "1"), "samples"),
    (explore, ("reconstruct", "1"), "explore"),
    (explore, ("reconstruct", "1"), "explore/reconstruct-1.png"),
    (explore, ("edit", "1", "--remove", "top bald"), "explore/edit-1-remove-top-bald.json"),
]


@pytest.mark.parametrize(("program", "arguments", "link"), LINKS, ids=[row[2] for row in LINKS])
def test_a_link_out_of_the_run_is_not_followed(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program, arguments: tuple[str, ...], link: str
):
    """Oracle: what the link leads to is as it was. An --output is the user's own place, and is followed."""
    monkeypatch.setattr("flax_punkvae.trained.editing.eligible", lambda run, add, remove: run.test_indices[:1])
    run = Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("samples", "explore")))
    outside = tmp_path / "outside"
    outside.mkdir()
    (run / link).parent.mkdir(exist_ok=True)
    (run / link).symlink_to(outside / Path(link).name if "/" in link else outside)
    with pytest.raises(UserError, match="a symbolic link leads out of the run directory"):
        program.main([str(run), *arguments])
    assert not any(outside.iterdir())
    place = "mine" if program is sample else "mine.png"
    assert program.main([str(run), *arguments, "--output", str(outside / place)]) == 0


def test_a_sheet_has_a_sensible_height(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("flax_punkvae.trained.sheets.MOST_ROWS", 3)
    assert explore.main([str(run), "traverse", "2", "--top", "4"]) == 0
    assert opened(run / "explore" / "traverse-2-top4.png").shape == (3 * 260 + 4, 7 * 260 + 4, 3)
    assert "the sheet shows the first 3" in capsys.readouterr().out


def test_other_images_have_a_nearest_image_and_no_traits(tmp_path: Path, photos: np.ndarray):
    """Oracle: the root mean square over the files themselves. 48x50 is no multiple of 24x24."""
    (tmp_path / "photos").mkdir()
    for index, photo in enumerate(photos):
        Image.fromarray(photo[:50, :48]).save(tmp_path / "photos" / f"{index:02d}.png")
    run = tmp_path / "run"
    source = ("--data.source", f"{tmp_path / 'photos'}/")
    assert train.main([*PICTURES[4:], *source, "--train.epochs", "1", "--run-dir", str(run)]) == 0
    with pytest.raises(UserError, match="--snap: this run was trained on images that are not sprites"):
        sample.main([str(run), "--snap"])
    assert not (run / "samples").exists()
    assert sample.main([str(run), "--count", "2"]) == 0
    facts = json.loads((run / "samples" / "prior-seed0" / "samples.json").read_text())
    dataset = open_run(run).dataset
    train_indices, _ = data.split(20, 0.2, 0)
    for row in facts["samples"]:
        image = opened(run / "samples" / "prior-seed0" / row["file"]).astype(float)
        assert image.shape == (128, 128, 3)
        rms = {int(dataset.ids[i]): np.sqrt(((image - dataset.images[i]) ** 2).mean()) for i in train_indices}
        assert row["rms_distance"] == pytest.approx(min(rms.values()))
        assert rms[row["nearest"]] == min(rms.values()) and "traits" not in row
    assert "not trained on sprites" in facts["traits"]
    assert explore.main([str(run), "reconstruct", str(dataset.ids[0])]) == 0


def test_other_labels_are_read_by_a_reader_that_is_learned(
    run: Path, tmp_path: Path, reader, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Oracle: the reader itself, on the sprites that were written. Without a condition, nothing is learned."""
    reader(("pipe",))
    assert sample.main([str(run), "--count", "1", "--output", str(tmp_path / "plain")]) == 0
    facts = json.loads((tmp_path / "plain" / "samples.json").read_text())
    assert "do not have the labels of punks" in facts["traits"] and "traits" not in facts["samples"][0]
    assert "--with and --without learn to read the labels that they name" in facts["traits"]
    learned, out = probing.fit(open_run(run), [LABELS[0]]), tmp_path / "out"
    read = learned.read(open_run(run).model.to_sprites(open_run(run).model.sample(40)))[:, 0]
    which = ("--with", "--without")[int(read.mean() < 0.5)]
    arguments = [str(run), which, LABELS[0], "--count", "2", "--snap", "--output"]
    assert sample.main([*arguments, str(out)]) == 0
    facts, which = json.loads((out / "samples.json").read_text()), which == "--with"
    assert facts["traits"] == learned.note and learned.note in " ".join(capsys.readouterr().out.split())
    sprites = np.stack([opened(out / row["file"]) for row in facts["samples"]])
    assert (learned.read(sprites)[:, 0] == which).all()
    assert all(row["traits"] == [LABELS[0]] * which for row in facts["samples"])

    def missing(*_: object) -> None:
        raise UserError("there is no file")

    monkeypatch.setattr("flax_punkvae.trained.runs.with_images", missing)
    with pytest.raises(UserError, match=r"learned from the training images, .*: add --data.source \(there is no file"):
        sample.main([*arguments, str(tmp_path / "none")])


def test_edits_to_other_labels_are_measured_by_a_reader_that_is_learned(
    run: Path, tmp_path: Path, reader, capsys: pytest.CaptureFixture[str]
):
    """Oracle: the sheet of the same edit, measured by the other reader."""
    edit = [str(run), "edit", "3", "--add", LABELS[0], "--measured", "3", "--output"]
    assert explore.main([*edit, str(tmp_path / "measured.png")]) == 0
    reader(("pipe",))
    capsys.readouterr()
    assert explore.main([*edit, str(tmp_path / "drawn.png")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "measured on" in printed and "read by linear probes" in printed
    assert (tmp_path / "drawn.png").read_bytes() == (tmp_path / "measured.png").read_bytes()
    facts = json.loads((tmp_path / "drawn.json").read_text())
    assert len(facts["by_strength"]) == 6 and facts["by_strength"][0]["others_changed"] == 0


SHEETS = [
    (("reconstruct", "3", "7"), "reconstruct-3-7.png", 3, 2),
    (("interpolate", "3", "7", "--steps", "4"), "interpolate-3-7-steps4.png", 2, 6),
    (("traverse", "3", "--top", "2"), "traverse-3-top2.png", 2, 7),
    (("edit", "3", "--add", "top bald", "--measured", "2"), "edit-3-add-top-bald.png", 2, 7),
]


@pytest.mark.parametrize(("arguments", "name", "rows", "columns"), SHEETS, ids=[row[0][0] for row in SHEETS])
def test_a_sheet_of_each_command(
    run: Path, tmp_path: Path, arguments: tuple[str, ...], name: str, rows: int, columns: int
):
    """Oracle: the original at the place it should have, the size of rows x columns, equal bytes of a second one."""
    assert explore.main([str(run), *arguments]) == 0
    sheet = opened(run / "explore" / name)
    assert sheet.shape == (rows * 260 + 4, columns * 260 + 4, 3)
    if arguments[0] != "traverse":
        original = images.enlarge(open_run(run).dataset.images[[3]], 2)[0]
        np.testing.assert_array_equal(sheet[4:260, 4:260], original)
    assert explore.main([str(run), *arguments, "--output", str(tmp_path / "again.png")]) == 0
    assert (tmp_path / "again.png").read_bytes() == (run / "explore" / name).read_bytes()


def test_the_effect_of_an_edit_is_measured_on_held_out_images(run: Path, tmp_path: Path):
    """Oracle: the same by hand, for strength 2, from the model's own encode and decode."""
    label = "top bald"
    out = tmp_path / "edit.png"
    assert explore.main([str(run), "edit", "3", "--add", label, "--output", str(out)]) == 0
    facts = json.loads(out.with_suffix(".json").read_text())
    opened_run = open_run(run)
    dataset, column = opened_run.dataset, LABELS.index(label)
    train_indices, test_indices = data.split(40, 0.2, 0)
    means, _ = opened_run.encode(np.arange(40))
    direction = latents.directions(means[train_indices], dataset.labels[train_indices])[column]
    lacking = test_indices[dataset.labels[test_indices, column] == 0]
    moved = opened_run.model.decode_sprites(means[lacking] + np.float32(2) * direction)
    logits = label_logits(features.Network(None, LABELS, None), opened_run.model.to_sprites(moved))
    (row,) = (row for row in facts["by_strength"] if row["strength"] == 2)
    assert row["succeeds"] == pytest.approx((logits[:, column] > 0).mean())
    assert facts["held_out_images_measured"] == len(lacking)
    assert facts["by_strength"][0]["others_changed"] == 0


BAD = [
    (explore, ("reconstruct", "40"), "there is no image 40: numbers run from 0 to 39, and the nearest is 39"),
    (explore, ("reconstruct",), "0 images given: give 1 to 32"),
    (explore, ("interpolate", "3"), "Number or file name of the last image"),
    (explore, ("interpolate", "3", "7", "--steps", "1"), "--steps: 1 is out of range"),
    (explore, ("traverse", "3", "--top", "0"), "--top: 0 is out of range"),
    (explore, ("edit", "3"), "name a label with --add"),
    (explore, ("edit", "3", "--add", "top bold"), "perhaps you meant 'top bald'"),
    (explore, ("reconstruct", "3", "--output", "x.jpg"), "choose a name that ends in .png"),
    (explore, ("dream",), "dream"),
    (sample, ("--count", "0"), "--count: 0 is out of range"),
    (sample, ("--temperature", "nan"), "--temperature: nan is out of range"),
    (sample, ("--from", "posterior"), "posterior"),
    (sample, ("--reencode", "-1"), "--reencode: -1 is out of range"),
    (sample, ("--limit", "0"), "--limit: 0 is out of range"),
    (sample, ("--with", "top bold"), "perhaps you meant 'top bald'"),
    (sample, ("--with", "top bald", "--without", "top bald"), "no sprite can have and lack 'top bald'"),
    (sample, ("--output", "."), "choose a new or empty directory"),
]


@pytest.mark.parametrize(("program", "arguments", "named"), BAD, ids=[" ".join(row[1]) for row in BAD])
def test_bad_input_is_one_line_and_nothing_is_written(run: Path, program, arguments: tuple[str, ...], named: str):
    before = sorted(run.rglob("*"))
    with pytest.raises(UserError) as caught:
        program.main([str(run), *arguments])
    assert named in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize("program", ["sample", "explore"])
def test_as_a_user_runs_it(tmp_path: Path, program: str):
    module = f"flax_punkvae.experiments.{program}"
    rest = ["reconstruct", "1"] if program == "explore" else []
    command = [sys.executable, "-W", "error", "-m", module, "nowhere", *rest]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: nowhere holds no run (config.toml and run.json)")
    assert list(tmp_path.iterdir()) == []
    script = (
        f"import sys\nfrom {module} import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    print(stop.code, 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "0 False"
