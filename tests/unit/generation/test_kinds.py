"""Films, mixes, projections, neighbours."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from core.errors import ConfigurationFailed, DataFailed, InvalidRequest
from core.generation.admission import require_possible
from core.generation.drawing import picture_of, studio
from core.generation.files import as_image
from core.generation.film import durations_ms, frames_of, label_of
from core.generation.generators import Generators
from core.models.contract import spherical
from core.schemas.families import FAMILIES
from core.schemas.generations import InterpolationIn, PicturesIn, Projection, StyleMixIn
from core.training.deployed import as_pixels
from tests.unit.generation.deployed_files import CLASSES, Rendered, richest
from tests.unit.training.test_families import tiny

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

MIXING = {"slaegan", "stylegan2"}


def read(path: Path) -> npt.NDArray[np.int16]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(np.int16)


def test_a_great_circle_keeps_the_length() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 3, 512).unbind()
    half = spherical(first, second, share=0.5)
    lengths = torch.stack([first.norm(dim=1), second.norm(dim=1)]).mean(dim=0)
    assert torch.allclose(half.norm(dim=1), lengths, rtol=0.02)
    assert torch.equal(spherical(first, second, share=0.0), first)
    assert torch.equal(spherical(first, second, share=1.0), second)
    assert torch.allclose(spherical(first, first, share=0.3), first)
    assert spherical(first, -first, share=0.5).isfinite().all()
    assert spherical(torch.zeros(1, 4), torch.ones(1, 4), share=0.5).isfinite().all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_film_meets_each_seeds_own_picture(family: str, tmp_path: Path) -> None:
    rendered = Rendered(tmp_path, richest(family))
    name = "cat" if rendered.config.needs_labels else None
    request = InterpolationIn(seeds=(3, 8), frames=4, closed=False, truncation=0.9, class_name=name)
    generator = rendered.generators.of(rendered.file, device="cpu")
    label = label_of(generator, name, seed=3)
    with studio("cpu") as pool:
        images = list(frames_of(generator, request, label=label, pool=pool))
    assert len(images) == request.total_frames == 5
    for image, seed in ((images[0], 3), (images[-1], 8)):
        alone = picture_of(generator, seed, label=label, truncation=0.9)
        assert image.tobytes() == as_image(alone).tobytes()
    frames = [np.asarray(image).astype(np.int16) for image in images]
    steps = [abs(after - before).mean() for before, after in pairwise(frames)]
    whole = abs(frames[-1] - frames[0]).mean()
    assert max(steps) < 0.8 * whole, "no step is nearly the whole way"


def test_an_open_film_ends_at_its_last_seed(slaegan: Rendered) -> None:
    tick, folder = slaegan(InterpolationIn(seeds=(3, 8), frames=4, closed=False, form="gif"))
    assert tick.facts == {"frames": 5, "seconds": 0.208, "side": 64}
    _, alone = slaegan(PicturesIn(seed=8, count=1))
    assert np.array_equal(read(folder / "seeds.png")[:, 64:], read(alone / "seed-8.png"))


@pytest.mark.parametrize(("form", "magic"), [("gif", b"GIF89a"), ("webp", b"RIFF"), ("mp4", b"\0\0\0")])
def test_films_of_every_form_are_whole_and_repeat(slaegan: Rendered, form: Any, magic: bytes) -> None:
    request = InterpolationIn(seeds=(1, 2, 3), frames=5, fps=30, form=form)
    (tick, first), (_, second) = (slaegan(request) for _ in range(2))
    film = first / f"interpolation.{form}"
    assert film.read_bytes().startswith(magic)
    assert film.read_bytes() == (second / film.name).read_bytes()
    assert (tick.files[0].name, tick.files[0].role, tick.facts["frames"]) == (film.name, "main", 15)
    if form == "mp4":
        count, seconds = imageio_ffmpeg.count_frames_and_secs(film)
        assert (count, round(seconds, 3)) == (15, 0.5)
        decode = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(film), "-f", "null", "-"]
        assert subprocess.run(decode, capture_output=True, check=True).stderr == b""
    else:
        with Image.open(film) as opened:
            assert opened.n_frames == 15
            assert opened.info["loop"] == 0


def test_durations_add_up_in_steps_of_the_format() -> None:
    request = InterpolationIn(seeds=(1, 2), frames=12, fps=24)
    gif = durations_ms(request, step=10)
    assert sum(gif) == 1_000
    assert set(gif) == {40, 50}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_mixes_styles_or_says_that_it_cannot(family: str, tmp_path: Path) -> None:
    config, request = richest(family), StyleMixIn(rows=(1, 2), columns=(3, 4, 5))
    if family not in MIXING:
        assert config.mixing_sides == ()
        with pytest.raises(InvalidRequest, match=f"{family!r} cannot mix styles"):
            require_possible(request, config=config)
        return
    rendered = Rendered(tmp_path, config)
    tick, folder = rendered(request)
    assert tick.facts == {"from_side": config.mixing_sides[0]}
    assert len([file for file in tick.files if file.role == "picture"]) == 6
    sheet = read(folder / "mix.png")
    assert sheet.shape == (3 * 68 - 4, 4 * 68 - 4, 3)
    mixed = read(folder / "seed-1-style-3.png")
    assert np.array_equal(sheet[68 : 68 + 64, 68 : 68 + 64], mixed)
    own = sheet[68 : 68 + 64, :64]
    assert abs(mixed - own).max() > 0, "the style changes something"
    assert not np.array_equal(mixed, read(folder / "seed-1-style-4.png"))


@pytest.mark.parametrize("family", sorted(MIXING))
def test_a_picture_mixed_with_itself_is_itself(family: str, tmp_path: Path) -> None:
    rendered = Rendered(tmp_path, richest(family))
    name = "dog" if rendered.config.needs_labels else None
    for side in rendered.config.mixing_sides:
        _, folder = rendered(StyleMixIn(rows=(4,), columns=(4,), from_side=side, class_name=name))
        _, alone = rendered(PicturesIn(seed=4, count=1, classes=None if name is None else (name,)))
        assert (folder / "seed-4-style-4.png").read_bytes() == (alone / "seed-4.png").read_bytes()


def test_a_later_side_changes_less(stylegan2: Rendered) -> None:
    changed = []
    for side in (8, 64):
        _, folder = stylegan2(StyleMixIn(rows=(1,), columns=(9,), from_side=side, class_name="cat"))
        own = read(folder / "mix.png")[68 : 68 + 64, :64]
        changed.append(abs(read(folder / "seed-1-style-9.png") - own).mean())
    assert changed[1] < changed[0]


def test_codes_mix_as_their_pair_does(tmp_path: Path) -> None:
    pair_settings = {"channel_base": 256, "channel_max": 8, "latent_size": 8, "mapping_layers": 2}
    config = tiny("codes", pair="stylegan2", pair_settings=pair_settings)
    assert config.mixing_sides == (8, 16)
    rendered = Rendered(tmp_path, config)
    tick, folder = rendered(StyleMixIn(rows=(1,), columns=(2,), from_side=16))
    assert tick.facts == {"from_side": 16}
    rendered(InterpolationIn(seeds=(1, 2), frames=2, form="gif"))
    assert read(folder / "seed-1-style-2.png").shape == (64, 64, 3)


def test_sides_are_those_of_the_network() -> None:
    from core.models.slaegan import excitation_pairs  # noqa: PLC0415 - beside what is compared

    for resolution in (64, 128, 256, 512, 1024):
        sides = tiny("slaegan", resolution=resolution).mixing_sides
        assert sides == tuple(excitation_pairs(resolution))


@pytest.mark.parametrize("family", ["slaegan", "stylegan2"])
def test_a_projection_comes_nearer_and_says_how_near(family: str, tmp_path: Path, weights_dir: Path) -> None:
    rendered = Rendered(tmp_path, richest(family), weights_dir=weights_dir)
    _, made = rendered(PicturesIn(seed=77, count=1))
    picture = made / "seed-77.png"
    far, _ = rendered(Projection(steps=1), picture=picture)
    near, folder = rendered(Projection(steps=25), picture=picture)
    assert near.facts["lpips"] < far.facts["lpips"]
    found, target = read(folder / "projection.png"), read(picture)
    l2 = float(np.sqrt((((found - target) / 255.0) ** 2).mean()))
    assert near.facts["l2"] == pytest.approx(l2, abs=1e-5)
    assert np.array_equal(read(folder / "comparison.png"), np.concatenate([target, found], axis=1))
    if family == "stylegan2":
        assert near.facts["class_name"] in CLASSES
    assert [file.role for file in near.files] == ["main", "preview", "latent"]
    _makes_the_same(rendered, folder)


def _makes_the_same(rendered: Rendered, folder: Path) -> None:
    """The latent that is handed out, and its planes, give the picture."""
    tensors = load_file(folder / "latent.safetensors")
    network = Generators().of(rendered.file, device="cpu").network
    planes = [tensors[f"noise.{index}"][None, None] for index in range(len(network.noise_sides()))]
    labels = tensors["label"][None] if "label" in tensors else None
    again = as_pixels(network.render(tensors["latent"][None], planes, labels_N=labels))[0]
    difference = again.permute(1, 2, 0).numpy().astype(np.int16) - read(folder / "projection.png")
    assert abs(difference).max() <= 1


def test_what_is_no_picture_is_not_projected(slaegan: Rendered, tmp_path: Path, weights_dir: Path) -> None:
    (tmp_path / "words.png").write_bytes(b"words")
    with pytest.raises(DataFailed, match=r"words\.png cannot be read"):
        slaegan(Projection(steps=1), picture=tmp_path / "words.png", weights_dir=weights_dir)
    with pytest.raises(ConfigurationFailed, match="needs a picture"):
        slaegan(Projection(steps=1), weights_dir=weights_dir)


def test_nearest_training_pictures_are_named(slaegan: Rendered, tmp_path: Path, weights_dir: Path) -> None:
    """A training picture that the generator made itself is at distance 0, mirrored or not."""
    _, made = slaegan(PicturesIn(seed=0, count=6))
    images_dir = tmp_path / "images"
    images_dir.mkdir()
    for seed in range(5):
        picture = Image.open(made / f"seed-{seed}.png")
        if seed == 1:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        picture.save(images_dir / f"training-{seed}.png")
    given = {"images_dir": images_dir, "dataset_hash": "made", "weights_dir": weights_dir}
    given["positions"] = tuple(10 + seed for seed in range(5))  # in a dataset of which others were held out
    tick, _ = slaegan(PicturesIn(seed=0, count=6, nearest=True, form="zip"), **given)
    nearest = tick.facts["nearest"]
    assert list(nearest) == [f"seed-{seed}.png" for seed in range(6)]
    for seed in range(5):
        first, second, third = nearest[f"seed-{seed}.png"]
        assert first["position"] == 10 + seed
        assert first["lpips"] < 0.01 < second["lpips"] <= third["lpips"]
    assert nearest["seed-5.png"][0]["lpips"] > 0.01
    again, _ = slaegan(PicturesIn(seed=3, count=1, nearest=True), **given)
    assert again.facts["nearest"]["seed-3.png"] == nearest["seed-3.png"], "whatever it is made with"


def test_neighbours_need_training_pictures(slaegan: Rendered) -> None:
    with pytest.raises(ConfigurationFailed, match="none are there"):
        slaegan(PicturesIn(count=1, nearest=True))


def test_what_takes_too_long_is_refused() -> None:
    config = tiny("slaegan", resolution=1024)
    with pytest.raises(InvalidRequest, match="250 at most"):
        require_possible(PicturesIn(count=251), config=config)
    require_possible(PicturesIn(count=250), config=config)
    with pytest.raises(InvalidRequest, match="frames of 1024x1024"):
        require_possible(InterpolationIn(seeds=(1, 2), frames=38), config=config)
    with pytest.raises(InvalidRequest, match="knows no class 'fox'"):
        require_possible(PicturesIn(classes=("fox",)), config=richest("sagan"), classes=CLASSES)


def test_only_the_last_few_generators_are_held(slaegan: Rendered, stylegan2: Rendered) -> None:
    generators = Generators(most=1)
    first = generators.of(slaegan.file, device="cpu")
    assert generators.of(slaegan.file, device="cpu") is first
    generators.of(stylegan2.file, device="cpu")
    assert generators.of(slaegan.file, device="cpu") is not first
