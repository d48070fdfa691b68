"""The evaluation program on a small run: its numbers recomputed, its files, its refusals."""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import flax_punkvae
from flax_punkvae import images as im
from flax_punkvae.errors import UserError
from flax_punkvae.experiments import evaluate
from flax_punkvae.measures import critic, features, metrics
from flax_punkvae.model import inference, likelihoods, losses
from flax_punkvae.trained import evaluation, headline, sample_quality, sample_sets, traits
from flax_punkvae.trained.runs import OpenedRun, open_run
from flax_punkvae.trained.samplers import SAMPLERS
from flax_punkvae.trained.selection import Wanted, joined
from flax_punkvae.training.description import digests
from helpers.compiling import compile_optimised, optimised
from helpers.programs import PICTURES, ended, trained
from helpers.streams import Gone

REENCODED = ("prior, re-encoded",)
QUICK = ("--iwae-images", "3", "--iwae-samples", "100")


@pytest.fixture(scope="module", autouse=True)
def _a_short_critic() -> Iterator[None]:
    """Its own tests measure how good it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(critic, "EPOCHS", 1)
        patch.setattr(critic, "LEAST_STEPS", 1)
        yield


@pytest.fixture(scope="module")
def cwd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = tmp_path_factory.mktemp("evaluated")
    widths = ("--model.encoder-widths", "4", "8", "--model.decoder-widths", "4")
    options = ("--data.synthetic-count", "200", "--train.epochs", "2", "--train.beta", "0.5")
    trained(cwd, "run", *PICTURES, *widths, *options)
    compile_optimised(flax_punkvae.load(cwd / "run"))
    return cwd


@pytest.fixture(scope="module")
def run(cwd: Path) -> OpenedRun:
    return open_run(cwd / "run")


@pytest.fixture(scope="module")
def found(cwd: Path) -> dict:
    assert evaluate.main([str(cwd / "run"), *QUICK]) == 0
    return json.loads((cwd / "run" / "evaluation.json").read_text())


def test_rate_and_distortion_are_those_of_the_held_out_images(found: dict, run: OpenedRun):
    """Oracle: the posteriors, encoded anew; the distortion against the mean image's reconstruction error's order."""
    held_out = run.dataset.images[run.test_indices]
    means, logvars = run.encode(run.test_indices)
    rate = np.asarray(losses.gaussian_kl(jax.numpy.array(means), jax.numpy.array(logvars)), np.float64).mean()
    part = found["rate_distortion"]
    assert part["n"] == len(held_out) == 40
    np.testing.assert_allclose(part["rate_nats"], rate, rtol=1e-4)
    np.testing.assert_allclose(sum(part["kl_per_latent_nats"]), rate, rtol=1e-4)
    np.testing.assert_allclose(part["loss"], part["distortion"] + 0.5 * part["rate_nats"], rtol=1e-6)
    assert part["sigma"] == 0.5 and part["pythae_beta"] == 0.25
    # -ELBO at sigma = sqrt(beta / 2) is the loss over beta, and the Gaussian's constant.
    constant = held_out[0].size / 2 * np.log(2 * np.pi * 0.25)
    np.testing.assert_allclose(part["negative_elbo_nats_at_sigma"], part["loss"] / 0.5 + constant, rtol=1e-6)
    assert part["active_units"] == int(metrics.active_units(means.astype(float)).sum())


def test_the_iwae_bound_is_above_the_elbo(found: dict, run: OpenedRun):
    """Oracle: the ELBO of the same images by many draws, for K = 1; larger K only rises."""
    bounds = found["iwae"]["bound_nats"]
    assert list(bounds) == ["1", "100"] and bounds["100"] >= bounds["1"]
    positions = evaluation.iwae_positions(run, 3, 0)
    assert positions.tolist() != run.test_indices[:3].tolist() and set(positions) <= set(run.test_indices)
    chosen = run.dataset.images[positions]
    means, logvars = run.encode(positions)
    noise = np.random.default_rng(0).standard_normal((200, *means.shape)).astype(np.float32)
    draws = means + np.exp(logvars / 2) * noise
    with optimised():
        decoded = inference.decode(run.model.module, run.model.params, draws.reshape(-1, means.shape[1]))
    decoded = np.asarray(decoded).reshape(200, *chosen.shape)
    errors = ((decoded.astype(float) - chosen / 255) ** 2).sum((2, 3, 4))
    likelihood = likelihoods.gaussian_log_likelihood(errors, 0.5, chosen[0].size).mean()
    rate = np.asarray(losses.gaussian_kl(jax.numpy.array(means), jax.numpy.array(logvars)), float).mean()
    np.testing.assert_allclose(bounds["1"], likelihood - rate, rtol=1e-3)


def test_reconstruction_is_of_the_held_out_sprites(found: dict, run: OpenedRun):
    sprites = run.dataset.sprites
    assert sprites is not None
    palette = {tuple(colour) for colour in sprites[run.train_indices].reshape(-1, 3).tolist()}
    means, _ = run.encode(run.test_indices)
    drawn = im.read_sprites(run.model.decode(means), "reference")
    snapped = im.snap(drawn, np.array(sorted(palette), np.uint8))
    right = (snapped == sprites[run.test_indices]).all(-1)
    assert found["reconstruction"]["palette"] == len(palette)
    np.testing.assert_allclose(found["reconstruction"]["pixels_right"], right.mean())
    np.testing.assert_allclose(found["reconstruction"]["sprites_right"], right.all((1, 2)).mean())


def test_samples_stand_beside_the_floor_at_the_same_n(found: dict):
    part = found["sample_fidelity"]
    assert part["n"] == 20 and "trained" not in part and "may have seen them" in part["trained_left_out"]
    rows = part["random"]
    assert list(rows) == ["held-out (floor)", "training", *SAMPLERS, *REENCODED]
    # A model of two epochs draws grey heads: farther from real characters than others of them are.
    for how in SAMPLERS:
        assert rows[how]["frechet"] > rows["held-out (floor)"]["frechet"]
        assert rows[how]["coverage"] < rows["held-out (floor)"]["coverage"]
    assert list(found["critic"]["rows"]) == ["training (floor)", *SAMPLERS, *REENCODED] and found["critic"]["n"] == 40
    copies = found["copying"]["rows"]
    assert list(copies) == ["held-out (floor)", *SAMPLERS, *REENCODED]
    assert all(row["exact_copies"] == 0 for how, row in copies.items() if how in SAMPLERS)


def test_all_rows_have_one_reference_and_one_n(run: OpenedRun, monkeypatch: pytest.MonkeyPatch):
    """Oracle: the sets themselves: the halves share no position and make up the held-out sprites."""
    sprites = run.dataset.sprites
    assert sprites is not None
    compared = []
    monkeypatch.setattr(features, "extract", lambda _, content: compared.append(content) or content)
    monkeypatch.setattr(sample_quality, "_compare", lambda real, generated: {})
    sample_quality.sample_fidelity(run, {"prior": sprites[run.train_indices[:40]]}, 3)
    reference, floor, training, prior = compared
    assert [len(content) for content in compared] == [20, 20, 20, 20]
    both = np.concatenate([reference, floor])
    np.testing.assert_array_equal(np.sort(both, axis=0), np.sort(sprites[run.test_indices], axis=0))
    np.testing.assert_array_equal(prior, sprites[run.train_indices[:20]])
    known = {sprite.tobytes() for sprite in sprites[run.train_indices]}
    assert all(sprite.tobytes() in known for sprite in training)


def test_the_trained_features_are_for_the_punks_they_never_saw(run: OpenedRun, monkeypatch: pytest.MonkeyPatch):
    """Oracle: the digest of this run's held-out sprites in place of the punks'; one other sprite is too many."""
    sprites = run.dataset.sprites
    assert sprites is not None
    monkeypatch.setattr(features, "HELD_OUT_SHA256", features.sprites_sha256(sprites[run.test_indices]))
    part = sample_quality.sample_fidelity(run, {}, 0)
    assert part["features_sha256"] == features.load().sha256 and "trained_left_out" not in part
    assert list(part["trained"]) == ["held-out (floor)", "training"]
    swapped = np.concatenate([run.test_indices[1:], run.train_indices[:1]])
    other = sample_quality.sample_fidelity(run._replace(test_indices=swapped), {}, 0)
    assert "trained" not in other and "trained_left_out" in other


def test_the_critic_compares_with_held_out_sprites(run: OpenedRun, monkeypatch: pytest.MonkeyPatch):
    """Oracle: the sets that the critic is given."""
    sprites = run.dataset.sprites
    assert sprites is not None
    compared = []
    monkeypatch.setattr(critic, "compare", lambda real, other, seed: compared.append((real, other, seed)) or 0.5)
    part = sample_quality.critic_auc(run, {"prior": sprites[run.train_indices[:60]]}, 7)
    assert part["rows"] == {"training (floor)": 0.5, "prior": 0.5} and part["seed"] == 7
    for real, other, seed in compared:
        np.testing.assert_array_equal(real, sprites[run.test_indices])
        assert len(other) == part["n"] == 40 and seed == 7
    np.testing.assert_array_equal(compared[1][1], sprites[run.train_indices[:40]])


def test_held_out_sprites_that_were_trained_on_are_counted(run: OpenedRun):
    sprites = run.dataset.sprites
    assert sprites is not None
    planted = sprites.copy()
    planted[run.test_indices[:3]] = planted[run.train_indices[5]]
    planted_run = run._replace(dataset=replace(run.dataset, sprites=planted))
    copies = {"copies": sprites[np.repeat(run.train_indices[5], 20)]}
    before, after = (sample_quality.copying(each, copies, 0) for each in (run, planted_run))
    floors = [part["rows"]["held-out (floor)"]["exact_copies"] for part in (before, after)]
    assert floors[1] == floors[0] + 3 and after["n_unseen"] == before["n_unseen"] - 3
    # A copy of a training sprite is no hit on a held-out one that was not seen.
    assert after["rows"]["copies"]["held_out_hits"] == 0 and after["rows"]["copies"]["exact_copies"] == 20


def test_a_planted_copy_is_counted(run: OpenedRun):
    sprites = run.dataset.sprites
    assert sprites is not None
    drawn = {"copies": sprites[run.train_indices[:30]], "hits": sprites[run.test_indices[:25]]}
    rows = sample_quality.copying(run, drawn, 0)["rows"]
    assert rows["copies"]["exact_copies"] == 30 and rows["copies"]["median_pixels_to_nearest"] == 0
    assert rows["copies"]["c_t"] < -3 and rows["copies"]["held_out_hits"] == 0
    assert rows["hits"]["exact_copies"] == 0 and rows["hits"]["held_out_hits"] == 25


def test_a_wrong_pixel_makes_a_sample_invalid(found: dict, run: OpenedRun, monkeypatch: pytest.MonkeyPatch):
    """Oracle: training sprites are valid; one pixel in a colour that no training sprite has there is not."""
    # With so few training sprites, hardly a held-out one is valid.
    monkeypatch.setattr(sample_quality, "LEAST_FLOOR", 0.0)
    sprites, palette = run.dataset.sprites, run.model.description.palette
    assert sprites is not None and palette is not None
    train = sprites[run.train_indices]
    there = {tuple(colour) for colour in train[:, 12, 12].tolist()}
    wrong = train[:20].copy()
    wrong[:, 12, 12] = next(colour for colour in palette.tolist() if tuple(colour) not in there)
    rows = sample_quality.local_validity(run, {"training": train[:20], "wrong": wrong})["rows"]
    assert rows["training"] == {"3": 1.0, "5": 1.0, "7": 1.0}
    assert rows["wrong"] == {"3": 0.0, "5": 0.0, "7": 0.0}
    assert list(found["local_validity"]["rows"]) == ["held-out (floor)", *SAMPLERS, *REENCODED]


def test_a_floor_without_power_is_left_out(run: OpenedRun, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sample_quality, "LEAST_FLOOR", 1.01)
    part = sample_quality.local_validity(run, {})
    assert list(part["no_power"]) == ["3", "5", "7"] and part["rows"] == {"held-out (floor)": {}}


def test_label_frequencies_are_those_that_the_network_reads(run: OpenedRun, monkeypatch: pytest.MonkeyPatch):
    """Oracle: by hand, with the sprites' own labels for what the network reads; the same sprites are at distance 0."""
    sprites, labels = run.dataset.sprites, run.dataset.labels == 1
    assert sprites is not None
    known = {sprite.tobytes(): row for sprite, row in zip(sprites, labels, strict=True)}
    monkeypatch.setattr(sample_quality, "LEAST_PAIRS", 5)
    monkeypatch.setattr(traits, "load_network", lambda _: (object(), ""))
    monkeypatch.setattr(traits, "read", lambda _, content: np.stack([known[sprite.tobytes()] for sprite in content]))
    held_out, some = run.test_indices, run.train_indices[:30]
    part = sample_quality.label_frequencies(run, {"same": sprites[held_out], "other": sprites[some]}, 0)
    assert part is not None
    assert part["rows"]["same"] == {"labels": 0.0, "pairs": 0.0}
    expected = np.abs(labels[held_out].mean(0) - labels[some].mean(0)).sum()
    np.testing.assert_allclose(part["rows"]["other"]["labels"], expected)
    pairs = [[a, b] for a in range(labels.shape[1]) for b in range(a) if labels[held_out][:, [a, b]].all(1).sum() >= 5]
    expected = sum(abs(labels[held_out][:, p].all(1).mean() - labels[some][:, p].all(1).mean()) for p in pairs)
    assert part["pairs"] == len(pairs) > 0
    np.testing.assert_allclose(part["rows"]["other"]["pairs"], expected)
    # The floor, within 5 standard errors of the mean over 200 sets of other seeds.
    train, random = labels[run.train_indices], np.random.default_rng(1)
    sets = [train[random.permutation(len(train))[: len(held_out)]].mean(0) for _ in range(200)]
    floors = np.abs(labels[held_out].mean(0) - np.array(sets)).sum(1)
    floor = part["rows"]["training (floor)"]["labels"]
    assert abs(floor - floors.mean()) < 5 * floors.std() / np.sqrt(sample_quality.FLOOR_SETS)


