"""The sprite features: what the shipped network knows of held-out punks, its file, and the program that makes it."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from flax_punkvae import images
from flax_punkvae.data import split
from flax_punkvae.errors import UserError
from flax_punkvae.experiments import train_features
from flax_punkvae.measures import features
from helpers import all_punks

ABOUT = "flax_punkvae.features"


@pytest.fixture(scope="module")
def held_out() -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Sprites and labels of 500 punks that the shipped network never saw."""
    raw = all_punks.load()
    _, test = split(len(raw.pixels), 0.2, 0)
    test = test[::4]
    return images.over_background(raw.pixels[test], images.parse_colour("#638596")), raw.labels[test], raw.label_names


def about(path: Path) -> dict:
    with safetensors.safe_open(path, "numpy") as opened:
        return json.loads(opened.metadata()[ABOUT])


def test_the_shipped_network_tells_the_labels_of_held_out_punks(held_out):
    sprites, labels, names = held_out
    network = features.load()
    assert network.label_names == names
    predicted = features.label_logits(network, sprites) > 0
    right = predicted == labels
    assert right.mean() > 0.998
    assert right.all(1).mean() > 0.84


def test_the_shipped_file_is_small_and_says_how_good_it_is():
    content = features.SHIPPED.read_bytes()
    assert len(content) < 1_000_000
    assert features.load().sha256 == hashlib.sha256(content).hexdigest()
    said = about(features.SHIPPED)
    assert said["labels_right"] > 0.998
    assert (said["trained_on"], said["held_out"], len(said["label_names"])) == (8000, 2000, 92)
    assert said["seed"] >= 0 and said["epochs"] > 0


def test_the_digest_is_that_of_the_punks_it_never_saw():
    """Oracle: the default split of the punks, on the default background."""
    raw = all_punks.load()
    _, test = split(len(raw.pixels), 0.2, 0)
    sprites = images.over_background(raw.pixels[test], images.parse_colour("#638596"))
    assert features.HELD_OUT_SHA256 == hashlib.sha256(sprites.tobytes()).hexdigest() == features.sprites_sha256(sprites)


def test_features_do_not_depend_on_the_other_sprites_of_a_batch(held_out):
    sprites = held_out[0][:300]
    network = features.load()
    together = features.extract(network, sprites)
    assert together.shape[0] == 300 and together.min() >= 0 and np.isfinite(together).all()
    apart = np.concatenate([features.extract(network, part) for part in np.split(sprites, [1, 8, 290])])
    np.testing.assert_allclose(apart, together, rtol=1e-5, atol=1e-5)


def test_most_features_are_used_and_punks_differ_in_them(held_out):
    x = features.extract(features.load(), held_out[0])
    assert (x.max(0) > 0).mean() > 0.5
    assert len(np.unique(x, axis=0)) == len(x)


def test_a_random_network_is_given_by_its_seed_and_knows_nothing(held_out):
    sprites, labels, names = held_out
    shipped, one, again, other = features.load(), features.random(0), features.random(0), features.random(1)
    x = features.extract(one, sprites)
    assert x.shape == features.extract(shipped, sprites).shape
    np.testing.assert_array_equal(x, features.extract(again, sprites))
    assert not np.allclose(x, features.extract(other, sprites))
    assert not np.allclose(x, features.extract(shipped, sprites))
    assert features.label_logits(one, sprites).shape == (500, 0) and one.sha256 is None
    # The same features, with logits.
    named = features.random(0, names)
    np.testing.assert_array_equal(x, features.extract(named, sprites))
    assert ((features.label_logits(named, sprites) > 0) == labels).all(1).mean() < 0.01


def test_no_sprites_are_refused():
    with pytest.raises(ValueError, match="expected at least 1 sprite, got 0"):
        features.extract(features.random(0), np.zeros((0, 24, 24, 3), np.uint8))


def test_equal_networks_are_equal_files_and_read_back(tmp_path: Path):
    network = features.random(5, ("a", "b", "c"))
    digests = {features.save(network, {"seed": 5, "epochs": 1}, tmp_path / name) for name in "xyz"}
    back = features.load(tmp_path / "x")
    assert digests == {back.sha256} and back.label_names == ("a", "b", "c")
    sprites = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3), np.uint8)
    np.testing.assert_array_equal(features.label_logits(back, sprites), features.label_logits(network, sprites))


Spoil = Callable[[Path], object]


