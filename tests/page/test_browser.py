"""The page in a browser, by clicking and typing as a person would."""

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, Response, expect

from flax_punkvae import images
from flax_punkvae.data import synthetic
from flax_punkvae.trained import recipes
from helpers import browsers, pages
from helpers.serving import Served

pytestmark = browsers.MARKS
_, _, LABELS = synthetic.draw(1, 0)


@pytest.fixture(scope="module")
def run() -> Path:
    return pages.trained("sprites")


@pytest.fixture(scope="module")
def served(run: Path) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        pages.put_reader(patch, LABELS)
        pages.measure_few(patch)
        pages.lay_out_here(patch)
        running = Served(pages.library(run))
        yield running
        running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers.launched() as opened:
        yield opened


@pytest.fixture
def errors() -> list[str]:
    """What went wrong in the browser; a test that provokes an answer of 400 takes it out."""
    return []


@pytest.fixture
def page(served: Served, browser: Browser, errors: list[str]) -> Iterator[Page]:
    """The page, ready. At the end: no error on the console and no request to another address."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, accept_downloads=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=served.address)
    opened = context.new_page()
    watch(opened, served, errors)
    ready(opened, served.address)
    yield opened
    assert errors == []
    context.close()


def watch(page: Page, served: Served, errors: list[str]) -> None:
    def requested(request: Request) -> None:
        if not request.url.startswith((served.address, "blob:", "data:")):
            errors.append(f"asked {request.url}")

    def said(message: ConsoleMessage) -> None:
        # Reading the canvas is what these tests do, and the responses are watched below.
        expected = ("Failed to load resource", "Canvas2D: Multiple readback operations")
        if message.type in ("error", "warning") and not message.text.startswith(expected):
            errors.append(message.text)

    def answered(response: Response) -> None:
        if response.status >= 400:
            errors.append(f"{response.status} {response.url} {response.request.post_data}")

    page.on("console", said)
    page.on("response", answered)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", requested)


def ready(page: Page, address: str) -> None:
    page.goto(address)
    expect(page.locator("#latency")).to_contain_text("decoded in")
    expect(page.locator("#map-note")).to_contain_text("nearest neighbours", timeout=60_000)
    expect(page.locator("#progress")).to_have_text("", timeout=120_000)


def stage(page: Page) -> np.ndarray:
    """The pixels of the current sprite on its canvas."""
    return pixels(page.locator("#stage"))


def pixels(canvas: Locator) -> np.ndarray:
    return browsers.pixels(canvas)[..., :3]


def address_of(page: Page) -> str:
    """The recipe in the address, which follows the sprite with a delay."""
    page.wait_for_timeout(600)
    return page.evaluate("location.hash.slice(1)")


def shown(served: Served, recipe: str) -> np.ndarray:
    model = served.library.model
    return recipes.picture(model, recipes.parse(recipe, model.description))


def check_stage(page: Page, served: Served, after: str | None = None) -> str:
    """The recipe in the address, whose picture must be on the canvas; with `after`, once it is another one."""
    recipe = address_of(page)
    for _ in range(100):
        if recipe != after and np.array_equal(stage(page), shown(served, recipe)):
            break
        page.wait_for_timeout(100)
        recipe = page.evaluate("location.hash.slice(1)")
    assert recipe != after
    np.testing.assert_array_equal(stage(page), shown(served, recipe))
    return recipe


def expect_change(page: Page, before: np.ndarray) -> None:
    pages.wait(lambda: bool(page.wait_for_timeout(50)) or not np.array_equal(stage(page), before), 10)


def test_the_map(page: Page, served: Served):
    canvas, run = page.locator("#map"), served.library.run
    assert run is not None
    box = canvas.bounding_box()
    assert box is not None
    before = pixels(canvas)
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 10
    # Search, by number and by trait.
    page.fill("#search", "17")
    expect(page.locator("#found")).to_have_text("1 found")
    page.wait_for_timeout(500)
    assert not np.array_equal(pixels(canvas), before)
    first = address_of(page)
    page.keyboard.press("Enter")
    expected = run.encode(np.array([17]))[0][0]
    model = served.library.model
    opened = check_stage(page, served, after=first)
    np.testing.assert_allclose(recipes.parse(opened, model.description).z, expected, atol=1e-5)
    name = next(name for name in LABELS if 0 < run.dataset.labels[:, LABELS.index(name)].sum() < 60)
    page.fill("#search", name)
    count = int(run.dataset.labels[:, LABELS.index(name)].sum())
    if " " not in name:
        expect(page.locator("#found")).to_have_text(f"{count} found")
    page.fill("#search", "")
    # Hover, click, the layout by t-SNE.
    page.click("#fit")
    page.locator("#map").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tip")).to_contain_text(re.compile(r"#\d+.*(trained on|held out)"))
    number = re.findall(r"#(\d+)", page.locator("#tip").inner_text())[0]
    page.keyboard.press("Enter")
    z = recipes.parse(check_stage(page, served, after=opened), model.description).z
    np.testing.assert_allclose(z, run.encode(np.array([int(number)]))[0][0], atol=1e-5)
    page.check("input[value=tsne]")
    expect(page.locator("#map-note")).to_contain_text("nearest here")
    page.wait_for_timeout(700)
    # A lasso around everything, and its list.
    page.click("#lasso")
    box = canvas.bounding_box()
    assert box is not None
    corners = [(0.01, 0.01), (0.99, 0.01), (0.99, 0.99), (0.01, 0.99), (0.01, 0.02)]
    for i, (x, y) in enumerate(corners):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=4)
        if i == 0:
            page.mouse.down()
    page.mouse.up()
    expect(page.locator("#selected")).to_have_text(f"{pages.COUNT} selected")
    with page.expect_download() as download:
        page.click("#export")
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[0] == "number,file,part,traits" and len(lines) == pages.COUNT + 1
    part = "held out" if 5 in run.test_indices else "trained on"
    assert lines[6].startswith(f"5,,{part},")
    page.click("#unselect")
    expect(page.locator("#selection")).to_be_hidden()


def test_the_workbench(page: Page, served: Served):
    first, model = check_stage(page, served), served.library.model
    # The random sprite of a seed is that of `sample`.
    page.fill("#seed", "5")
    page.keyboard.press("Enter")
    second = check_stage(page, served, after=first)
    (draws,) = model.draw("prior", 1, 5)
    np.testing.assert_array_equal(recipes.parse(second, model.description).z, draws.latents[0])
    # A drag decodes live; all of it is one step of the history.
    slider = page.locator("#sliders input[type=range]").first
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box is not None
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    for share in (0.1, 0.9, 0.99):
        page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2, steps=5)
        page.wait_for_timeout(100)
    assert sum(url.endswith("/api/picture") for url in asked) >= 3
    page.mouse.up()
    third = check_stage(page, served, after=second)
    index = int(slider.get_attribute("data-latent") or "")
    moved, old = (recipes.parse(text, model.description).z for text in (third, second))
    assert (moved != old).tolist() == [i == index for i in range(len(old))]
    page.click("#undo")
    assert check_stage(page, served) == second
    page.click("#undo")
    assert check_stage(page, served) == first
    expect(page.locator("#undo")).to_be_disabled()
    page.click("#redo")
    page.click("#redo")
    assert check_stage(page, served) == third
    # The number box, and reset by a double click.
    found = served.library.latents
    assert found is not None
    number = page.locator("#sliders input[type=number]").first
    number.fill("1.5")
    number.press("Enter")
    fourth = check_stage(page, served, after=third)
    z = recipes.parse(fourth, model.description).z
    assert z[index] == np.float32(found.centre[index] + 1.5 * found.deviation[index])
    slider.dblclick()
    fifth = check_stage(page, served, after=fourth)
    z = recipes.parse(fifth, model.description).z
    assert z[index] == np.float32(found.centre[index])
    # Nudge, and how many sliders there are.
    page.click("#nudge")
    check_stage(page, served, after=fifth)
    page.select_option("#slider-count", "all")
    expect(page.locator("#sliders .slider")).to_have_count(6)
    # A wrong number says so, and changes nothing.
    now = address_of(page)
    page.fill("#seed", "-1")
    page.keyboard.press("Enter")
    expect(page.locator("#problem")).to_contain_text("choose a whole number")
    assert address_of(page) == now


def test_traits(page: Page, served: Served):
    page.click("#tab-traits")
    rows = page.locator("#traits li")
    assert rows.count() > 10
    measured = rows.filter(has_text="works for").first
    expect(measured).to_contain_text(re.compile(r"(add|remove): works for \d+ %, changes [\d.]+ others"))
    page.fill("#trait-filter", LABELS[2])
    expect(rows.filter(visible=True).first).to_contain_text(LABELS[2])
    before = check_stage(page, served)
    model = served.library.model
    button = page.get_by_role("button", name=LABELS[2], exact=True)
    removes = button.get_attribute("aria-pressed") == "true"
    page.locator("#strength").fill("3")
    button.click()
    after = check_stage(page, served, after=before)
    old, new = (recipes.parse(text, model.description).z for text in (before, after))
    directions = served.library.directions
    assert directions is not None
    step = directions[LABELS.index(LABELS[2])] * (-3 if removes else 3)
    np.testing.assert_allclose(new - old, step, atol=1e-5)


def test_mixing(page: Page, served: Served):
    model = served.library.model
    page.click("#tab-mix")
    given, last = [], address_of(page)
    for corner in range(3):
        page.fill("#seed", str(corner + 1))
        page.keyboard.press("Enter")
        last = check_stage(page, served, after=last)
        given.append(recipes.parse(last, model.description).z)
        page.locator(f"[data-corner='{corner}'] button", has_text="Current").click()
    pad = page.locator("#pad")
    box = pad.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.up()
    last = check_stage(page, served, after=last)
    mixed = recipes.parse(last, model.description).z
    weights = np.array([0.75 * 0.5, 0.25 * 0.5, 0.75 * 0.5])
    np.testing.assert_allclose(mixed, weights @ given / weights.sum(), atol=0.05)
    # In a corner, only that sprite counts; by keys.
    pad.focus()
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowUp")
    page.wait_for_timeout(1000)
    np.testing.assert_allclose(recipes.parse(check_stage(page, served), model.description).z, given[0], atol=1e-6)
    # A file, dropped into the last corner.
    file = recipes.png(model, recipes.Recipe(given[1]), 3)
    drop(page, "[data-corner='3']", file)
    expect(page.locator("[data-corner='3'] canvas")).to_have_count(1)
    np.testing.assert_array_equal(
        pixels(page.locator("[data-corner='3'] canvas")), recipes.picture(model, recipes.Recipe(given[1]))
    )
    # A strip, and its files.
    page.fill("#frames", "4")
    page.click("#make-strip")
    expect(page.locator("#strip figure canvas")).to_have_count(4)
    np.testing.assert_array_equal(
        pixels(page.locator("#strip canvas").nth(0)), recipes.picture(model, recipes.Recipe(given[0]))
    )
    for button, kind in (("#save-gif", "GIF"), ("#save-sheet", "PNG")):
        with page.expect_download() as download:
            page.click(button)
        with Image.open(download.value.path()) as image:
            assert image.format == kind


def drop(page: Page, selector: str, file: bytes) -> None:
    """Drop an image file onto an element."""
    transfer = page.evaluate_handle(
        """bytes => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png", { type: "image/png" }));
          return transfer;
        }""",
        list(file),
    )
    page.dispatch_event(selector, "drop", {"dataTransfer": transfer})


def test_painting_and_completing(page: Page, served: Served):
    page.click("#tab-paint")
    editor = page.locator("#editor")
    expect(editor).to_be_visible()
    page.wait_for_timeout(500)
    first, before = address_of(page), stage(page)

    def at(x: int, y: int) -> tuple[float, float]:
        box = editor.bounding_box()
        assert box is not None
        size = box["width"] / 24
        return box["x"] + (x + 0.5) * size, box["y"] + (y + 0.5) * size

    # A pencil stroke in a colour of the palette.
    palette = served.library.model.description.palette
    assert palette is not None
    unused = [i for i, each in enumerate(palette) if not (before == each).all(-1).any()]
    swatch, colour = page.locator("#palette button").nth(unused[0]), palette[unused[0]]
    swatch.click()
    editor.scroll_into_view_if_needed()
    page.mouse.move(*at(2, 3))
    page.mouse.down()
    page.mouse.move(*at(6, 3), steps=8)
    page.mouse.up()
    painted = check_stage(page, served, after=first)
    expected = before.copy()
    expected[3, 2:7] = colour
    np.testing.assert_array_equal(stage(page), expected)
    # Pick a colour, and fill: a background pixel becomes all of its region.
    page.locator("[data-tool=fill]").click()
    page.mouse.click(*at(0, 0))
    check_stage(page, served, after=painted)
    assert (stage(page)[0, 0] == colour).all() and (stage(page) == colour).all(-1).sum() > 20
    page.click("#undo")
    page.wait_for_timeout(400)
    assert check_stage(page, served) == painted
    # Erase the lower half to unknown; what is left is held.
    page.locator("[data-tool=erase]").click()
    for y in range(12, 24):
        page.mouse.move(*at(0, y))
        page.mouse.down()
        page.mouse.move(*at(23, y), steps=24)
        page.mouse.up()
    expect(page.locator("#paint-note")).to_have_text("288 pixels are held, 288 are unknown")
    page.click("#complete")
    expect(page.locator("#completions canvas").first).to_be_visible(timeout=60_000)
    for canvas in page.locator("#completions canvas").all():
        np.testing.assert_array_equal(pixels(canvas)[:12], expected[:12])
    page.locator("#completions button").first.click()
    page.wait_for_timeout(400)
    check_stage(page, served)
    np.testing.assert_array_equal(stage(page)[:12], expected[:12])
    # Hold only the paint: everything else is unknown. By keys.
    page.click("#undo")
    page.click("#know-all")
    page.click("#only-paint")
    expect(page.locator("#paint-note")).to_have_text("5 pixels are held, 571 are unknown")
    page.click("#clear-paint")
    page.wait_for_timeout(400)
    np.testing.assert_array_equal(stage(page), before)
    page.keyboard.press("b")
    editor.focus()
    page.keyboard.press("Space")
    page.wait_for_timeout(400)
    assert (stage(page) != before).any(-1).sum() <= 1
    page.click("#project")
    page.wait_for_timeout(400)
    check_stage(page, served)


def test_the_gallery_and_favourites(page: Page, served: Served, errors: list[str]):
    first = address_of(page)
    page.select_option("#count", "12")
    page.fill("#gallery-seed", "3")
    page.click("#draw")
    expect(page.locator("#gallery figure")).to_have_count(12, timeout=30_000)
    expect(page.locator("#gallery-note")).to_contain_text("12 sprites, of 12 drawn")
    tiles = page.locator("#gallery button.tile")
    expect(page.locator("#gallery canvas")).to_have_count(12)
    for i in (0, 11):
        recipe = tiles.nth(i).get_attribute("data-recipe") or ""
        np.testing.assert_array_equal(pixels(page.locator("#gallery canvas").nth(i)), shown(served, recipe))
        expect(page.locator("#gallery figcaption").nth(i)).to_have_text(
            re.compile(r"(new|training|held out): (\d+ pixels from|equals) #\d+")
        )
    # Marked pixels are those that differ from the nearest training sprite.
    page.check("#mark")
    page.wait_for_timeout(500)
    caption = page.locator("#gallery figcaption").first.inner_text()
    marked = (pixels(page.locator("#gallery canvas").first) == [0xE0, 0x21, 0x8A]).all(-1).sum()
    assert marked == int((re.findall(r"(\d+) pixels from", caption) or ["0"])[0])
    # A tile opens on the workbench, with its certificate.
    recipe = tiles.nth(4).get_attribute("data-recipe")
    tiles.nth(4).click()
    assert check_stage(page, served, after=first) == recipe
    expect(page.locator("#certificate .status")).to_be_visible()
    # New only, on conditions.
    page.check("#new")
    page.fill("#with", LABELS[2])
    page.click("#draw")
    expect(page.locator("#gallery-note")).to_contain_text(f"with {LABELS[2]}", timeout=60_000)
    page.fill("#with", "nosuch")
    page.click("#draw")
    expect(page.locator("#problem")).to_contain_text("there is no label 'nosuch'")
    assert "400" in errors.pop()
    # Favourites survive a reload.
    page.click("#keep")
    expect(page.locator("#favourites figure")).to_have_count(1)
    page.reload()
    expect(page.locator("#favourites figure canvas")).to_have_count(1)
    assert page.locator("#favourites button.tile").get_attribute("data-recipe") == recipe
    page.locator("#favourites button", has_text="kept").click()
    expect(page.locator("#favourites figure")).to_have_count(0)


def test_taking_it_along(page: Page, served: Served, browser: Browser, errors: list[str], tmp_path: Path):
    model = served.library.model
    first = address_of(page)
    page.click("#random")
    recipe = check_stage(page, served, after=first)
    page.click("#tab-save")
    page.fill("#scale", "5")
    expect(page.locator("#size")).to_have_text(re.compile("120 . 120 pixels"))
    with page.expect_download() as download:
        page.click("#save-png")
    file = Path(download.value.path()).read_bytes()
    assert file == recipes.png(model, recipes.parse(recipe, model.description), 5)
    # The command beside it writes the same bytes.
    command = shlex.split(page.locator("#command").inner_text())
    assert command[0] == "python" and command[-2:] == ["--output", "sprite.png"]
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(
        [sys.executable, *command[1:]], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sprite.png").read_bytes() == file
    # A transparent background.
    page.check("#transparent")
    with page.expect_download() as download:
        page.click("#save-png")
    with Image.open(download.value.path()) as image:
        assert image.mode == "RGBA" and np.asarray(image)[0, 0, 3] == 0
    page.uncheck("#transparent")
    # The clipboard: the image, the link, the command.
    page.click("#copy-image")
    expect(page.locator("#progress")).to_have_text("copied the image")
    copied = page.evaluate(
        """async () => {
          const [item] = await navigator.clipboard.read();
          return [...new Uint8Array(await (await item.getType("image/png")).arrayBuffer())];
        }"""
    )
    with Image.open(io.BytesIO(bytes(copied))) as image:
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), images.enlarge(stage(page)[None], 5)[0])
    page.click("#copy-link")
    expect(page.locator("#progress")).to_have_text("copied the link")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == f"{served.address}#{recipe}"
    page.click("#copy-command")
    expect(page.locator("#progress")).to_have_text("copied the command")
    assert recipe in page.evaluate("navigator.clipboard.readText()")
    # A fresh browser opens the link with the same sprite.
    before = stage(page)
    fresh = browser.new_context()
    other = fresh.new_page()
    other.goto(link)
    expect(other.locator("#latency")).to_contain_text("decoded in")
    np.testing.assert_array_equal(stage(other), before)
    fresh.close()
    # Dropping the file restores the sprite; another image is encoded; what is no image says so.
    page.click("#random")
    expect_change(page, before)
    drop(page, "body", file)
    expect(page.locator("#progress")).to_contain_text("restored from the recipe")
    page.wait_for_timeout(500)
    assert check_stage(page, served) == recipe
    page.set_input_files("#open-file", {"name": "x.png", "mimeType": "image/png", "buffer": images.to_png(before)})
    expect(page.locator("#progress")).to_contain_text("encoded from the image")
    page.set_input_files("#open-file", {"name": "x.png", "mimeType": "image/png", "buffer": b"nothing"})
    expect(page.locator("#problem")).to_contain_text("cannot be read")
    assert "400" in errors.pop()


def test_keys(page: Page, served: Served):
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    listed = page.locator("#keys dt").all_inner_texts()
    assert {"r", "n", "u", "f", "g", "s", "/", "?"} <= set(listed)
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    first = check_stage(page, served)
    page.keyboard.press("r")
    second = check_stage(page, served, after=first)
    page.keyboard.press("u")
    assert check_stage(page, served) == first
    page.keyboard.press("Control+Shift+Z")
    assert check_stage(page, served) == second
    page.keyboard.press("Control+z")
    assert check_stage(page, served) == first
    page.keyboard.press("n")
    assert check_stage(page, served, after=first) != second
    page.keyboard.press("f")
    expect(page.locator("#favourites figure")).to_have_count(1)
    page.keyboard.press("f")
    expect(page.locator("#favourites figure")).to_have_count(0)
    for i, name in enumerate(("latents", "traits", "mix", "paint", "save"), 1):
        page.keyboard.press(str(i))
        expect(page.locator(f"#panel-{name}")).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("run")
    expect(page.locator("#search")).to_have_value("run")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    expect(page.locator("#gallery figure")).to_have_count(24, timeout=30_000)


@pytest.mark.parametrize("size", [(360, 740), (1024, 768), (1920, 1080)])
def test_it_fits_the_screen(served: Served, browser: Browser, size: tuple[int, int]):
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    page = context.new_page()
    errors: list[str] = []
    watch(page, served, errors)
    ready(page, served.address)
    for name in ("traits", "mix", "paint", "save", "latents"):
        page.click(f"#tab-{name}")
        # Nothing is wider than the screen.
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0], name
    screens = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        screens.add(page.screenshot())
        for selector in ("body", ".quiet", "#draw", "[role=tab][aria-selected=true]"):
            assert contrast(page, selector) >= 4.5, (scheme, selector)
    assert len(screens) == 2
    assert errors == []
    names = page.evaluate(
        """[...document.querySelectorAll("button, input, select, canvas, [role=application]")].filter((e) =>
          e.checkVisibility() && !(e.textContent.trim() || e.getAttribute("aria-label") || e.labels?.length
            || e.closest("button"))).map((e) => e.outerHTML)"""
    )
    assert names == []
    context.close()


def contrast(page: Page, selector: str) -> float:
    """The contrast of an element's text with what is behind it (WCAG 2.1, "contrast ratio")."""
    ink, paper = page.locator(selector).first.evaluate(
        """element => {
          const ink = getComputedStyle(element).color;
          let behind = element;
          while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
          return [ink, getComputedStyle(behind).backgroundColor];
        }"""
    )

    def luminance(colour: str) -> float:
        levels = np.array([int(x) for x in re.findall(r"\d+", colour)[:3]]) / 255
        linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_when_the_server_has_gone_the_page_says_so(run: Path, browser: Browser):
    running = Served(pages.library(run))
    page = browser.new_page()
    page.goto(running.address)
    expect(page.locator("#latency")).to_contain_text("decoded in")
    running.stop()
    page.click("#random")
    expect(page.locator("#problem")).to_contain_text("the server does not answer")
    page.close()


