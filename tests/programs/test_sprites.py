"""Sprites as palette indices: the data, the categorical model, and every program on the sprite preset in small."""

import dataclasses
import hashlib
import json
import math
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image
from scipy import special

import flax_punkvae
from flax_punkvae import data, images
from flax_punkvae.config import Config, DataConfig, ModelConfig, TrainConfig
from flax_punkvae.devices import parallel
from flax_punkvae.errors import UserError
from flax_punkvae.experiments import evaluate, explore, sample, train
from flax_punkvae.measures import critic
from flax_punkvae.model import inference, losses
from flax_punkvae.model.palette import Support
from flax_punkvae.presets import read_preset
from flax_punkvae.trained.evaluation import iwae_positions
from flax_punkvae.trained.runs import OpenedRun, open_run
from flax_punkvae.trained.samplers import SAMPLERS, SamplerName
from flax_punkvae.trained.selection import joined
from flax_punkvae.training import state as train_state
from flax_punkvae.training import steps
from flax_punkvae.training.augmentation import Augmentation
from flax_punkvae.training.checkpoints import digest
from flax_punkvae.training.description import digests
from helpers.compiling import compile_optimised
from helpers.metal import unsupported

PRESET = Path(__file__).parents[2] / "experiments" / "sprite" / "config.toml"
SMALL = (
    *("--config", str(PRESET), "--data.source", "synthetic", "--data.synthetic-count", "60"),
    *("--model.hidden", "16", "--model.pixel-hidden", "8", "--model.latent", "4"),
    *("--train.batch-size", "7", "--train.checkpoint-every", "1"),
)
EIGHT_COLOURS = np.array([[x * 255, y * 255, z * 255] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.uint8)
# More than a byte can index.
MANY_COLOURS = np.unique(np.random.default_rng(6).integers(0, 256, (300, 3), np.uint8), axis=0)
# Compiled as one: op by op, each of hundreds would be compiled for itself.
applied = jax.jit(inference.apply, static_argnums=0, static_argnames="method")


def small(**model: Any) -> Config:
    shape = {"encoder_widths": (), "decoder_widths": (), "hidden": 8, "latent": 3, "residual_blocks": 1, **model}
    return Config(
        data=DataConfig(render="indices"),
        model=ModelConfig(likelihood="categorical", embedding=4, prior="autoregressive", **shape),
        train=TrainConfig(epochs=2, batch_size=4, beta=1.0, learning_rate=0.03),
    )


@pytest.fixture(scope="module", params=[8, 300])
def colours(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def indices(colours: int) -> np.ndarray:
    """Sixteen sprites of 8x12."""
    return np.random.default_rng(0).integers(0, colours, (16, 8, 12, 1), np.min_scalar_type(colours - 1))


@pytest.fixture(scope="module")
def state(indices: np.ndarray, colours: int) -> train_state.TrainState:
    return train_state.create_state(small(), jax.random.key(0), indices, colours)


def folder(path: Path, sprites: np.ndarray) -> str:
    path.mkdir()
    for number, sprite in enumerate(sprites):
        Image.fromarray(sprite).save(path / f"{number}.png")
    return str(path)


def load(source: str, **options: Any) -> data.Dataset:
    return data.load(DataConfig(source=source, render="indices", **options))


@pytest.mark.parametrize(("palette", "dtype"), [(EIGHT_COLOURS[:7], np.uint8), (MANY_COLOURS, np.uint16)])
def test_indices_and_palette_are_the_training_sprites(tmp_path: Path, palette: np.ndarray, dtype: type):
    """Oracle: painted back they are the files; a colour of held-out sprites alone is its nearest of the palette."""
    sprites = palette[np.random.default_rng(1).integers(0, len(palette), (20, 10, 16))]
    _, test = data.split(20, 0.2, 0)
    sprites[test[0], 0, 0] = (255, 250, 240)
    dataset = load(folder(tmp_path / "sprites", sprites))
    assert dataset.images.shape == (20, 10, 16, 1) and dataset.images.dtype == dtype
    assert dataset.palette is not None and dataset.colours == len(palette)
    assert dataset.palette.tolist() == palette.tolist()
    assert dataset.sha256 == hashlib.sha256(dataset.images[:].tobytes()).hexdigest()
    everywhere = np.arange(20)
    assert dataset.outside_palette(everywhere) == (1, 1) and dataset.sprites is not None
    np.testing.assert_array_equal(dataset.sprites, sprites)
    expected = sprites.copy()
    expected[test[0], 0, 0] = palette[((palette - np.array([255, 250, 240])) ** 2).sum(1).argmin()]
    np.testing.assert_array_equal(dataset.pictures(everywhere), expected)


def test_a_sheet_of_tiles_of_any_size(tmp_path: Path):
    """Oracle: the tiles, in reading order."""
    tiles = EIGHT_COLOURS[np.random.default_rng(2).integers(0, 8, (6, 16, 10))]
    Image.fromarray(tiles.reshape(2, 3, 16, 10, 3).swapaxes(1, 2).reshape(32, 30, 3)).save(tmp_path / "sheet.png")
    dataset = load(str(tmp_path / "sheet.png"), tile=(10, 16))
    np.testing.assert_array_equal(dataset.sprites, tiles)
    with pytest.raises(
        UserError, match=r"a sheet of 30x32 pixels cannot be cut into tiles of 16x16.*: leave --data.tile out"
    ):
        load(str(tmp_path / "sheet.png"), tile=(16, 16))


@pytest.mark.parametrize("size", [16, 24, 32])
def test_synthetic_characters_of_another_size(size: int):
    """Oracle: each pixel is that of the 24x24 drawing below its centre."""
    drawn, large = (
        data.load(DataConfig(source="synthetic", synthetic_count=5, synthetic_size=side, render="sprite"))
        for side in (24, size)
    )
    assert large.images.shape == (5, size, size, 3) and large.palette is None
    below = [int((i + 0.5) * 24 / size) for i in range(size)]
    np.testing.assert_array_equal(large.images, drawn.images[:, below][:, :, below])


def test_too_many_colours_are_reduced_and_too_large_sprites_refused(tmp_path: Path):
    photos = np.random.default_rng(3).integers(0, 256, (2, 128, 128, 3), np.uint8)
    source = folder(tmp_path / "photos", photos)
    assert load(source).colours == 256 and load(source, colours=300).colours == 300
    with pytest.raises(UserError, match=r"data.colours: 5000 colours .* 128x128: choose at most 4096"):
        load(source, colours=5000)
    # In RGB they are as they were.
    assert data.load(DataConfig(source=source, render="sprite")).images.shape == (2, 128, 128, 3)
    with pytest.raises(UserError, match=r"at most 128x128 pixels .* got 130x130: scale them down"):
        load(folder(tmp_path / "large", np.random.default_rng(3).integers(0, 256, (2, 130, 130, 3), np.uint8)))


def test_the_categorical_model_equals_float64_numpy(state: train_state.TrainState, indices: np.ndarray, colours: int):
    """Oracle: the layers written out in float64."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state.params)

    def dense(x: np.ndarray, layer: dict[str, np.ndarray]) -> np.ndarray:
        return x @ layer["kernel"] + layer["bias"]

    def residual(x: np.ndarray, layers: dict[str, Any]) -> np.ndarray:
        return x + dense(np.maximum(dense(x, layers["residual_0_0"]), 0), layers["residual_0_1"])

    x = p["encoder"]["colours"][indices[..., 0]].reshape(16, -1)
    x = residual(np.maximum(dense(x, p["encoder"]["dense"]), 0), p["encoder"])
    mean, logvar = inference.encode(state.model, state.params, indices)
    np.testing.assert_allclose(mean, dense(x, p["encoder"]["mean"]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logvar, dense(x, p["encoder"]["logvar"]), rtol=1e-4, atol=1e-5)
    z = np.random.default_rng(4).standard_normal((16, 3)).astype(np.float32)
    x = residual(np.maximum(dense(z.astype(float), p["decoder"]["dense_0"]), 0), p["decoder"])
    x = dense(x, p["decoder"]["dense_1"]).reshape(16, 8, 12, 4)
    support = Support.of(indices, colours)
    expected = np.zeros(16)
    decoded = np.asarray(inference.decode(state.model, state.params, z))
    for number, position in enumerate(support.open):
        place = np.unravel_index(position, (8, 12))
        listed = np.unique(indices[:, *place])
        bias = p["palette"]["bias"][number, : len(listed)]
        probability = special.softmax(x[:, *place] @ p["palette"]["kernel"][listed].T + bias, axis=-1)
        expected -= np.log(
            (1 - support.other[place]) * probability[range(16), list(map(listed.tolist().index, indices[:, *place, 0]))]
            + support.other[place] / colours
        )
        np.testing.assert_array_equal(decoded[:, *place, 0], listed[probability.argmax(-1)])
    assert len(support.open) == 96
    distortion = applied(state.model, state.params, jnp.array(indices), jnp.array(z), method="distortion")
    np.testing.assert_allclose(distortion, expected, rtol=1e-4)


@pytest.mark.parametrize("colours", [8], indirect=True)
def test_the_kl_of_a_learned_prior_is_right_on_average(state: train_state.TrainState, indices: np.ndarray):
    """Oracle: with a prior that is N(0, I), one component at 0 of width 1, the closed form; 5 standard errors."""
    prior = jax.tree.map(jnp.zeros_like, state.params["learned_prior"])
    params = {**state.params, "learned_prior": prior}
    one = jnp.repeat(jnp.array(indices[:1]), 4000, axis=0)
    _, _, kl, _ = jax.jit(
        lambda key: inference.apply(state.model, params, one, jax.random.split(key, 4000), train=False)
    )(jax.random.key(1))
    expected = losses.gaussian_kl(*inference.encode(state.model, state.params, indices[:1]))[0]
    assert abs(float(kl.mean()) - float(expected)) < 5 * float(kl.std()) / math.sqrt(4000)


@pytest.mark.parametrize("render", ["indices", "sprite"])
def test_a_step_with_convolutions_on_sprites(render: str):
    """One network for both: 8x12 pixels, in indices or in RGB, twice halved, in residual blocks and with dropout.

    Oracle: the least loss of a model that does not look at its image: what two equally likely sprites leave open.
    """
    widths: dict[str, Any] = {"encoder_widths": (4, 6), "decoder_widths": (4,), "residual_blocks": 2}
    widths |= {"encoder_dropout": 0.1, "decoder_dropout": 0.1}
    # A red and a cyan sprite, over and over.
    indices = np.tile(np.array([4, 3], np.uint8), 8)[:, None, None, None] * np.ones((1, 8, 12, 1), np.uint8)
    optimisation = TrainConfig(learning_rate=0.01, beta=0.1)
    if render == "indices":
        config = dataclasses.replace(small(**widths), train=optimisation)
        state = train_state.create_state(config, jax.random.key(0), indices, 8)
        pixels = jnp.array(indices)
    else:
        config = Config(model=ModelConfig(hidden=8, latent=3, **widths), train=optimisation)
        rgb = EIGHT_COLOURS[indices[..., 0]]
        state = train_state.create_state(config, jax.random.key(0), rgb)
        pixels = jnp.array(rgb, jnp.float32) / 255.0
    assert inference.decode(state.model, state.params, jnp.zeros((2, 3))).shape == (
        2,
        8,
        12,
        1 if render == "indices" else 3,
    )
    colours = EIGHT_COLOURS[indices[..., 0]] / 255
    blind = ((colours - colours.mean(0)) ** 2).sum((1, 2, 3)).mean()
    if render == "indices":
        blind = (indices[0] != indices[1]).sum() * math.log(2)
    loss = math.inf
    for number in range(300):
        state, metrics = steps.train_step(state, pixels, jax.random.key(number))
        loss = float(metrics["loss"])
        if loss < 0.5 * blind:
            break
    assert loss < 0.5 * blind and bool(steps.is_finite(state))


@pytest.mark.parametrize("colours", [8], indirect=True)
def test_images_that_cannot_be_halved_so_often_are_refused(indices: np.ndarray, colours: int):
    config = small(encoder_widths=(4, 4, 4), decoder_widths=(4, 4))
    with pytest.raises(UserError, match=r"expected at most 2 for images of 12x8, .* got 3: leave some out"):
        train_state.create_state(config, jax.random.key(0), indices, colours)


@pytest.mark.parametrize("colours", [8], indirect=True)
def test_beta_rises_and_bits_are_the_elbo_whatever_beta(indices: np.ndarray, colours: int):
    """Oracle: 8 steps, beta 2 reached after half of them: 0.5, 1, 1.5, 2, 2, ... ; bits = (distortion + KL) / ln 2."""
    config = small()
    train_config = TrainConfig(epochs=2, batch_size=4, beta=2.0, beta_warmup=0.5)
    config = Config(config.data, config.model, train_config)
    state = train_state.create_state(config, jax.random.key(0), indices, colours)
    for step in range(6):
        state, metrics = steps.train_step(state, jnp.array(indices[:4]), jax.random.key(step))
        distortion, kl = float(metrics["cross_entropy"]), float(metrics["kl"])
        np.testing.assert_allclose(metrics["loss"], distortion + min(step + 1, 4) / 2 * kl, rtol=1e-5)
        np.testing.assert_allclose(metrics["bits"], (distortion + kl) / math.log(2), rtol=1e-5)


def test_the_cosine_schedule_reaches_the_steps(monkeypatch: pytest.MonkeyPatch):
    """Oracle: the rates by the formula: 40 steps, of which 2 rise, then half a cosine down to a hundredth."""
    seen = []
    monkeypatch.setattr(optax, "adam", lambda rate: seen.append(rate) or optax.sgd(1.0))
    train_state._optimiser.cache_clear()
    train_state.make_optimiser(TrainConfig(learning_rate=0.5, schedule="cosine"), 40)
    train_state._optimiser.cache_clear()
    (rate,) = seen
    expected = [0.25, 0.375] + [0.005 + 0.495 * 0.5 * (1 + math.cos(math.pi * step / 38)) for step in range(38)]
    np.testing.assert_allclose([float(rate(step)) for step in range(40)], expected, rtol=1e-5)


def test_the_auxiliary_loss_guides_an_autoregressive_decoder():
    """Oracle: plain gradient descent by hand. The weight falls from 1 to 0.2 over 8 of 10 steps."""
    config = small(pixel_hidden=4)
    config = Config(config.data, config.model, TrainConfig(epochs=10, batch_size=4, beta=2.0, auxiliary=0.2))
    indices = np.random.default_rng(0).integers(0, 3, (4, 3, 4, 1), np.uint8)
    state = train_state.create_state(config, jax.random.key(0), indices, 3)
    sgd = optax.sgd(1e-2)
    state = state.replace(tx=sgd, opt_state=sgd.init(state.params))

    @jax.jit
    @jax.grad
    def gradients(params: Any, weight: float) -> jax.Array:
        keys = jax.random.split(jax.random.key(5), 4)
        distortion, auxiliary, kl, _ = inference.apply(state.model, params, jnp.array(indices), keys, train=True)
        return jnp.sum(distortion + 2.0 * kl + weight * auxiliary)

    for step, weight in ((0, 1.0), (4, 0.6), (8, 0.2), (9, 0.2)):
        found, metrics = steps.train_step(state.replace(step=jnp.array(step)), jnp.array(indices), jax.random.key(5))
        expected = jax.tree.map(lambda old, g: old - 1e-2 * g, state.params, gradients(state.params, weight))
        for new, old in zip(*map(jax.tree.leaves, (found.params, expected)), strict=True):
            np.testing.assert_allclose(new, old, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(metrics["loss"], metrics["cross_entropy"] + 2 * metrics["kl"], rtol=1e-5)


def test_everything_a_sprite_run_compiles_is_supported_on_metal(indices: np.ndarray, colours: int):
    key = jax.random.key(0)
    state = train_state.state_shapes(small(pixel_hidden=4), indices, colours)
    z = jnp.zeros((2, 3))
    images, model = jnp.array(parallel.widened(indices)), state.model
    assert unsupported(lambda key: train_state.init(model, key), key) == set()
    augmenting = state.replace(augmentation=Augmentation(shift=1, flip=True, steps=9))
    assert unsupported(steps.train_steps, augmenting, images, jnp.zeros((3, 4), jnp.int32), key, 0, 3) == set()
    assert (
        unsupported(
            partial(steps.eval_step, model, beta=1.0),
            state.params,
            images=images,
            indices=jnp.zeros(4, jnp.int32),
            key=key,
        )
        == set()
    )
    assert unsupported(partial(inference.reconstruct, model), state.params, images) == set()
    assert unsupported(partial(inference.decode, model), state.params, z, jnp.zeros(2, jnp.uint32)) == set()
    assert unsupported(partial(inference.from_prior, model), state.params, z, z) == set()
    assert unsupported(partial(inference.log_prior, model), state.params, z) == set()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four epochs in small; its 24 held-out sprites are too few to measure samples by."""
    path = tmp_path_factory.mktemp("sprite") / "run"
    arguments = (*SMALL, "--train.epochs", "4", "--data.synthetic-count", "120", "--data.test-fraction", "0.4")
    assert train.main([*arguments, "--run-dir", str(path)]) == 0
    compile_optimised(flax_punkvae.load(path))
    return path


def test_a_run_reports_bits(run: Path):
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert "train/mse" not in record
        bits = (record["test/cross_entropy"] + record["test/kl"]) / math.log(2)
        np.testing.assert_allclose(record["test/bits"], bits, rtol=1e-5)
    with Image.open(run / "images" / "epoch-0004.png") as grid:
        # Shown at 5 times their size.
        assert grid.size == (10 * 122 + 2, 4 * 122 + 2)


def test_a_resumed_run_is_the_same_and_its_schedule_stays(run: Path, tmp_path: Path):
    """Oracle: the digest; the run is taken back to its last checkpoint but one."""
    whole = json.loads((run / "run.json").read_text())["params_sha256"]
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    steps = sorted(int(path.name) for path in (copy / "checkpoints").iterdir())
    shutil.rmtree(copy / "checkpoints" / str(steps[-1]))
    with pytest.raises(UserError, match=r"holds a run with a different config, train.epochs \(8, was 4\)"):
        train.main(["--run-dir", str(copy), "--resume", "--train.epochs", "8"])
    assert train.main(["--run-dir", str(copy), "--resume"]) == 0
    assert json.loads((copy / "run.json").read_text())["params_sha256"] == whole == digest(open_run(copy).model.params)


def draw(run: OpenedRun, how: SamplerName, count: int) -> np.ndarray:
    posteriors = run.encode(run.train_indices)
    return joined(run.model.draw(how, count, 0, posteriors=lambda: posteriors)).latents


def test_samples_have_no_colour_but_those_of_the_training_sprites(run: Path, tmp_path: Path):
    opened = open_run(run)
    assert opened.dataset.palette is not None
    palette = {tuple(colour) for colour in opened.dataset.palette.tolist()}
    for how in SAMPLERS:
        z = draw(opened, how, 70)
        drawn = opened.model.decode(z)
        assert drawn.shape == (70, 24, 24, 3)
        assert {tuple(pixel) for pixel in drawn.reshape(-1, 3).tolist()} <= palette
        # A longer draw begins with the shorter one, in batches of another filling.
        np.testing.assert_allclose(draw(opened, how, 9), z[:9], rtol=1e-4, atol=1e-5)
    assert sample.main([str(run), "--count", "3", "--output", str(tmp_path / "drawn")]) == 0
    with Image.open(tmp_path / "drawn" / "0000.png") as image:
        np.testing.assert_array_equal(np.asarray(image), opened.model.sample(3)[0])


# Re-encoded, or decoded from typical latents, the samples of a model of so few epochs are all the same.
DIVERSE = ("--temperature", "5", "--reencode", "0")


def test_a_seed_decides_the_colours_that_are_drawn(run: Path):
    """Oracle: the same draws in another order and number, and the most probable colours without seeds."""
    model = open_run(run).model
    z = np.repeat(np.random.default_rng(0).standard_normal((1, 4)).astype(np.float32), 70, axis=0)
    seeds = np.arange(70, dtype=np.uint32)
    drawn = model.decode(z, seeds)
    np.testing.assert_array_equal(model.decode(z[:9], seeds[::-1][:9]), drawn[::-1][:9])
    np.testing.assert_array_equal(model.decode_sprites(z, seeds), drawn)
    assert len(np.unique(drawn, axis=0)) > 1 == len(np.unique(model.decode(z), axis=0))
    np.testing.assert_array_equal(model.sample(70, reencode=0)[:5], model.sample(5, reencode=0))
    with pytest.raises(UserError, match=r"decode: expected seeds of shape \[70\], got \[1\]"):
        model.decode(z, seeds[:1])


def test_new_samples_are_no_training_sprites_and_no_two_the_same(run: Path, tmp_path: Path):
    """Oracle: the first ones of a long draw that are neither, by hand; training sprites are planted among what counts
    as drawn by taking the run's own samples for known."""
    opened = open_run(run)
    drawn = opened.model.sample(40, temperature=5.0, reencode=0)
    assert opened.dataset.sprites is not None
    known = opened.dataset.sprites.copy()
    known[opened.train_indices[0]] = drawn[0]
    described = dataclasses.replace(opened.model.description, train_digests=digests(known[opened.train_indices]))
    planted = dataclasses.replace(opened.model, description=described)
    seen = {sprite.tobytes() for sprite in known[opened.train_indices]}
    expected = []
    for sprite in drawn:
        if sprite.tobytes() not in seen:
            seen.add(sprite.tobytes())
            expected.append(sprite)
    assert 3 <= len(expected) < len(drawn)
    new = planted.sample(3, temperature=5.0, new=True, reencode=0)
    np.testing.assert_array_equal(new, np.stack(expected[:3]))
    assert not np.array_equal(new, drawn[:3])
    assert sample.main([str(run), "--new", "--count", "2", *DIVERSE, "--output", str(tmp_path / "new")]) == 0
    facts = json.loads((tmp_path / "new" / "samples.json").read_text())
    assert facts["only_new"] and all(row["new"] for row in facts["samples"])
    with pytest.raises(UserError, match="--new: found only 1 of 2 new and distinct sprites in 1 draws"):
        sample.main([str(run), "--new", "--count", "2", "--from", "gaussian", "--temperature", "0", "--limit", "1"])


def test_the_kl_of_latents_adds_up_to_the_rate(run: Path):
    """Oracle: the rate that training reports, of other draws of z: equal within 5 standard errors of a draw."""
    opened = open_run(run)
    record = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    sums = [opened.model.kl_per_latent(opened.dataset.images[opened.test_indices], seed).sum() for seed in range(8)]
    assert abs(np.mean(sums) - record["test/kl"]) < 5 * np.std(sums) + 1e-3


@pytest.fixture
def short_critic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own tests measure how good it is."""
    monkeypatch.setattr(critic, "EPOCHS", 1)
    monkeypatch.setattr(critic, "LEAST_STEPS", 1)


@pytest.mark.usefixtures("short_critic")
def test_a_sprite_run_is_evaluated(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Oracle: bits of K = 1 by many draws by hand; the other codes are measured on the same sprites."""
    options = ("--iwae-images", "4", "--iwae-samples", "1000", "--output", str(tmp_path))
    assert evaluate.main([str(run), *options]) == 0
    printed = capsys.readouterr().out
    parts = json.loads((tmp_path / "evaluation.json").read_text())
    bits = parts["iwae"]["bits"]
    assert list(bits) == ["1", "100", "1000"] and bits["1000"] <= bits["100"] <= bits["1"]
    opened = open_run(run)
    chosen = iwae_positions(opened, 4, 0)
    means, logvars = opened.encode(chosen)
    noise = np.random.default_rng(0).standard_normal((500, *means.shape)).astype(np.float32)
    z = (means + np.exp(logvars / 2) * noise).reshape(-1, 4)
    copies = np.tile(opened.dataset.images[chosen], (500, 1, 1, 1))
    distortion = applied(opened.model.module, opened.model.params, jnp.array(copies), jnp.array(z), method="distortion")
    posterior = -0.5 * (noise**2 + logvars + np.log(2 * np.pi)).sum(-1).reshape(-1)
    kl = posterior - np.asarray(inference.log_prior(opened.model.module, opened.model.params, jnp.array(z))).sum(-1)
    np.testing.assert_allclose(bits["1"], (np.asarray(distortion) + kl).mean() / math.log(2), rtol=0.02)
    assert list(parts["other_codes"]["bits"]) == [line.strip() for line in parts["other_codes"]["bits"]]
    assert len(parts["other_codes"]["bits"]) == 5 and "lossless WebP" in printed
    assert re.search(r"IWAE bound, bits per sprite, K = 1000.* [0-9.]+", printed)
    assert parts["sample_fidelity"]["n"] == 24 and parts["critic"]["n"] == 48
    assert "skipped the features of the trained network" in printed


@pytest.mark.parametrize("command", ["reconstruct 3 4", "interpolate 3 4 --steps 3", "traverse 3 --top 2"])
def test_a_sprite_run_is_explored(run: Path, tmp_path: Path, command: str):
    """Oracle: the first tile is the sprite itself, enlarged."""
    out = tmp_path / "sheet.png"
    assert explore.main([str(run), *command.split(), "--output", str(out)]) == 0
    if not command.startswith("traverse"):
        opened = open_run(run)
        with Image.open(out) as sheet:
            expected = images.enlarge(opened.dataset.pictures(np.array([3])), 10)[0]
            np.testing.assert_array_equal(np.asarray(sheet)[4:244, 4:244], expected)


@pytest.mark.usefixtures("short_critic")
def test_sprites_of_16x16_and_many_colours_are_trained_measured_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """From a folder, with the features of the random network alone, which knows no size, and no labels. The sprites
    have more colours than a byte can index."""
    drawn = data.load(DataConfig(source="synthetic", synthetic_count=120, synthetic_size=16, render="sprite")).images[:]
    drawn = drawn.copy()
    drawn[:, :2] = MANY_COLOURS[np.random.default_rng(0).integers(0, len(MANY_COLOURS), (120, 2, 16))]
    source = folder(tmp_path / "sprites", drawn)
    run = tmp_path / "run"
    arguments = (*SMALL, "--data.source", source, "--data.test-fraction", "0.4", "--train.epochs", "1")
    assert train.main([*arguments, "--run-dir", str(run)]) == 0
    palette = open_run(run).model.index_palette
    assert palette is not None and len(palette) > 256
    capsys.readouterr()
    assert evaluate.main([str(run), "--iwae-images", "2", "--iwae-samples", "100"]) == 0
    parts = json.loads((run / "evaluation.json").read_text())
    assert set(parts["sample_fidelity"]) == {"n", "seed", "reference", "trained_left_out", "random"}
    printed = capsys.readouterr().out
    assert "the images have no labels: skipped label probes" in printed
    assert "skipped the features of the trained network" in printed
    assert "skipped label frequencies; traits are not read: the feature network takes 24x24 sprites only" in printed
    assert sample.main([str(run), "--count", "2"]) == 0
    with Image.open(run / "samples" / "prior-seed0" / "0001.png") as image:
        assert image.size == (16, 16)


def test_the_preset_is_as_its_notes_say():
    preset = read_preset(PRESET)
    assert (preset.data.render, preset.model.likelihood, preset.train.beta) == ("indices", "categorical", 1.0)