def test_the_sets_are_those_that_the_model_draws(run: OpenedRun):
    """Oracle: `Model.draw`, `reencode` and `select`, each from the start; the first samples are made known."""
    count = 4
    drawn = joined(run.model.draw("prior", count, 3, reencode=0))
    described, passes = run.model.description, {"prior, new only": 0, "prior, re-encoded, new only": 1}
    first = [run.model.reencode(drawn, times) for times in passes.values()]
    known = np.concatenate([digests(run.model.to_sprites(run.model.decode_sprites(*draws)))[:1] for draws in first])
    described = replace(described, train_digests=np.concatenate([known, described.train_digests[len(known) :]]))
    model = replace(run.model, description=described)
    opened = run._replace(model=model, test_indices=run.test_indices[:count])
    found = sample_sets.draw(opened, evaluation.Posteriors(opened), 3)
    for how in SAMPLERS:
        draws = joined(model.draw(how, count, 3, posteriors=lambda: run.encode(run.train_indices), reencode=0))
        np.testing.assert_array_equal(found.pop(how), model.decode_sprites(*draws))
    np.testing.assert_array_equal(found.pop("prior, re-encoded"), model.decode_sprites(*model.reencode(drawn, 1)))
    for row, times in passes.items():
        wanted = Wanted(new=True, limit=4 * count)
        new = model.select(wanted, "prior", count, 3, reencode=times).draws
        if len(new.latents) == count:
            np.testing.assert_array_equal(found.pop(row), model.decode_sprites(*new))
    assert not found