def with_tensor(name: str, value: list[float]) -> Spoil:
    def spoil(path: Path) -> None:
        with safetensors.safe_open(features.SHIPPED, "numpy") as opened:
            metadata = opened.metadata()
        tensors = safetensors.numpy.load_file(features.SHIPPED) | {name: np.asarray(value, np.float32)}
        safetensors.numpy.save_file(tensors, path, metadata)

    return spoil


def with_metadata(metadata: dict[str, str] | None) -> Spoil:
    return lambda path: safetensors.numpy.save_file(safetensors.numpy.load_file(features.SHIPPED), path, metadata)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "directory"),
        (lambda path: path.write_bytes(b""), "SafetensorError"),
        (lambda path: path.write_bytes(b"\0" * 5000), "SafetensorError"),
        (lambda path: path.write_bytes(features.SHIPPED.read_bytes()[:-1]), "SafetensorError"),
        (with_metadata(None), "KeyError"),
        (with_metadata({ABOUT: "{"}), "JSONDecodeError"),
        (with_metadata({ABOUT: "[]"}), "TypeError"),
        (with_metadata({ABOUT: "{}"}), "KeyError"),
        (with_metadata({ABOUT: '{"label_names": ["one"]}'}), "logits.bias of shape"),
        (
            with_tensor("conv_1.kernel", [0.0]),
            r"conv_1.kernel of shape float32\[1\] instead of float32\[3, 3, 32, 64\]",
        ),
        (with_tensor("more", [0.0]), r"more of shape float32\[1\] instead of None"),
        (with_tensor("conv_1", [0.0]), "conv_1"),
    ],
)
def test_a_missing_or_malformed_file_is_one_line(tmp_path: Path, spoil: Spoil, named: str):
    path = tmp_path / "weights.safetensors"
    spoil(path)
    with pytest.raises(UserError, match=named) as raised:
        features.load(path)
    line = str(raised.value)
    assert "\n" not in line and str(path) in line and "train_features --output" in line


def test_accuracies_are_scikit_learn_s():
    from sklearn.metrics import balanced_accuracy_score

    rng = np.random.default_rng(0)
    labels = rng.random((100, 4)) < (0.5, 0.3, 0.1, 1.0)
    predicted = labels ^ (rng.random((100, 4)) < 0.1)
    # The third has too few positives, the fourth no negatives.
    assert labels.sum(0)[2] < 20
    got = train_features.accuracies(predicted, labels)
    expected = np.mean([balanced_accuracy_score(labels[:, i], predicted[:, i]) for i in range(2)])
    np.testing.assert_allclose(got["balanced_accuracy"], expected, rtol=1e-12)
    assert got["balanced_over_labels"] == 2
    assert got["labels_right"] == (predicted == labels).mean()
    assert got["sprites_right"] == np.mean([(a == b).all() for a, b in zip(predicted, labels, strict=True)])
    assert train_features.accuracies(predicted[:, 2:], labels[:, 2:])["balanced_accuracy"] is None


def test_the_program_trains_and_the_same_seed_gives_the_same_file(
    tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    small = ("--limit", "200", "--epochs", "1", "--seed")
    digests = []
    for name, seed in (("one", "3"), ("two", "3"), ("other", "4")):
        assert train_features.main(["--output", name, *small, seed]) == 0
        printed = capsys.readouterr().out
        assert "160 to train on, 40 held out" in printed and "epoch 1/1: loss " in printed
        (digest,) = re.findall(rf"^{name}: SHA-256 ([0-9a-f]{{64}})$", printed, re.MULTILINE)
        network = features.load(tmp_path / name)
        assert network.sha256 == digest and len(network.label_names) == 92
        said = about(tmp_path / name)
        assert (said["seed"], said["epochs"], said["held_out"]) == (int(seed), 1, 40)
        assert 0 <= said["labels_right"] <= 1 and f"labels_right: {said['labels_right']}" in printed
        digests.append(digest)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--epochs", "0"), "--epochs: 0 is out of range: choose a whole number from 1"),
        (("--seed", "-1"), "--seed: -1 is out of range: choose a whole number from 0"),
        (("--limit", "1"), "--limit: 1 is out of range: choose a whole number from 2"),
        (("--learning-rate", "nan"), "--learning-rate: nan is out of range: choose a number between 0 and 10"),
        (("--output", "none/x"), "--output: the directory of none/x does not exist: create it first"),
        (
            ("--limit", "40", "--batch-size", "64"),
            "--batch-size: 64 is more than the 32 training punks: choose a smaller one",
        ),
        (("--epoch", "2"), "--epoch"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(tmp_path: Path, monkeypatch, arguments: tuple[str, ...], named: str):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=named) as raised:
        train_features.main(arguments)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())
