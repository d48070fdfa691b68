"""The sprite preset in PyTorch (extra `bench`): the same network, loss and optimiser, in its fast settings."""

# The type checker runs without the extra `bench`.
# pyright: reportMissingImports=false

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from flax_punkvae.config import Config
from flax_punkvae.model.palette import NEVER, Support
from flax_punkvae.model.pixels import neighbours
from flax_punkvae.model.priors import AutoregressivePrior

_EMBEDDING, _OUTPUT = 8, 16


def _constant(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


class Residual(nn.Module):
    """x + linear(dropout(relu(linear(x))))."""

    def __init__(self, width: int, rate: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(rate), nn.Linear(width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x)


class Palette(nn.Module):
    """log q(colour) of each open position, over the colours listed there: features [b, o, e], colours [b, o]."""

    def __init__(self, support: Support, features: int) -> None:
        super().__init__()
        lists = support.open_lists
        self.kernel = nn.Parameter(0.5 * torch.randn(support.colours, features))
        self.bias = nn.Parameter(torch.zeros(lists.shape))
        # Where each colour is in the list of a position, and positions in groups of similar numbers of colours.
        places = np.zeros((len(lists), support.colours + 1), np.int64)
        np.put_along_axis(places, lists.astype(np.int64), np.arange(lists.shape[1])[None], axis=1)
        self.places, self.rows = _constant(places), torch.arange(len(lists))
        self.groups = [
            (_constant(rows), _constant(lists[rows, :size].astype(np.int64))) for rows, size in support.groups
        ]
        self.order = _constant(np.argsort(np.concatenate([rows for rows, _ in support.groups])))

    def forward(self, x: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
        places, found = self.places[self.rows, colours], []
        kernel = torch.cat([self.kernel, torch.zeros_like(self.kernel[:1])])
        for rows, lists in self.groups:
            bias = torch.where(lists < len(self.kernel), self.bias[rows, : lists.shape[1]], NEVER)
            logits = torch.einsum("boe,ome->bom", x[:, rows], kernel[lists]) + bias
            chosen = logits.gather(2, places[:, rows, None])[..., 0]
            found.append(chosen - logits.logsumexp(2))
        return torch.cat(found, 1)[:, self.order]


class Prior(nn.Module):
    """log p(z) of the autoregressive prior, [b]."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.components = AutoregressivePrior.components
        width, outputs = max(AutoregressivePrior.hidden, latent), 3 * self.components
        degrees, position = np.arange(width) % latent, np.arange(latent)
        masks = (
            position[:, None] < degrees,
            degrees[:, None] <= degrees,
            np.repeat(degrees[:, None] <= position, outputs, axis=1),
        )
        self.masks = [_constant(mask.astype(np.float32)) for mask in masks]
        self.kernels = nn.ParameterList(torch.randn(mask.shape) / math.sqrt(len(mask)) for mask in masks)
        self.biases = nn.ParameterList(torch.zeros(mask.shape[1]) for mask in masks)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        (k0, k1, k2), (b0, b1, b2) = [k * mask for k, mask in zip(self.kernels, self.masks, strict=True)], self.biases
        x = torch.relu(z @ k0 + b0)
        x = x + torch.relu(x @ k1 + b1)
        logits, means, log_scales = (x @ k2 + b2).reshape(*z.shape, 3, self.components).unbind(2)
        log_scales = log_scales.clamp(-6.0, 3.0)
        deviations = (z[..., None] - means) * torch.exp(-log_scales)
        densities = -0.5 * deviations.square() - log_scales - 0.5 * math.log(2 * math.pi)
        return (F.log_softmax(logits, -1) + densities).logsumexp(-1).sum(-1)


class TorchSprites(nn.Module):
    """The loss of a batch of sprites, int64 [b, h * w]: the -ELBO plus the auxiliary loss, summed over the batch."""

    def __init__(self, config: Config, support: Support) -> None:
        super().__init__()
        model, (height, width, _) = config.model, support.lists.shape
        self.shape, self.embedding_size, self.outside = (height, width), model.embedding, support.colours
        size = len(support.open) * model.embedding
        self.colours = nn.Embedding(support.colours, model.embedding)
        self.encoder = nn.Sequential(
            *(nn.Linear(size, model.hidden), nn.ReLU()),
            *(Residual(model.hidden, model.encoder_dropout) for _ in range(model.residual_blocks)),
        )
        self.mean, self.logvar = nn.Linear(model.hidden, model.latent), nn.Linear(model.hidden, model.latent)
        self.decoder = nn.Sequential(
            *(nn.Linear(model.latent, model.hidden), nn.ReLU()),
            *(Residual(model.hidden, model.decoder_dropout) for _ in range(model.residual_blocks)),
            nn.Linear(model.hidden, size),
        )
        self.auxiliary, self.palette = Palette(support, model.embedding), Palette(support, _OUTPUT)
        near = neighbours(height, width).reshape(height * width, -1)[support.open]
        self.near, self.open = _constant(near), _constant(support.open)
        self.neighbours = nn.Embedding(support.colours + 1, _EMBEDDING)
        hidden = model.pixel_hidden
        self.pixels = nn.Sequential(
            *(nn.Linear(model.embedding + near.shape[1] * _EMBEDDING, hidden), nn.ReLU()),
            *(nn.Linear(hidden, hidden), nn.ReLU()),
            nn.Linear(hidden, _OUTPUT + 1 + near.shape[1]),
        )
        self.prior = Prior(model.latent)
        closed = np.setdiff1d(np.arange(height * width), support.open)
        self.closed, self.only = _constant(closed), _constant(support.lists[..., 0].ravel()[closed].astype(np.int64))
        seen, other = np.log1p(-support.other.ravel()), np.log(support.other.ravel() / support.colours)
        self.seen, self.other = _constant(seen), _constant(other)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        chosen = images[:, self.open]
        x = self.encoder(self.colours(chosen).flatten(1))
        mean, logvar = self.mean(x), self.logvar(x)
        noise = torch.randn_like(mean)
        z = mean + torch.exp(0.5 * logvar) * noise
        log_q = -0.5 * (noise.square() + logvar + math.log(2 * math.pi)).sum(-1)
        features = self.decoder(z).reshape(len(images), -1, self.embedding_size)
        near = F.pad(images, (0, 1), value=self.outside)[:, self.near]
        x = self.pixels(torch.cat([features, self.neighbours(near).flatten(2)], -1))
        copies = torch.where(near < self.outside, x[..., _OUTPUT + 1 :], NEVER)
        weights = F.log_softmax(torch.cat([x[..., _OUTPUT : _OUTPUT + 1], copies], -1), -1)
        drawn = weights[..., 0] + self.palette(x[..., :_OUTPUT], chosen)
        copied = torch.where(near == chosen[..., None], weights[..., 1:], NEVER).logsumexp(-1)
        distortion = self._negative_log_likelihood(torch.logaddexp(drawn, copied), images)
        auxiliary = self._negative_log_likelihood(self.auxiliary(features, chosen), images)
        return (distortion + auxiliary + log_q - self.prior(z)).sum()

    def _negative_log_likelihood(self, found: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        at_open = torch.logaddexp(self.seen[self.open] + found, self.other[self.open])
        right = torch.logaddexp(self.seen[self.closed], self.other[self.closed])
        at_closed = torch.where(images[:, self.closed] == self.only, right, self.other[self.closed])
        return -at_open.sum(1) - at_closed.sum(1)


def prepare(setting: str, config: Config, images: np.ndarray, support: Support) -> Callable[[int], float]:
    """Build a function that runs `count` training steps on batches of `images` [n, h, w, 1].

    It returns the last loss, averaged over the batch.
    """
    torch.manual_seed(0)
    model, size = TorchSprites(config, support), config.train.batch_size
    sprites = torch.from_numpy(images.reshape(len(images), -1).astype(np.int64))
    # The fused kernel is the fastest AdamW.
    rate, decay = config.train.learning_rate, config.train.weight_decay
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay, fused=setting != "eager")
    loss_of = torch.compile(model) if setting == "compiled" else model

    def steps(count: int) -> float:
        loss = torch.zeros(())
        for step in range(count):
            begin = step * size % (len(sprites) - size + 1)
            optimiser.zero_grad()
            loss = loss_of(sprites[begin : begin + size])
            loss.backward()
            optimiser.step()
        return loss.item() / size

    return steps
