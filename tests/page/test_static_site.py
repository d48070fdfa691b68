"""The exported page's files."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flax_punkvae.data import synthetic
from flax_punkvae.errors import UserError
from flax_punkvae.opening import Images
from flax_punkvae.page import static_site
from flax_punkvae.page.library import Library
from flax_punkvae.trained import runs
from helpers import pages


@pytest.fixture(scope="module")
def library() -> Iterator[Library]:
    # Edits are measured anew for each export, by a reader that would be learned anew too.
    with pytest.MonkeyPatch.context() as patch:
        pages.put_reader(patch, synthetic.draw(1, 0)[2])
        pages.measure_few(patch, 1)
        pages.lay_out_here(patch)
        yield pages.library(pages.trained("drawn"))


@pytest.fixture(scope="module")
def published(library: Library) -> dict[str, bytes]:
    return pages.published(library)


@pytest.fixture(scope="module")
def content(library: Library, published: dict[str, bytes]) -> dict[str, bytes]:
    """The files without images."""
    return static_site.files(library, published, with_images=False)


def test_without_images_nothing_of_them_is_in_the_files(
    library: Library, published: dict[str, bytes], content: dict[str, bytes]
):
    assert {name: content[name] for name in published} == published
    run, means = library.run, library.means
    assert run is not None and run.dataset.sprites is not None and means is not None
    assert not [name for name in content if name.endswith((".png", ".bin"))]
    assert json.loads(content["page.json"])["map"] is None
    together = b"\n".join(content.values())
    for sprite, indices, mean in zip(run.dataset.sprites, run.dataset.images[:], means, strict=True):
        for secret in (sprite, indices, indices.astype(np.int32), mean.astype("<f4")):
            assert secret.tobytes() not in together
    # Nor is any name of this machine.
    assert str(library.directory).encode() not in together
    # With them, they are.
    content = static_site.files(library, published, with_images=True)
    assert {"map/0.png", "map/pca.bin", "map/tsne.bin", "map/means.bin"} <= content.keys()
    assert means.astype("<f4").tobytes() in content["map/means.bin"]


def test_the_folder_is_a_published_model(library: Library, content: dict[str, bytes], tmp_path: Path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes(content[name])
    assert runs.load(tmp_path).description.params_sha256 == library.model.description.params_sha256


def test_only_api_js_differs_from_what_the_server_serves(content: dict[str, bytes]):
    folder = Path(static_site.__file__).parent
    served = {f"static/{file.name}": file.read_bytes() for file in (folder / "static").iterdir()}
    differing = {name for name in served if content.get(name) != served[name]}
    assert differing == {"static/index.html", "static/api.js"}
    # All addresses are relative, so that the page works below any path.
    index = content["index.html"].decode()
    assert 'src="/' not in index and 'href="/' not in index and "http-equiv" in index


def test_a_model_that_the_browser_cannot_decode_says_what_to_use_instead(library: Library):
    pictures = runs.load(pages.trained("pictures"))
    with pytest.raises(UserError, match=r"takes models of sprites in a palette .*: use python -m .*page instead"):
        static_site.check(pictures)
    described = library.model.description
    convolutions = replace(described, model=replace(described.model, encoder_widths=(4,), decoder_widths=()))
    halves = replace(described, train=replace(described.train, precision="bf16"))
    for changed, words in ((convolutions, "without convolutions"), (halves, "in float32")):
        with pytest.raises(UserError, match=words):
            static_site.check(replace(library.model, description=changed))


def test_images_that_are_not_at_hand_cannot_be_exported(library: Library, published: dict[str, bytes]):
    moved = pages.library(library.directory, images=Images(source="nowhere.png"))
    with pytest.raises(UserError, match="--with-images: the training images are not at hand"):
        static_site.files(moved, published, with_images=True)
    content = static_site.files(moved, published, with_images=False)
    page = json.loads(content["page.json"])
    assert page["edits"] is None and "not at hand" in page["about"]["left_out"]["trait-controls"]
