"""The page without Python, in a browser, against Python's numbers."""

import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, expect

from flax_punkvae import images
from flax_punkvae.data import synthetic
from flax_punkvae.model import inference
from flax_punkvae.page import explorer, static_site
from flax_punkvae.page.fields import Fields
from flax_punkvae.page.library import Library
from flax_punkvae.trained import recipes
from flax_punkvae.trained.recipes import Recipe
from flax_punkvae.trained.selection import Wanted
from flax_punkvae.training.description import digests
from helpers import browsers, pages, serving

pytestmark = browsers.MARKS
_, _, LABELS = synthetic.draw(1, 0)
SAMPLE = {"from": "prior", "temperature": 1.0, "reencode": 2, "new": False, "with": [], "without": []}


@dataclass(frozen=True)
class Site:
    """An exported page on a web server, and the library behind it."""

    library: Library
    address: str

    @property
    def model(self) -> Any:
        return self.library.model

    def text(self, recipe: Recipe) -> str:
        return recipes.to_text(recipe, self.model.description)

    def recipe(self, text: str) -> Recipe:
        return recipes.parse(text, self.model.description)

    def asked(self, name: str, **fields: Any) -> Any:
        """What the server would answer."""
        return getattr(explorer, name)(self.library, Fields(json.dumps(fields).encode(), self.model.description))


@pytest.fixture(scope="module", autouse=True)
def _reader() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        pages.put_reader(patch, LABELS)
        pages.measure_few(patch)
        pages.lay_out_here(patch)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder, and its address."""
    folder = tmp_path_factory.mktemp("web")
    with serving.files(folder) as address:
        yield folder, address


def exported(root: tuple[Path, str], kind: str, with_images: bool) -> Site:
    """The page of a run, below some path of the web server."""
    library = pages.library(pages.trained(kind))
    # As if it had been trained on some of its samples, so that not all of them are new.
    described = library.model.description
    known = described.train_digests.copy()
    known[:3] = digests(library.model.sample(3, seed=7))
    library.model = replace(library.model, description=replace(described, train_digests=known))
    content = static_site.files(library, pages.published(library), with_images)
    below = f"some where/{kind}-{with_images}"
    for name, data in content.items():
        path = root[0] / below / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Site(library, f"{root[1]}/{below.replace(' ', '%20')}/")


@pytest.fixture(scope="module")
def site(root: tuple[Path, str]) -> Site:
    """Of a model with an autoregressive decoder, without images."""
    return exported(root, "drawn", False)


@pytest.fixture(scope="module")
def illustrated(root: tuple[Path, str]) -> Site:
    """Of a model whose pixels are independent given the latents, with images."""
    return exported(root, "sprites", True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsers.launched() as opened:
        yield opened


@pytest.fixture(scope="module")
def idle(browser: Browser, site: Site) -> Iterator[Page]:
    """The page, for tests that only ask its modules."""
    yield from opened(browser, site)


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    yield from opened(browser, site)


def opened(browser: Browser, site: Site) -> Iterator[Page]:
    """The page, ready. At the end: no error on the console and no request to another address."""
    errors: list[str] = []
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, accept_downloads=True)
    page = context.new_page()

    def requested(request: Request) -> None:
        if not request.url.startswith((site.address, "blob:", "data:")) or request.method != "GET":
            errors.append(f"asked {request.method} {request.url}")

    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith("Canvas2D: Multiple readback"):
            errors.append(message.text)

    page.on("request", requested)
    page.on("console", said)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(site.address)
    expect(page.locator("#latency")).to_contain_text("decoded in")
    expect(page.locator("#progress")).to_have_text("")
    yield page
    assert errors == []
    context.close()


def ask(page: Page, path: str, /, **fields: Any) -> Any:
    """The answer of offline/api.js, as the page's own modules get it."""
    script = 'async ([path, fields]) => (await import(new URL("offline/api.js", location.href))).post(path, fields)'
    return page.evaluate(script, [path, fields])


