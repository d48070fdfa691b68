"""Steps: purity, reproducibility, scanning, evaluation, order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_punkvae.config import Config, TrainConfig, batches
from flax_punkvae.model import inference, losses
from flax_punkvae.training import state as train_state
from flax_punkvae.training import steps
from flax_punkvae.training.checkpoints import digest
from helpers.compiling import optimised


@pytest.fixture(scope="module")
def state(small: Config) -> train_state.TrainState:
    return train_state.create_state(small, jax.random.key(0))


@pytest.fixture(scope="module")
def batch(photos: np.ndarray) -> jax.Array:
    return jnp.array(photos[:8], jnp.float32) / 255.0


def test_the_same_key_gives_the_same_state_another_another(small: Config, state: train_state.TrainState):
    assert digest(train_state.create_state(small, jax.random.key(0)).params) == digest(state.params)
    assert digest(train_state.create_state(small, jax.random.key(1)).params) != digest(state.params)


def test_train_step_is_pure(state: train_state.TrainState, batch: jax.Array):
    before = digest((state.step, state.params, state.opt_state))
    once, metrics = steps.train_step(state, batch, jax.random.key(1))
    again, metrics_again = steps.train_step(state, batch, jax.random.key(1))
    other, _ = steps.train_step(state, batch, jax.random.key(2))
    assert digest((state.step, state.params, state.opt_state)) == before
    assert digest(once.params) == digest(again.params) != before
    assert digest(other.params) != digest(once.params)
    assert jax.tree.map(float, metrics) == jax.tree.map(float, metrics_again)
    assert int(once.step) == 1


def test_the_second_step_compiles_nothing(
    state: train_state.TrainState, photos: np.ndarray, caplog: pytest.LogCaptureFixture
):
    images = jnp.array(photos[:5], jnp.float32) / 255.0
    with jax.log_compiles():
        state, _ = steps.train_step(state, images, jax.random.key(1))
        assert "Compiling" in caplog.text
        caplog.clear()
        steps.train_step(state, images, jax.random.key(1))
    assert "Compiling" not in caplog.text


def test_a_step_is_adam_on_the_gradient_of_the_summed_loss(state: train_state.TrainState, batch: jax.Array):
    """Oracle: Adam's first step, written out in float64, on the gradient of the loss by its definition."""
    key = jax.random.key(3)

    def total(params):
        mse, _, kl, _ = inference.apply(state.model, params, batch, jax.random.split(key, 8), train=True)
        return jnp.sum(mse + 3.4 * kl)

    loss, gradients = jax.jit(jax.value_and_grad(total))(state.params)
    stepped, metrics = steps.train_step(state, batch, key)
    np.testing.assert_allclose(metrics["loss"] * 8, loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["mse"] + 3.4 * metrics["kl"], metrics["loss"], rtol=1e-5)
    for before, gradient, after in zip(*map(jax.tree.leaves, (state.params, gradients, stepped.params)), strict=True):
        g = np.asarray(gradient, np.float64)
        m_hat, v_hat = 0.1 * g / (1 - 0.9), 0.001 * g**2 / (1 - 0.999)
        expected = np.asarray(before, np.float64) - 0.0008 * m_hat / (np.sqrt(v_hat) + 1e-8)
        # Where the gradient is nothing but rounding, Adam's first step still has full length.
        clear = np.abs(g) > 1e-3 * np.abs(g).max()
        np.testing.assert_allclose(np.asarray(after)[clear], expected[clear], rtol=1e-4, atol=1e-6)


def test_steps_in_one_call_equal_steps_in_many(small: Config, photos: np.ndarray):
    images = jnp.array(photos)
    indices = jnp.array(steps.epoch_order(jax.random.key(4), 0, 20, (4, 5)))
    key = jax.random.key(5)
    together, metrics = steps.train_steps(
        train_state.create_state(small, jax.random.key(0)), images, indices, key, 0, 4
    )
    one_by_one = train_state.create_state(small, jax.random.key(0))
    looped = train_state.create_state(small, jax.random.key(0))
    for step in range(4):
        one_by_one, values = steps.train_steps(one_by_one, images, indices, key, step, step + 1)
        pixels = images[indices[step]].astype(jnp.float32) / 255.0
        looped, _ = steps.train_step(looped, pixels, jax.random.fold_in(key, step))
        assert float(values["loss"][step]) == float(metrics["loss"][step])
        assert values["loss"].shape == (4,) and np.count_nonzero(values["loss"]) == 1
    # Calls of any length give the same bits; a step compiled by itself may round differently.
    assert digest(one_by_one.params) == digest(together.params)
    assert int(together.step) == int(looped.step) == 4
    for ours, theirs in zip(jax.tree.leaves(together.params), jax.tree.leaves(looped.params), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4)


