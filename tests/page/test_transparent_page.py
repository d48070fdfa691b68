"""The page of a model of transparent sprites: what the server gives, and what the browser shows and computes."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence
from playwright.sync_api import Browser, Page, expect
from starlette.testclient import TestClient

from flax_punkvae import images
from flax_punkvae.page import explorer, server, static_site
from flax_punkvae.page.fields import Fields
from flax_punkvae.page.library import Library
from flax_punkvae.trained import recipes
from flax_punkvae.trained.recipes import Recipe
from helpers import browsers, pages, serving, transparent

SIZE = transparent.SIZE
SHAPE = (SIZE, SIZE, 4)


@pytest.fixture(scope="module")
def library() -> Iterator[Library]:
    """Filled but for the map."""
    library = pages.library(pages.trained("transparent"))
    library.fill(of_map=False)
    # Others of the same run.
    with pytest.MonkeyPatch.context() as patch:
        pages.lay_out_here(patch)
        yield library


@pytest.fixture(scope="module")
def drawn(library: Library) -> Recipe:
    (draws,) = library.model.draw("prior", 1, 5)
    return Recipe(draws.latents[0], int(draws.seeds[0]))


@pytest.fixture(scope="module")
def sprite() -> np.ndarray:
    """A training sprite with pixels in soft colours that are not in the palette."""
    changed = transparent.sprites(8)[7]
    changed[0, :3] = [(200, 30, 10, 1), (9, 200, 10, 3), (9, 200, 10, 128)]
    return changed


@pytest.fixture(scope="module")
def painted(library: Library, sprite: np.ndarray) -> Recipe:
    """Its recipe, with paint of all kinds of alpha."""
    recipe = recipes.of_sprite(library.model, sprite, exactly=True)
    assert {0, 1, 3, 128, 255} <= set(recipe.colours[:, 3].tolist())
    return recipe


def text(library: Library, recipe: Recipe) -> str:
    return recipes.to_text(recipe, library.model.description)


def test_the_server_gives_pictures_and_files_with_alpha(
    library: Library, drawn: Recipe, painted: Recipe, sprite: np.ndarray
):
    """Oracle: the functions of the programs."""
    model = library.model
    client = TestClient(server.application(library, "127.0.0.1", 80), "http://127.0.0.1:80")
    about = client.get("/api/model").json()
    assert (about["channels"], about["palette"][0], about["transparent"]) == (4, "#00000000", False)
    for recipe in (drawn, painted):
        answer = client.post("/api/picture", json={"recipe": text(library, recipe), "snap": False})
        assert answer.headers["x-size"] == f"{SIZE}x{SIZE}"
        found = np.frombuffer(answer.content, np.uint8).reshape(SHAPE)
        np.testing.assert_array_equal(found, recipes.picture(model, recipe))
    fields = {"recipe": text(library, painted), "scale": 2, "snap": False, "transparent": False}
    file = client.post("/api/png", json=fields).content
    with Image.open(io.BytesIO(file)) as image:
        np.testing.assert_array_equal(np.asarray(image), images.enlarge(sprite[None], 2)[0])
    assert client.post("/api/open", content=file).json()["recipe"] == text(library, painted)
    both = {"recipes": [text(library, x) for x in (drawn, painted)], "scale": 1, "milliseconds": 90}
    # A strip has no paint.
    pictures = [recipes.picture(model, Recipe(recipe.z, recipe.seed)) for recipe in (drawn, painted)]
    with Image.open(io.BytesIO(client.post("/api/strip_file", json={**both, "format": "sheet"}).content)) as sheet:
        np.testing.assert_array_equal(np.asarray(sheet), np.concatenate(pictures, axis=1))
    with Image.open(io.BytesIO(client.post("/api/strip_file", json={**both, "format": "gif"}).content)) as gif:
        frames = np.stack([np.asarray(frame.convert("RGBA")) for frame in ImageSequence.Iterator(gif)])
    np.testing.assert_array_equal(frames[..., 3], np.where(np.stack(pictures)[..., 3] >= 128, 255, 0))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers.launched() as opened:
        yield opened


def opened(browser: Browser, address: str) -> Iterator[Page]:
    errors: list[str] = []
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, accept_downloads=True)
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(address)
    expect(page.locator("#latency")).to_contain_text("decoded in")
    expect(page.locator("#progress")).to_have_text(re.compile("^(traits are not read.*)?$"), timeout=60_000)
    yield page
    assert errors == []
    context.close()


def pixels(page: Page, selector: str) -> np.ndarray:
    return browsers.pixels(page.locator(selector).first)


@pytest.fixture
def page(library: Library, browser: Browser) -> Iterator[Page]:
    """On our server."""
    served = serving.Served(pages.library(library.directory))
    yield from opened(browser, served.address)
    served.stop()


@browsers.MARKS[0]
@browsers.MARKS[1]
def test_a_person_sees_and_paints_transparent_pixels(page: Page, library: Library, drawn: Recipe, tmp_path: Path):
    model = library.model
    page.fill("#seed", "5")
    page.keyboard.press("Enter")
    page.wait_for_function("text => location.hash.slice(1) === text", arg=text(library, drawn))
    expected = recipes.picture(model, drawn)
    page.wait_for_timeout(300)
    found = pixels(page, "#stage")
    # A canvas multiplies colours by alpha: low ones are not what they were.
    np.testing.assert_array_equal(found[..., 3], expected[..., 3])
    solid = expected[..., 3] == 255
    np.testing.assert_array_equal(found[solid], expected[solid])
    behind = page.locator("#stage").evaluate("canvas => getComputedStyle(canvas).backgroundImage")
    assert "conic-gradient" in behind
    # Paint an opaque pixel transparent, and erase another: these are two things.
    page.click("#tab-paint")
    first, second = np.flatnonzero(solid)[[0, -1]].tolist()
    swatch = page.get_by_role("option", name="transparent", exact=True)
    expect(swatch).to_have_count(1)
    expect(swatch).to_have_attribute("aria-selected", "false")
    page.wait_for_timeout(300)
    box = page.locator("#editor").bounding_box()
    assert box is not None

    def click(position: int) -> None:
        y, x = divmod(position, SIZE)
        page.locator("#editor").click(
            position={"x": (x + 0.5) * box["width"] / SIZE, "y": (y + 0.5) * box["height"] / SIZE}
        )

    swatch.click()
    click(first)
    # The certificate, which comes later, may move what is below.
    page.wait_for_function("text => location.hash.slice(1) !== text", arg=text(library, drawn))
    page.wait_for_timeout(1000)
    page.locator("[data-tool=erase]").click()
    click(second)
    expect(page.locator("#paint-note")).to_have_text(f"{SIZE * SIZE - 1} pixels are held, 1 are unknown")
    page.wait_for_timeout(400)
    recipe = recipes.parse(page.evaluate("location.hash.slice(1)"), model.description)
    assert recipe.positions.tolist() == [first] and recipe.colours.tolist() == [[0, 0, 0, 0]]
    # In the editor, one is empty and the other is drawn over.
    editor, side = pixels(page, "#editor"), int(page.locator("#editor").evaluate("c => c.width")) // SIZE
    middle = [editor[(p // SIZE) * side + side // 3, (p % SIZE) * side + side // 3] for p in (first, second)]
    assert middle[0][3] == 0 and middle[1].tolist() == [0x88, 0x88, 0x88, 255]
    page.click("#tab-save")
    expect(page.locator("#transparent-label")).to_be_hidden()
    with page.expect_download() as download:
        page.click("#save-png")
    with Image.open(download.value.path()) as image:
        expected = images.enlarge(recipes.sprite(model, recipe)[None], 16)[0]
        np.testing.assert_array_equal(np.asarray(image), expected)


@pytest.fixture
def exported(library: Library, browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """Without a server, with images."""
    for name, content in static_site.files(library, pages.published(library), with_images=True).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with serving.files(tmp_path) as address:
        yield from opened(browser, f"{address}/")


@browsers.MARKS[0]
@browsers.MARKS[1]
def test_without_a_server_the_browser_computes_the_same(
    exported: Page, library: Library, drawn: Recipe, painted: Recipe, sprite: np.ndarray
):
    """Oracle: what the server would answer, pixel by pixel."""
    described = library.model.description

    def ask(name: str, **fields: Any) -> tuple[Any, Any]:
        script = 'async ([path, fields]) => (await import(new URL("offline/api.js", location.href))).post(path, fields)'
        body = Fields(json.dumps(fields).encode(), described)
        server_says = getattr(explorer, name)
        heard = (lambda: None,) if name in ("sample", "complete") else ()
        return exported.evaluate(script, [name, fields]), server_says(library, body, *heard)

    def picture(recipe: str) -> np.ndarray:
        script = """async (text) => {
          const { picture } = await import(new URL("offline/api.js", location.href));
          return [...(await picture(text)).image.data];
        }"""
        return np.array(exported.evaluate(script, recipe), np.uint8).reshape(SHAPE)

    for recipe in (drawn, painted):
        given = text(library, recipe)
        np.testing.assert_array_equal(picture(given), recipes.picture(library.model, recipe))
        # The nearest training sprite, of pixels that are exact though their alpha is low.
        ours, theirs = ask("certificate", recipe=given)
        for name in ("new", "status", "nearest", "pixels_differ", "differing"):
            assert ours[name] == theirs[name], name
    ours, theirs = ask("project", recipe=text(library, painted))
    one, other = (recipes.parse(x["recipe"], described).z for x in (ours, theirs))
    np.testing.assert_allclose(one, other, atol=1e-4)
    known = "1" * (SIZE * SIZE // 2) + "0" * (SIZE * SIZE // 2)
    ours, theirs = ask("complete", recipe=text(library, painted), known=known, count=2, seed=1)
    for one, other in zip(ours["recipes"], theirs["recipes"], strict=True):
        np.testing.assert_array_equal(picture(one), recipes.picture(library.model, recipes.parse(other, described)))
    script = """async (fields) => {
      const { send } = await import(new URL("offline/api.js", location.href));
      return [...new Uint8Array(await (await send("png", fields)).arrayBuffer())];
    }"""
    fields = {"recipe": text(library, painted), "scale": 2, "snap": False, "transparent": False}
    file = bytes(exported.evaluate(script, fields))
    with Image.open(io.BytesIO(file)) as image:
        np.testing.assert_array_equal(np.asarray(image), images.enlarge(sprite[None], 2)[0])
    # A file is opened with its alpha, and one without is opaque.
    script = """async (bytes) => {
      const { postFile } = await import(new URL("offline/api.js", location.href));
      return (await postFile("open", new File([new Uint8Array(bytes)], "a.png", { type: "image/png" }))).recipe;
    }"""
    hard = transparent.sprites(8)[6]
    hard[hard[..., 3] < 255] = 0
    for pixels_given in (hard, hard[..., :3]):
        plain = images.to_png(np.ascontiguousarray(pixels_given))
        found = recipes.parse(exported.evaluate(script, list(plain)), described)
        np.testing.assert_allclose(found.z, recipes.read(library.model, plain)[0].z, atol=1e-4)