def test_what_needs_a_sprite_says_that_there_is_none_yet(served: Served, browser: Browser):
    """While the first sprite is on its way: nothing about a sprite is asked of the server, and nothing is kept."""
    page = browser.new_page()
    asked: list[str] = []
    page.route("**/api/sample", lambda _: None)
    page.goto(served.address)
    expect(page.locator("#map-note")).to_contain_text("nearest neighbours")
    # What is read (the progress, what has been measured meanwhile) goes by GET; what is about a sprite, by POST.
    page.on("request", lambda request: asked.append(request.url) if request.method == "POST" else None)
    for key in ("n", "f", "s", "l"):
        page.keyboard.press(key)
        expect(page.locator("#problem")).to_have_text("there is no sprite yet: wait a moment")
    page.click("#tab-mix")
    page.locator("[data-corner='0'] button", has_text="Current").click()
    page.click("#tab-paint")
    page.click("#clear-paint")
    page.click("#complete")
    assert asked == []
    expect(page.locator("#favourites figure")).to_have_count(0)
    page.close()


def test_a_link_of_another_model_says_so(served: Served, browser: Browser):
    page = browser.new_page()
    page.goto(f"{served.address}#0123456789ab.AAAA..")
    expect(page.locator("#problem")).to_contain_text("the recipe is for model 0123456789ab")
    page.click("#random")
    expect(page.locator("#latency")).to_contain_text("decoded in")
    page.close()