def pictures(page: Page, texts: list[str], shape: tuple[int, int] = (24, 24)) -> np.ndarray:
    script = """async (texts) => {
      const { picture } = await import(new URL("offline/api.js", location.href));
      return Promise.all(texts.map(async (text) => [...(await picture(text)).image.data]));
    }"""
    return np.array(page.evaluate(script, texts), np.uint8).reshape(len(texts), *shape, 4)[..., :3]


def pixels(canvas: Locator) -> np.ndarray:
    return browsers.pixels(canvas)[..., :3]


def shown(page: Page, site: Site, after: str = "") -> str:
    """The recipe in the address, once it is another one; its picture must be on the stage."""
    page.wait_for_timeout(400)
    pages.wait(
        lambda: bool(page.wait_for_timeout(50)) or page.evaluate("location.hash.slice(1)") not in ("", after), 10
    )
    text = page.evaluate("location.hash.slice(1)")
    np.testing.assert_array_equal(pixels(page.locator("#stage")), recipes.picture(site.model, site.recipe(text)))
    return text


def test_random_numbers_are_those_of_numpy_and_jax(idle: Page):
    script = """async (seeds) => {
      const at = (name) => import(new URL(`offline/${name}`, location.href));
      const { RandomState } = await at("random.js");
      return seeds.map((seed) => {
        const make = (count, name) => {
          const random = new RandomState(seed);
          return Array.from({ length: count }, () => random[name]());
        };
        return [make(1300, "word"), make(700, "uniform"), make(701, "normal")];
      });
    }"""
    seeds: list[Any] = [0, 5, 2**31 - 1, 2**32 - 1, [5, 1], [0, 3], [2**31 - 1, 2]]
    for seed, (words, uniform, normal) in zip(seeds, idle.evaluate(script, seeds), strict=True):
        make = functools.partial(np.random.RandomState, seed)
        assert words == make().randint(0, 2**32, 1300, np.uint32).tolist()
        assert uniform == make().random_sample(700).tolist()
        np.testing.assert_allclose(normal, make().standard_normal(701), rtol=1e-14)
    script = """async (seeds) => {
      const { uniform } = await import(new URL("offline/threefry.js", location.href));
      return seeds.map((seed) => [...uniform(seed, 400)]);
    }"""
    seeds = [0, 1, 123456789, 2**31, 2**32 - 1]
    for seed, found in zip(seeds, idle.evaluate(script, seeds), strict=True):
        expected = jax.random.uniform(jax.random.key(np.uint32(seed)), (400,))
        np.testing.assert_array_equal(np.array(found, np.float32), expected)


def test_digests_are_sha256(idle: Page):
    script = """async (all) => {
      const { sha256 } = await import(new URL("offline/sha256.js", location.href));
      return all.map((bytes) => sha256(new Uint8Array(bytes)));
    }"""
    random = np.random.default_rng(0)
    given = [random.bytes(length) for length in (0, 1, 55, 56, 63, 64, 65, 1728)]
    assert idle.evaluate(script, [list(each) for each in given]) == [hashlib.sha256(x).hexdigest() for x in given]


def test_pixels_are_those_of_python(idle: Page, site: Site):
    (draws,) = site.model.draw("prior", 100, 3, temperature=1.5, reencode=0)
    given = [Recipe(z, None if i % 2 else int(draws.seeds[i])) for i, z in enumerate(draws.latents)]
    found = pictures(idle, [site.text(recipe) for recipe in given])
    np.testing.assert_array_equal(found, np.stack([recipes.picture(site.model, recipe) for recipe in given]))
    assert len(np.unique(found.reshape(100, -1), axis=0)) > 30


def test_samples_are_those_of_python(idle: Page, site: Site):
    model = site.model
    for options in ({}, {"new": True}, {"temperature": 0.7, "reencode": 0}):
        fields = {**SAMPLE, **options}
        found = ask(idle, "sample", count=12, seed=7, **fields)
        wanted = Wanted(new=fields["new"])
        draws, drawn = model.select(wanted, "prior", 12, 7, fields["temperature"], reencode=fields["reencode"])
        assert (found["drawn"], found["wanted"]) == (drawn, wanted.described)
        parsed = [site.recipe(sprite["recipe"]) for sprite in found["sprites"]]
        # As `explorer.sample` has it, the recipe keeps each sprite's own seed.
        np.testing.assert_allclose([recipe.z for recipe in parsed], draws.latents, atol=1e-4)
        np.testing.assert_array_equal([recipe.seed for recipe in parsed], draws.seeds)
        expected = model.decode(*draws)
        np.testing.assert_array_equal(pictures(idle, [sprite["recipe"] for sprite in found["sprites"]]), expected)
        assert [sprite["new"] for sprite in found["sprites"]] == model.is_new(expected).tolist()
        assert not fields["new"] or drawn > 12