def test_labels_are_probed(found: dict, run: OpenedRun):
    part = found["label_probes"]
    assert part["n"] == 40 and set(part["by_label"]) <= set(run.dataset.label_names)
    assert part["labels"] == len(part["by_label"])


def test_the_same_seed_gives_the_same_file(cwd: Path, found: dict, tmp_path: Path):
    evaluate.main([str(cwd / "run"), *QUICK, "--output", str(tmp_path)])
    assert json.loads((tmp_path / "evaluation.json").read_text()) == found
    with Image.open(tmp_path / "evaluation.png") as page:
        assert page.size == (840, 1440) and len(page.convert("RGB").getcolors(1 << 24) or ()) > 10


def test_several_runs_have_a_mean_and_a_spread(
    cwd: Path, run: OpenedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Oracle: by hand, from the figures of two runs; a run of another config is refused before anything is measured."""
    (tmp_path / "means").mkdir()
    for name, edit in (("two", "seed = 1"), ("beta", "seed = 1\n")):
        shutil.copytree(cwd / "run", tmp_path / name)
        config = tmp_path / name / "config.toml"
        text = config.read_text().replace("seed = 0", edit, 1)
        config.write_text(text.replace("beta = 0.5", "beta = 0.6") if name == "beta" else text)
    figures = iter([{"x": 1.0, "y": 5.0}, {"x": 2.0}])
    monkeypatch.setattr(evaluate, "_evaluate", lambda *_: {})
    monkeypatch.setattr("flax_punkvae.trained.headline.figures", lambda _: next(figures))
    runs = [str(cwd / "run"), str(tmp_path / "two")]
    assert evaluate.main([*runs, "--output", str(tmp_path / "means")]) == 0
    found = json.loads((tmp_path / "means" / "seeds.json").read_text())
    assert found["runs"] == runs
    assert found["figures"] == {"x": {"mean": 1.5, "sd": pytest.approx(0.5**0.5), "values": [1.0, 2.0]}}
    assert "headline figures of 2 runs" in capsys.readouterr().out
    with pytest.raises(UserError, match="differ in more than the seed: evaluate each alone"):
        evaluate.main([runs[0], str(tmp_path / "beta")])


def test_the_headline_figures_are_those_of_the_parts(found: dict):
    figures = headline.figures(found)
    assert figures["prior: Frechet, random features"] == found["sample_fidelity"]["random"]["prior"]["frechet"]
    assert figures["prior: critic's AUC"] == found["critic"]["rows"]["prior"]
    assert figures["correct pixels, %"] == 100 * found["reconstruction"]["pixels_right"]


def test_images_that_are_no_sprites_are_measured_as_far_as_they_can_be(tmp_path: Path):
    (tmp_path / "photos").mkdir()
    for number, photo in enumerate(np.random.default_rng(0).integers(0, 256, (40, 20, 20, 3), np.uint8)):
        Image.fromarray(photo).save(tmp_path / "photos" / f"{number}.png")
    trained(tmp_path, "run", *PICTURES, "--data.source", "photos", "--train.epochs", "1")
    # The run's own config names the folder as it was given: from where the run was started.
    done = ended(tmp_path, "run", *QUICK, program=evaluate.main)
    assert done.returncode == 0, done.stderr
    assert "skipped reconstruction and all measures of samples" in done.stdout
    parts = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert "sample_fidelity" not in parts and parts["label_probes"] is None and parts["rate_distortion"]["n"] == 8


def evaluated_at_once(run: OpenedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes its time is not measured."""
    monkeypatch.setattr("flax_punkvae.trained.runs.open_run", lambda *_: run)
    monkeypatch.setattr(evaluation, "importance", lambda *_: None)
    for part in ("other_codes", "label_probes"):
        monkeypatch.setattr(evaluation, part, lambda *_: None)
    monkeypatch.setattr(sample_quality, "LEAST_HELD_OUT", 1000)


def test_few_held_out_images_are_said_to_be_too_few(
    cwd: Path, run: OpenedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    least = sample_quality.LEAST_HELD_OUT
    evaluated_at_once(run._replace(test_indices=run.test_indices[: least - 1]), monkeypatch)
    monkeypatch.setattr(sample_quality, "LEAST_HELD_OUT", least)
    assert evaluate.main([str(cwd / "run"), "--output", str(tmp_path)]) == 0
    assert "39 held-out images are too few, at least 40 are needed" in capsys.readouterr().out
    assert "sample_fidelity" not in json.loads((tmp_path / "evaluation.json").read_text())


@pytest.mark.parametrize("beta", [0.0, 5e-324, 1e-300])
def test_without_a_sigma_the_likelihoods_are_left_out(
    cwd: Path,
    run: OpenedRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    beta: float,
):
    """Oracle: the rest is as with a sigma; the JSON holds finite numbers alone."""
    bound = evaluation.importance
    evaluated_at_once(run._replace(config=replace(run.config, train=replace(run.config.train, beta=beta))), monkeypatch)
    monkeypatch.setattr(evaluation, "importance", bound)
    assert evaluate.main([str(cwd / "run"), *QUICK, "--output", str(tmp_path)]) == 0
    parts = json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=pytest.fail)
    whole = rate_distortion(run)
    left_out = {"sigma", "negative_elbo_nats_at_sigma"}
    assert set(parts["rate_distortion"]) == set(whole) - left_out and "iwae" not in parts
    assert parts["rate_distortion"]["rate_nats"] == whole["rate_nats"]
    assert "so sigma is 0: skipped -ELBO and IWAE bound" in capsys.readouterr().out


def rate_distortion(run: OpenedRun) -> dict:
    return evaluation.rate_distortion(run, evaluation.Posteriors(run), 0)


def test_the_active_units_of_one_image_are_none(run: OpenedRun):
    alone = rate_distortion(run._replace(test_indices=run.test_indices[:1]))
    two = rate_distortion(run._replace(test_indices=run.test_indices[:2]))
    assert alone["active_units"] is None and two["active_units"] is not None


def test_results_are_written_though_nobody_reads(
    cwd: Path, run: OpenedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    evaluated_at_once(run, monkeypatch)
    monkeypatch.setattr(sys, "stdout", Gone())
    assert evaluate.main([str(cwd / "run"), "--output", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"evaluation.json", "evaluation.png"}


@pytest.mark.parametrize("name", ["evaluation.json", "evaluation.png"])
def test_a_link_out_of_the_run_is_not_followed(
    run: OpenedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
):
    """Oracle: what the link leads to is not made; the results are printed, since they took minutes."""
    evaluated_at_once(run, monkeypatch)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="a symbolic link leads out of the run directory"):
        evaluate.main([str(tmp_path / "run")])
    assert not (tmp_path / "outside").exists()
    assert "rate (KL), nats per image" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("nowhere",), "nowhere holds no run"),
        (("run", "--seed", "-1"), "--seed"),
        (("run", "--iwae-samples", "7"), "7 is not possible: choose 1, 100 or 1000"),
        (("run", "--iwae-images", "0"), "--iwae-images"),
        (("run", "--output", "missing"), "create it first"),
        ((), "no run directory given: name one"),
        (("run", "nowhere"), "nowhere holds no run"),
    ],
)
def test_bad_input(cwd: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], named: str):
    monkeypatch.chdir(cwd)
    with pytest.raises(UserError) as caught:
        evaluate.main(arguments)
    assert named in str(caught.value) and "\n" not in str(caught.value)
