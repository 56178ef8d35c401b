from __future__ import annotations

import math

import torch
from torch import Tensor

from core.models.autoencoder import Decoder, Encoder, PictureDiscriminator
from core.schemas.codes import CodesConfig
from core.training.autoencoding import Autoencoding, CodeBook, adversarial, cropped, l1, reduced, scaled
from core.training.family import Setting

CPU = torch.device("cpu")


def pictures(count: int, *, side: int = 64) -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=random)


def autoencoding(*, alpha: float, micro_batch: int = 4) -> Autoencoding:
    torch.manual_seed(0)
    config = CodesConfig(pair="dcgan", resolution=64, batch=4, adversarial=alpha, autoencoder_channels=4)
    return Autoencoding(
        config,
        encoder=Encoder(factor=4, channels=4),
        decoder=Decoder(factor=4, channels=4),
        discriminator=PictureDiscriminator(channels=4) if alpha else None,
        setting=Setting(dtype=torch.float32, device=CPU, micro_batch=micro_batch),
    )


def test_losses_are_the_papers() -> None:
    made, real = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, -1.0]])
    torch.testing.assert_close(l1(made, real), torch.tensor(1.25))
    logits = torch.tensor([[0.3], [-1.2]])
    expected = sum(-math.log(1 / (1 + math.exp(-value))) for value in (0.3, -1.2)) / 2
    torch.testing.assert_close(adversarial(logits), torch.tensor(expected))


def test_a_discriminator_that_knows_nothing_pays_log_two_twice() -> None:
    both = autoencoding(alpha=0.5)
    judge = both._discriminator
    assert judge is not None
    with torch.no_grad():
        for parameter in list(judge.parameters())[-1:]:
            parameter.zero_()
    judge.eval()  # a zero kernel has no direction to iterate in
    judge.layers[-1].spectral = False
    real = scaled(pictures(4))
    first = both.step_autoencoder(real, repeat=0, backward=lambda loss: loss.backward())  # type: ignore[no-untyped-call]  # torch's stub
    torch.testing.assert_close(first["adversarial"], torch.tensor(0.5 * math.log(2)))
    second = both.step_discriminator(real, repeat=0, backward=lambda loss: loss.backward())  # type: ignore[no-untyped-call]  # torch's stub
    torch.testing.assert_close(sum(second.values()), torch.tensor(2 * math.log(2)))


def test_the_discriminator_learns_nothing_from_the_autoencoders_step() -> None:
    both = autoencoding(alpha=0.5)
    assert both._discriminator is not None
    both.step_autoencoder(scaled(pictures(4)), repeat=0, backward=lambda loss: loss.backward())  # type: ignore[no-untyped-call]  # torch's stub
    assert all(p.grad is None and p.requires_grad for p in both._discriminator.parameters())
    for parameter in both._encoder.parameters():
        parameter.grad = None
    both.step_discriminator(scaled(pictures(4)), repeat=0, backward=lambda loss: loss.backward())  # type: ignore[no-untyped-call]  # torch's stub
    assert all(p.grad is not None for p in both._discriminator.parameters())
    assert all(p.grad is None for p in both._encoder.parameters())


def test_micro_batches_add_up_to_the_batch() -> None:
    grads = []
    for size in (4, 1):
        both = autoencoding(alpha=0.5, micro_batch=size)
        losses = both.step_autoencoder(
            scaled(pictures(4)),
            repeat=0,
            backward=lambda loss: loss.backward(),  # type: ignore[no-untyped-call]  # torch's stub
        )
        grads.append([losses["l1"], *(p.grad for p in both._decoder.parameters())])
    for whole, parts in zip(*grads, strict=True):
        torch.testing.assert_close(whole, parts)


def test_it_learns_to_reconstruct() -> None:
    both = autoencoding(alpha=0.0)
    optimiser = both.optimiser("autoencoder")
    smooth = torch.nn.functional.interpolate(torch.randn(4, 3, 4, 4), size=32, mode="bilinear").tanh()
    found = []
    for _ in range(150):
        optimiser.zero_grad()
        losses = both.step_autoencoder(smooth, repeat=0, backward=lambda loss: loss.backward())  # type: ignore[no-untyped-call]  # torch's stub
        optimiser.step()
        found.append(float(losses["l1"].detach()))
    assert found[-1] < found[0] / 2


def test_large_pictures_are_reduced_to_the_means_of_their_pixels() -> None:
    large = scaled(pictures(2, side=256))
    expected = large.reshape(2, 3, 128, 2, 128, 2).mean(dim=(3, 5))
    torch.testing.assert_close(reduced(large), expected)
    small = scaled(pictures(2))
    assert reduced(small) is small


def test_crops_are_parts_of_their_own_pictures() -> None:
    places = torch.arange(160 * 160, dtype=torch.float32).reshape(1, 1, 160, 160)
    marked = torch.cat([places, places + 1e6]).repeat(8, 3, 1, 1)
    parts = cropped(marked, generator=torch.Generator().manual_seed(0))
    assert parts.shape == (16, 3, 128, 128)
    corners = set()
    for index, part in enumerate(parts):
        first = int(part[0, 0, 0]) - (10**6 if index % 2 else 0)
        row, column = divmod(first, 160)
        assert torch.equal(part, marked[index, :, row : row + 128, column : column + 128])
        corners.add((row, column))
    assert len(corners) > 8
    small = pictures(2)
    assert cropped(small, generator=None) is small


def test_a_code_is_the_same_whoever_is_beside_its_picture() -> None:
    encoder = Encoder(factor=4, channels=4)
    some, rows = pictures(3), torch.tensor([5, 2, 9])
    mirrored = torch.tensor([False, True, False])
    together = CodeBook(encoder, device=CPU).codes(some, rows_N=rows, mirrored_N=mirrored)
    for index in range(3):
        part = slice(index, index + 1)
        alone = CodeBook(encoder, device=CPU).codes(some[part], rows_N=rows[part], mirrored_N=mirrored[part])
        assert torch.equal(alone[0], together[index])
    expected = encoder(scaled(some).flip(3)[1:2])
    torch.testing.assert_close(together[1:2], expected.detach())
    assert not torch.allclose(together[1], encoder(scaled(some))[1].flip(2))


def test_pictures_are_encoded_once_as_far_as_memory_goes() -> None:
    calls = []
    encoder = Encoder(factor=4, channels=4)
    encoder.register_forward_hook(lambda *_: calls.append(1))
    some, none = pictures(2), torch.zeros(2, dtype=torch.bool)
    bytes_of_one = 2 * 16 * 16 * 16 * 4
    for budget, expected in ((2 * bytes_of_one, 2), (bytes_of_one, 3), (0, 4)):
        calls.clear()
        book = CodeBook(encoder, device=CPU, budget=budget)
        first, second = (book.codes(some, rows_N=torch.tensor([0, 1]), mirrored_N=none) for _ in range(2))
        assert len(calls) == expected
        assert torch.equal(first, second)