def test_other_answers_are_those_of_the_server(idle: Page, site: Site):
    first, second = (site.text(Recipe(z)) for z in np.random.default_rng(0).standard_normal((2, 6)).astype(np.float32))
    cases: list[tuple[str, dict[str, Any]]] = [
        ("nudge", {"recipe": first, "seed": 9, "size": 0.3}),
        ("edit", {"recipe": first, "add": [LABELS[1]], "remove": [LABELS[2]], "strength": 2.5}),
        ("mix", {"recipes": [first, second], "weights": [0.3, 0.9]}),
        ("project", {"recipe": first}),
        ("strip", {"recipes": [first, second], "frames": 7, "path": "linear"}),
        ("strip", {"recipes": [first, second], "frames": 7, "path": "spherical"}),
    ]
    for name, fields in cases:
        found, expected = ask(idle, name, **fields), site.asked(name, **fields)
        ours, theirs = (x.get("recipes") or [x["recipe"]] for x in (found, expected))
        for our, their in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(site.recipe(our).z, site.recipe(their).z, atol=1e-5, err_msg=name)
    assert ask(idle, "certificate", recipe=first)["status"] in ("new", "training")
    for wrong, words in (
        (f"0123456789ab{first[12:]}", "is for model 0123456789ab"),
        (f"{first}a", "not a recipe|damaged"),
    ):
        with pytest.raises(Exception, match=words):
            ask(idle, "picture", recipe=wrong, snap=False)


def test_completions_are_those_of_python(idle: Page, site: Site):
    given = Recipe(np.zeros(6, np.float32), None, np.array([30]), np.array([[255, 0, 0]], np.uint8))
    known = np.arange(576).reshape(24, 24) < 300
    digits = "".join("1" if holds else "0" for holds in known.ravel())
    found = ask(idle, "complete", recipe=site.text(given), known=digits, count=3, seed=4)["recipes"]
    expected = site.model.complete(recipes.sprite(site.model, given), known, 3, 4)
    np.testing.assert_array_equal(pictures(idle, found), expected)


def test_a_standard_normal_prior_passes_the_noise_on(idle: Page, site: Site):
    """And the learned prior, without passes, is Python's."""
    script = """async () => {
      const at = (name) => import(new URL(`offline/${name}`, location.href));
      const [{ prior }, { read }] = [await at("prior.js"), await at("safetensors.js")];
      const tensor = read(await (await fetch("model.safetensors")).arrayBuffer());
      const noise = Float32Array.from({ length: 6 }, (_, i) => i - 2.5);
      const shares = Float32Array.from({ length: 6 }, (_, i) => i / 6);
      return [prior(() => null)(noise, shares), prior(tensor)(noise, shares)].map((z) => [...z]);
    }"""
    plain, learned = idle.evaluate(script)
    noise, shares = (np.arange(6) - 2.5).astype(np.float32), (np.arange(6) / 6).astype(np.float32)
    assert plain == noise.tolist()
    expected = inference.from_prior(site.model.module, site.model.params, noise[None], shares[None])
    np.testing.assert_allclose(learned, np.asarray(expected)[0], rtol=1e-5, atol=1e-5)


