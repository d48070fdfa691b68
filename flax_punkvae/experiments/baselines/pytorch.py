"""The reference in PyTorch (extra `bench`), in its fast settings."""

# The type checker runs without the extra `bench`.
# pyright: reportMissingImports=false

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F


class TorchVAE(nn.Module):
    """The reference network: images [b, 3, 128, 128] to (reconstructions, mean, logvar)."""

    def __init__(self) -> None:
        super().__init__()
        encoder: list[nn.Module] = []
        for i, o in ((3, 32), (32, 64), (64, 128), (128, 256)):
            encoder += [nn.Conv2d(i, o, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.38)]
        self.encoder = nn.Sequential(*encoder, nn.Flatten(), nn.Linear(16384, 512), nn.ReLU())
        self.mean, self.logvar = nn.Linear(512, 256), nn.Linear(512, 256)
        decoder: list[nn.Module] = []
        for i, o in ((256, 128), (128, 64), (64, 32)):
            decoder += [nn.ConvTranspose2d(i, o, 3, 2, 1, 1), nn.ReLU(), nn.Dropout(0.36)]
        self.decoder = nn.Sequential(
            *(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 16384), nn.ReLU(), nn.Unflatten(1, (256, 8, 8))),
            *decoder,
            *(nn.ConvTranspose2d(32, 3, 3, 2, 1, 1), nn.Sigmoid()),
        )

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self.encoder(images)
        mean, logvar = self.mean(x), self.logvar(x)
        return self.decoder(mean + torch.exp(0.5 * logvar) * torch.randn_like(mean)), mean, logvar


def total_loss(model: Callable[..., tuple[torch.Tensor, ...]], images: torch.Tensor) -> torch.Tensor:
    """Squared error plus 3.4 KL, summed over the batch."""
    reconstructions, mean, logvar = model(images)
    kl = -0.5 * torch.sum(1 + logvar - mean.square() - logvar.exp())
    return F.mse_loss(reconstructions, images, reduction="sum") + 3.4 * kl


def prepare(setting: str, batch_size: int) -> Callable[[int], float]:
    """Build a function that runs `count` training steps and returns the last loss, averaged over the batch."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = TorchVAE().to(device)
    images = torch.rand(batch_size, 3, 128, 128, device=device)
    if setting != "eager":
        model, images = model.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    # The fused kernel is the fastest Adam.
    optimiser = torch.optim.Adam(model.parameters(), lr=0.0008, fused=setting != "eager")
    loss_of = torch.compile(total_loss) if setting == "compiled" else total_loss

    def steps(count: int) -> float:
        loss = torch.zeros(())
        for _ in range(count):
            optimiser.zero_grad()
            loss = loss_of(model, images)
            loss.backward()
            optimiser.step()
        return loss.item() / batch_size

    return steps


def describe() -> dict[str, object]:
    """PyTorch's version and thread count."""
    return {"torch": torch.__version__, "torch threads": torch.get_num_threads()}