def test_train_steps_uses_up_its_state(small: Config, photos: np.ndarray):
    state = train_state.create_state(small, jax.random.key(0))
    # Indices of the shape that is compiled above.
    steps.train_steps(state, jnp.array(photos), jnp.zeros((4, 5), jnp.int32), jax.random.key(0), 0, 1)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))


@pytest.mark.parametrize("batch_size", [1, 3, 7, 20])
def test_evaluate_counts_every_image_once(state: train_state.TrainState, photos: np.ndarray, batch_size: int):
    """Oracle: the mean over single images of the posterior's KL, which has no noise in it."""
    images = jnp.array(photos)
    indices = np.array([4, 0, 11, 19, 7, 3, 2])
    values = steps.evaluate(state.model, state.params, 3.4, images, indices, jax.random.key(6), batch_size)
    mean, logvar = inference.encode(state.model, state.params, photos[indices])
    kl = np.asarray(jax.jit(losses.gaussian_kl)(mean, logvar), np.float64).mean()
    np.testing.assert_allclose(values["kl"], kl, rtol=1e-4)
    np.testing.assert_allclose(values["loss"], values["mse"] + 3.4 * values["kl"], rtol=1e-5)


def test_a_decoder_that_knows_the_answer_has_no_error(state: train_state.TrainState):
    """Oracle: with zero weights every pixel is sigmoid(bias), so a flat image of that value has squared error 0."""
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), state.params)
    flat = np.full((2, 128, 128, 3), 127.5 / 255.0, np.float32)

    @jax.jit
    def applied(params, images, key):
        return inference.apply(state.model, params, images, jax.random.split(key), train=False)

    mse, _, kl, _ = applied(params, flat, jax.random.key(0))
    assert np.asarray(mse).tolist() == np.asarray(kl).tolist() == [0.0, 0.0]


@given(st.integers(1, 200), st.integers(1, 64), st.booleans(), st.integers(0, 5), st.integers(0, 2**31))
def test_an_epoch_sees_every_image_at_most_once_and_each_once_if_fitted(
    count: int, batch_size: int, fit: bool, epoch: int, seed: int
):
    """Oracle: the positions themselves. What fills the last fitted batch is the start of the same epoch."""
    key = jax.random.key(seed)
    shape = batches(TrainConfig(batch_size=batch_size, fit_batches=fit), count)
    order = steps.epoch_order(key, epoch, count, shape)
    assert order.shape == shape
    seen, filled = order.ravel()[:count], order.ravel()[count:]
    assert len(np.unique(seen)) == len(seen) and seen.min() >= 0 and seen.max() < count
    assert len(seen) == (count if fit else order.size)
    np.testing.assert_array_equal(filled, seen[: len(filled)])
    assert all(len(np.unique(batch)) == len(batch) for batch in order)
    np.testing.assert_array_equal(order, steps.epoch_order(key, epoch, count, shape))


def test_epochs_and_keys_have_their_own_order():
    orders = [steps.epoch_order(jax.random.key(seed), epoch, 100, (10, 10)) for seed in (0, 1) for epoch in (0, 1)]
    assert len({order.tobytes() for order in orders}) == 4


def test_losses_fall(small: Config, photos: np.ndarray):
    state = train_state.create_state(small, jax.random.key(0))
    indices = jnp.array(np.resize(np.arange(7), (60, 7)).astype(np.int32))
    with optimised():
        _, metrics = steps.train_steps(state, jnp.array(photos // 8), indices, jax.random.key(1), 0, len(indices))
    assert metrics["mse"][-1] < 0.9 * metrics["mse"][0]