def test_a_person_at_work(page: Page, site: Site):
    model = site.model
    first = shown(page, site)
    page.fill("#seed", "5")
    page.keyboard.press("Enter")
    second = shown(page, site, after=first)
    (draws,) = model.draw("prior", 1, 5)
    np.testing.assert_allclose(site.recipe(second).z, draws.latents[0], atol=1e-4)
    # A slider, and undo.
    slider = page.locator("#sliders input[type=range]").first
    slider.fill("1.5")
    third = shown(page, site, after=second)
    index, latents = int(slider.get_attribute("data-latent") or ""), site.library.latents
    assert latents is not None
    assert site.recipe(third).z[index] == np.float32(latents.centre[index] + 1.5 * latents.deviation[index])
    page.click("#undo")
    assert shown(page, site, after=third) == second
    # A trait.
    page.keyboard.press("2")
    page.get_by_role("button", name=LABELS[2], exact=True).click()
    edited = shown(page, site, after=second)
    assert site.library.directions is not None
    step = site.recipe(edited).z - site.recipe(second).z
    np.testing.assert_allclose(step, 2 * site.library.directions[LABELS.index(LABELS[2])], atol=1e-5)
    # A mixture and a strip.
    page.keyboard.press("3")
    page.locator("[data-corner='0'] button", has_text="Current").click()
    page.click("#random")
    other = shown(page, site, after=edited)
    page.locator("[data-corner='1'] button", has_text="Current").click()
    page.locator("#mix-x").fill("0.25")
    mixed = shown(page, site, after=other)
    expected = 0.75 * site.recipe(edited).z + 0.25 * site.recipe(other).z
    np.testing.assert_allclose(site.recipe(mixed).z, expected, atol=1e-5)
    page.fill("#frames", "3")
    page.click("#make-strip")
    expect(page.locator("#strip canvas")).to_have_count(3)
    with page.expect_download() as download:
        page.click("#save-sheet")
    assert read_png(Path(download.value.path())).shape == (24 * 8, 24 * 8 * 3, 3)
    # Paint a pixel, erase another, complete the rest.
    page.keyboard.press("4")
    page.locator("#palette button").nth(1).click()
    page.locator("#editor").focus()
    page.keyboard.press("Space")
    painted = shown(page, site, after=mixed)
    assert model.description.palette is not None
    assert (recipes.picture(model, site.recipe(painted))[0, 0] == model.description.palette[1]).all()
    page.keyboard.press("e")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    page.click("#complete")
    expect(page.locator("#paint-note")).to_contain_text("8 completions")
    # The gallery.
    page.select_option("#count", "12")
    page.click("#draw")
    expect(page.locator("#gallery figure canvas")).to_have_count(12)
    expect(page.locator("#gallery-note")).to_contain_text("12 sprites, of 12 drawn")


def read_png(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_saved_file_restores_the_sprite_in_python_and_here(page: Page, site: Site):
    page.click("#random")
    text = shown(page, site)
    page.click("#tab-save")
    page.fill("#scale", "5")
    for transparent in (False, True):
        page.set_checked("#transparent", transparent)
        with page.expect_download() as download:
            page.click("#save-png")
        path = Path(download.value.path())
        restored, how = recipes.read(site.model, path.read_bytes())
        assert site.text(restored) == text and how == "restored from the recipe in the file"
        theirs = recipes.png(site.model, restored, 5, transparent=transparent)
        (path.parent / "theirs.png").write_bytes(theirs)
        np.testing.assert_array_equal(read_png(path), read_png(path.parent / "theirs.png"))
    saved = path.read_bytes()
    page.click("#random")
    after = shown(page, site, after=text)
    page.set_input_files("#open-file", {"name": "x.png", "mimeType": "image/png", "buffer": saved})
    expect(page.locator("#progress")).to_contain_text("restored from the recipe")
    assert shown(page, site, after=after) == text
    # Another image is encoded, enlarged and with a transparent background.
    plain = images.to_png(read_png(path.parent / "theirs.png"))
    page.set_input_files("#open-file", {"name": "x.png", "mimeType": "image/png", "buffer": plain})
    expect(page.locator("#progress")).to_contain_text("encoded from the image")
    encoded = site.recipe(shown(page, site, after=text)).z
    np.testing.assert_allclose(encoded, recipes.read(site.model, plain)[0].z, atol=1e-4)
    page.set_input_files("#open-file", {"name": "x.png", "mimeType": "image/png", "buffer": b"nothing"})
    expect(page.locator("#problem")).to_contain_text("cannot be read")


def test_what_needs_the_server_is_off_and_says_why(page: Page):
    for identity, words in (
        ("save-gif", "an animated GIF needs the program: python -m"),
        ("sampler-label", "sampling from a fitted distribution, or on conditions, needs the program"),
        ("mark-label", "finding the nearest training sprite needs the program"),
        ("map-parts", "the images are not part of this page"),
    ):
        assert page.locator(f"#{identity}").evaluate("element => element.inert")
        expect(page.get_by_text(words)).to_have_count(1)
    expect(page.locator("#map")).to_be_hidden()
    expect(page.locator("#conditions")).to_be_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1400
    page.set_viewport_size({"width": 360, "height": 740})
    for tab in ("traits", "mix", "paint", "save", "latents"):
        page.click(f"#tab-{tab}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, tab


def test_a_search_can_be_stopped_and_blocks_nothing(page: Page, site: Site):
    script = """async ([fields, recipe]) => {
      const { post } = await import(new URL("offline/api.js", location.href));
      const stop = new AbortController();
      const search = post("sample", fields, stop.signal);
      await post("picture", { recipe, snap: false });
      stop.abort();
      return search.catch((error) => error.name);
    }"""
    fields = {**SAMPLE, "count": 10**6, "seed": 0}
    assert page.evaluate(script, [fields, site.text(Recipe(np.zeros(6, np.float32)))]) == "AbortError"
    page.check("#new")
    page.click("#draw")
    expect(page.locator("#gallery-note")).to_contain_text("24 new and distinct sprites")


def test_with_images(browser: Browser, illustrated: Site):
    site = illustrated
    for page in opened(browser, site):
        expect(page.locator("#map-note")).to_contain_text(f"{pages.COUNT} images")
        expect(page.locator("#map-parts")).to_be_visible()
        run = site.library.run
        assert run is not None
        means, _ = run.encode(np.arange(pages.COUNT))
        # The same pixels from independent distributions too.
        given = [site.text(Recipe(z)) for z in means[:30]]
        np.testing.assert_array_equal(pictures(page, given), run.model.decode(means[:30]))
        # The same certificates, of a held-out sprite too.
        held_out = run.dataset.sprites[run.test_indices[0]] if run.dataset.sprites is not None else None
        assert held_out is not None
        exact = site.text(recipes.of_sprite(run.model, held_out, exactly=True))
        for text in (*given[:8], exact):
            facts, expected = ask(page, "certificate", recipe=text), site.asked("certificate", recipe=text)
            assert facts == {name: expected[name] for name in facts}
            assert {"status", "nearest", "pixels_differ", "differing"} <= facts.keys()
        facts = ask(page, "certificate", recipe=exact)
        assert facts["status"] == "held-out" and facts["equals"] == run.dataset.ids[run.test_indices[0]]
        # The same places on the map, and the same images from it.
        found, expected = (
            place(recipes=given[:5])
            for place in (functools.partial(ask, page, "place"), functools.partial(site.asked, "place"))
        )
        np.testing.assert_allclose(found["pca"], expected["pca"], atol=1e-5)
        np.testing.assert_allclose(found["tsne"], expected["tsne"], atol=1e-5)
        assert ask(page, "of_image", row=17) == site.asked("of_image", row=17)
        page.fill("#search", "17")
        page.locator("#search").press("Enter")
        page.check("input[value=tsne]")
        expect(page.locator("#map-note")).to_contain_text("nearest here")
        page.check("#mark")


def test_it_says_what_to_do_if_a_file_is_missing(browser: Browser, site: Site):
    page = browser.new_page()
    page.route("**/model.safetensors", lambda route: route.fulfill(status=404))
    page.goto(site.address)
    expect(page.locator("#problem")).to_have_text("model.safetensors could not be loaded: reload the page")
    page.close()


def test_without_a_server_it_says_what_is_missing(browser: Browser, root: tuple[Path, str], site: Site):
    page = browser.new_page()
    page.goto((root[0] / "some where" / "drawn-False" / "index.html").as_uri())
    expect(page.locator("#progress")).to_contain_text(
        "serve this folder with a web server, such as: python -m http.server"
    )
    page.close()
