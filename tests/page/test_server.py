"""The page's API: what it answers, held against the functions of the programs, and what it refuses."""

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from PIL import Image
from starlette.testclient import TestClient

from flax_punkvae import images
from flax_punkvae.data import synthetic
from flax_punkvae.measures import neighbours
from flax_punkvae.opening import Images
from flax_punkvae.page import explorer, layout, library, parts, server
from flax_punkvae.page.library import Library
from flax_punkvae.trained import editing, latents, recipes, traits
from flax_punkvae.trained.recipes import Recipe
from flax_punkvae.trained.samplers import SamplerName
from flax_punkvae.trained.selection import Wanted
from flax_punkvae.training.description import digests
from helpers import pages

PORT = 8128
_, _, LABELS = synthetic.draw(1, 0)
SAMPLE = {"from": "prior", "temperature": 1, "reencode": 0, "new": False, "with": [], "without": []}


class Page(TestClient):
    """A client in the place of the browser, and the library behind it."""

    def __init__(self, library: Library) -> None:
        address = f"http://127.0.0.1:{PORT}"
        super().__init__(server.application(library, "127.0.0.1", PORT), address, raise_server_exceptions=False)
        self.library = library
        self.model = library.model

    def ask(self, path: str, /, **fields: Any) -> Any:
        answer = self.post(f"/api/{path}", json=fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, status: int = 400, **options: Any) -> str:
        """The line of an error."""
        return line(self.post(f"/api/{path}", **options), status)

    def text(self, recipe: Recipe) -> str:
        return recipes.to_text(recipe, self.model.description)

    def recipe(self, text: str) -> Recipe:
        return recipes.parse(text, self.model.description)

    def random(self, seed: int = 0) -> Recipe:
        z = np.random.default_rng(seed).standard_normal(self.model.description.model.latent)
        return Recipe(z.astype(np.float32))


def line(answer: httpx2.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error and "\n" not in error
    return error


@pytest.fixture(scope="module", params=["sprites", "pictures"])
def run(request: pytest.FixtureRequest) -> Path:
    return pages.trained(request.param)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def page(run: Path, cache: Path) -> Iterator[Page]:
    """The page of a run whose library is full."""
    with pytest.MonkeyPatch.context() as patch:
        pages.put_reader(patch, LABELS)
        pages.measure_few(patch)
        pages.lay_out_here(patch)
        with Page(pages.library(run, cache)) as client:
            pages.wait(lambda: not client.library.progress)
            yield client


def shown(answer: httpx2.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    width, height = map(int, answer.headers["x-size"].split("x"))
    return np.frombuffer(answer.content, np.uint8).reshape(height, width, 3)


def test_what_it_says_about_the_model(page: Page):
    about, described = page.get("/api/model").json(), page.model.description
    assert about["digest"] == described.params_sha256 and about["latent"] == described.model.latent
    assert about["canvas"] == [24, 24] and about["labels"] == list(LABELS)
    assert about["image"] == ([24, 24] if page.model.index_palette is not None else [128, 128])
    assert described.palette is not None
    assert about["palette"] == [f"#{bytes(colour).hex()}" for colour in described.palette]
    assert about["flags"] == "--checkpoint last" and about["command"].endswith(" decode")
    progress = page.get("/api/progress").json()
    assert progress["notes"] == []
    assert all(progress[part] for part in ("images", "latents", "map", "tsne", "edits", "fits"))


def test_the_latents_are_in_order_of_kl(page: Page):
    """Oracle: the KL that `explore traverse` prints, and draws from the prior."""
    found, run = page.get("/api/latents").json(), page.library.run
    assert run is not None and found["measured_on"] == "held-out images"
    kl = page.model.kl_per_latent(run.dataset.images[run.test_indices], seed=0)
    np.testing.assert_allclose(found["kl"], kl)
    assert found["order"] == np.argsort(-kl, kind="stable").tolist()
    if page.model.module.prior.is_standard:
        assert set(found["centre"]) == {0} and set(found["deviation"]) == {1}
    else:
        draws = np.concatenate([draw.latents for draw in page.model.draw("prior", 4000, 1, reencode=0)])
        np.testing.assert_allclose(found["centre"], draws.mean(0), atol=0.25)
        np.testing.assert_allclose(found["deviation"], draws.std(0), rtol=0.2)


def test_the_map_shows_every_image(page: Page):
    found, run = page.get("/api/map").json(), page.library.run
    assert run is not None and run.dataset.sprites is not None
    assert found["ids"] == run.dataset.ids.tolist() and found["count"] == pages.COUNT
    assert [i for i, part in enumerate(found["parts"]) if part == "h"] == sorted(run.test_indices.tolist())
    for name, rows in found["labels"].items():
        assert rows == np.flatnonzero(run.dataset.labels[:, LABELS.index(name)]).tolist()
    sheet = np.asarray(Image.open(io.BytesIO(page.get("/api/atlas/0").content)))
    assert found["atlas"]["columns"] >= pages.COUNT
    tiles = sheet[:24].reshape(24, pages.COUNT, 24, 3).swapaxes(0, 1)
    np.testing.assert_array_equal(tiles, run.dataset.sprites)
    for name in ("pca", "tsne"):
        positions = np.frombuffer(page.get(f"/api/map/{name}").content, "<f4").reshape(-1, 2)
        assert positions.shape == (pages.COUNT, 2) and np.abs(positions).max() == pytest.approx(1)
        assert 0 < found[f"{name}_kept"] <= 1
    assert line(page.get("/api/atlas/1"), 404) and line(page.get("/api/map/umap"), 404)


def test_a_picture_is_that_of_its_recipe(page: Page):
    recipe = Recipe(page.random().z, 9, np.array([5]), np.array([[1, 2, 3]], np.uint8))
    for each in (recipe, page.random(1)):
        for snap in (False, True):
            answer = page.post("/api/picture", json={"recipe": page.text(each), "snap": snap})
            np.testing.assert_array_equal(shown(answer), recipes.picture(page.model, each, snap))
            assert answer.headers["server-timing"].startswith("decode;dur=")


def test_a_png_file_is_that_of_the_program(page: Page):
    recipe = page.random()
    fields = {"recipe": page.text(recipe), "scale": 4, "snap": True, "transparent": False}
    answer = page.post("/api/png", json=fields)
    assert answer.headers["content-type"] == "image/png"
    assert answer.content == recipes.png(page.model, recipe, 4, snap=True)


@pytest.mark.parametrize("how", ["prior", "gaussian", "mixture"])
def test_samples_are_those_of_the_program(page: Page, how: SamplerName):
    """Oracle: `Model.select`, and each certificate computed anew, pixel by pixel."""
    found = page.ask("sample", **{**SAMPLE, "count": 6, "seed": 3, "from": how, "reencode": 1})
    run, known = page.library.run, page.library.known
    assert run is not None and known is not None and run.dataset.sprites is not None
    expected = page.model.select(Wanted(), how, 6, 3, 1.0, lambda: run.encode(run.train_indices), 1)
    held_out = {bytes(digest) for digest in digests(run.dataset.sprites[run.test_indices])}
    assert found["drawn"] == 6 and not found["selective"]
    for row, z, seed in zip(found["sprites"], *expected.draws, strict=True):
        recipe = page.recipe(row["recipe"])
        np.testing.assert_allclose(recipe.z, z, rtol=1e-5, atol=1e-6)
        assert recipe.seed == (int(seed) if page.model.index_palette is not None else None)
        sprite = recipes.sprite(page.model, recipe)
        new = page.model.is_new(sprite[None])[0]
        ours = bytes(digests(sprite[None])[0])
        assert row["status"] == ("training" if not new else "held-out" if ours in held_out else "new")
        distances = (known.sprites != sprite).any(-1).sum(axis=(1, 2))
        assert row["pixels_differ"] == distances.min() == len(row["differing"])
        nearest, _ = neighbours.nearest_sprites(sprite[None], known.sprites)
        assert row["nearest"] == known.ids[nearest[0]]
        assert page.library.reader is not None
        present = page.library.reader.read(sprite[None])[0]
        assert row["traits"] == [LABELS[i] for i in np.flatnonzero(present)]
    assert page.ask("certificate", recipe=found["sprites"][0]["recipe"]) == {
        name: value for name, value in found["sprites"][0].items() if name != "recipe"
    }


def test_samples_on_conditions(page: Page):
    if page.model.index_palette is None:
        pytest.skip("after one epoch, all pictures are the same")
    found = page.ask("sample", **{**SAMPLE, "count": 4, "seed": 0, "new": True, "with": [LABELS[2]]})
    assert found["selective"] and found["drawn"] >= 4 and len(found["sprites"]) == 4
    assert all(LABELS[2] in row["traits"] and row["new"] for row in found["sprites"])
    assert len({row["recipe"] for row in found["sprites"]}) == 4
    wrong = page.refused("sample", json={**SAMPLE, "count": 1, "seed": 0, "with": ["nosuch"]})
    assert "there is no label 'nosuch'" in wrong


def test_a_search_that_finds_too_few_says_how_many(page: Page, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(explorer, "_MOST_DRAWS", 300)
    monkeypatch.setattr(traits, "read", lambda network, sprites: np.zeros((len(sprites), len(LABELS)), bool))
    found = page.ask("sample", **{**SAMPLE, "count": 2, "seed": 0, "with": [LABELS[0]]})
    assert found["sprites"] == [] and found["drawn"] == 300


def test_an_edit_is_that_of_explore(page: Page):
    run, recipe = page.library.run, Recipe(page.random().z, 4)
    assert run is not None
    shift = editing.shift(run, [2], [5])
    moved = page.ask("edit", recipe=page.text(recipe), add=[LABELS[2]], remove=[LABELS[5]], strength=1.5)
    again = page.recipe(moved["recipe"])
    np.testing.assert_allclose(again.z, recipe.z + np.float32(1.5) * shift, rtol=1e-4, atol=1e-5)
    assert again.seed == 4


def test_edits_are_measured_on_held_out_sprites(page: Page):
    """Oracle: `editing.measure` for one label."""
    found, run = page.get("/api/edits").json(), page.library.run
    assert run is not None and page.library.reader is not None
    assert set(found["labels"]) <= set(LABELS) and set(found["effects"]) == set(LABELS)
    name = next(name for name in found["labels"] if found["effects"][name]["add"])
    column = LABELS.index(name)
    positions = editing.eligible(run, [column], [])[:64]
    (effect,) = editing.measure(
        run, page.library.reader, positions, editing.shift(run, [column], []), [column], [], [library.STRENGTH]
    )
    measured = found["effects"][name]["add"]
    assert measured["images"] == len(positions) and measured["succeeds"] == pytest.approx(effect["succeeds"], abs=0.05)


def test_mixtures_strips_and_nudges(page: Page):
    a, b, c = (page.random(seed) for seed in range(3))
    texts = [page.text(recipe) for recipe in (a, b, c)]
    mixed = page.recipe(page.ask("mix", recipes=texts, weights=[1, 0.5, 0.5])["recipe"])
    np.testing.assert_allclose(mixed.z, (a.z + 0.5 * b.z + 0.5 * c.z) / 2, rtol=1e-5, atol=1e-6)
    for path, walk in (("linear", latents.interpolate), ("spherical", latents.slerp)):
        frames = page.ask("strip", recipes=texts[:2], frames=5, path=path)["recipes"]
        np.testing.assert_array_equal([page.recipe(frame).z for frame in frames], walk(a.z, b.z, 5))
    near = page.recipe(page.ask("nudge", recipe=texts[0], seed=1, size=0.5)["recipe"])
    found = page.library.latents
    assert found is not None
    steps = (near.z - a.z) / found.deviation
    assert 0 < np.abs(steps).max() < 2.5
    assert page.recipe(page.ask("nudge", recipe=texts[0], seed=1, size=0)["recipe"]).z.tobytes() == a.z.tobytes()
    gif = page.post("/api/strip_file", json={"recipes": texts, "format": "gif", "scale": 2, "milliseconds": 100})
    sheet = page.post("/api/strip_file", json={"recipes": texts, "format": "sheet", "scale": 2, "milliseconds": 100})
    with Image.open(io.BytesIO(gif.content)) as moving, Image.open(io.BytesIO(sheet.content)) as still:
        assert moving.format == "GIF" and still.format == "PNG" and still.width == 3 * moving.width
    huge = {"recipes": texts * 16, "format": "gif", "scale": 32, "milliseconds": 100}
    if page.model.index_palette is None:
        assert "too large" in page.refused("strip_file", json=huge)


def test_completions_hold_the_known_pixels(page: Page):
    if page.model.index_palette is None:
        pytest.skip("it takes too long, and the sprites show it")
    recipe, known = page.random(), np.ones((24, 24), bool)
    known[12:] = False
    mask = "".join("1" if x else "0" for x in known.ravel())
    found = page.ask("complete", recipe=page.text(recipe), known=mask, count=3, seed=2)["recipes"]
    sprite = recipes.sprite(page.model, recipe)
    expected = page.model.complete(sprite, known, 3, 2)
    completed = np.stack([recipes.picture(page.model, page.recipe(text), snap=True) for text in found])
    np.testing.assert_array_equal(completed, expected)
    np.testing.assert_array_equal(completed[:, known], np.broadcast_to(sprite[known], (3, known.sum(), 3)))
    assert "nothing to fill in" in page.refused(
        "complete", json={"recipe": page.text(recipe), "known": "1" * 576, "count": 3, "seed": 2}
    )


def test_images_of_the_map_and_painted_sprites_are_encoded(page: Page):
    run = page.library.run
    assert run is not None
    recipe = page.recipe(page.ask("of_image", row=7)["recipe"])
    np.testing.assert_allclose(recipe.z, run.encode(np.array([7]))[0][0], rtol=1e-5, atol=1e-6)
    assert page.library.map is not None
    placed = page.ask("place", recipes=[page.text(recipe)])["pca"]
    np.testing.assert_allclose(placed, page.library.map.positions[7:8], atol=1e-5)
    painted = Recipe(recipe.z, None, np.arange(100), np.zeros((100, 3), np.uint8))
    again = page.recipe(page.ask("project", recipe=page.text(painted))["recipe"])
    np.testing.assert_array_equal(again.z, page.model.encode(recipes.sprite(page.model, painted)[None])[0][0])


def test_files_are_opened(page: Page):
    recipe = Recipe(page.random().z, 6)
    restored = page.post("/api/open", content=recipes.png(page.model, recipe, 5)).json()
    assert restored["recipe"] == page.text(recipe) and "restored" in restored["how"]
    plain = page.post("/api/open", content=images.to_png(np.zeros((48, 48, 3), np.uint8))).json()
    assert "encoded" in plain["how"]
    for content in (b"", b"text", b"\x89PNG\r\n\x1a\n" + bytes(50)):
        assert "cannot be read" in page.refused("open", content=content)
    assert "expected an image of 24x24" in page.refused("open", content=images.to_png(np.zeros((9, 9, 3), np.uint8)))
    assert "too large" in page.refused("open", 413, content=bytes(2**23 + 1))


# Malformed input

ENDPOINTS = {
    "picture": {"recipe": "R", "snap": False},
    "png": {"recipe": "R", "scale": 1, "snap": False, "transparent": False},
    "certificate": {"recipe": "R"},
    "nudge": {"recipe": "R", "seed": 0, "size": 0.1},
    "edit": {"recipe": "R", "add": [LABELS[2]], "remove": [], "strength": 1},
    "mix": {"recipes": ["R", "R"], "weights": [1, 1]},
    "strip": {"recipes": ["R", "R"], "frames": 3, "path": "linear"},
    "strip_file": {"recipes": ["R", "R"], "format": "gif", "scale": 1, "milliseconds": 50},
    "of_image": {"row": 0},
    "project": {"recipe": "R"},
    "place": {"recipes": ["R"]},
    "sample": {**SAMPLE, "count": 1, "seed": 0},
    "complete": {"recipe": "R", "known": "0" + "1" * 575, "count": 1, "seed": 0},
}
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)


def filled(page: Page, value: Any) -> Any:
    """A body with a recipe in the place of each R."""
    if isinstance(value, dict):
        return {name: filled(page, inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [filled(page, inner) for inner in value]
    return page.text(page.random()) if value == "R" else value


def test_every_endpoint_answers_a_valid_body(page: Page):
    for path, body in ENDPOINTS.items():
        if path == "complete" and page.model.index_palette is None:
            continue
        answer = page.post(f"/api/{path}", json=filled(page, body))
        assert answer.status_code == 200, (path, answer.text)


@settings(max_examples=60)
@given(st.sampled_from(sorted(ENDPOINTS)), st.data())
def test_a_wrong_field_is_one_line(page: Page, path: str, data: st.DataObject):
    body = ENDPOINTS[path]
    name = data.draw(st.sampled_from(sorted(body)))
    how = data.draw(st.sampled_from(["odd", "left out", "one more"]))
    changed = filled(page, {**body, name: data.draw(ODD)} if how == "odd" else body)
    if how == "left out":
        del changed[name]
    if how == "one more":
        changed["extra"] = data.draw(ODD)
    answer = page.post(f"/api/{path}", json=changed)
    if how == "odd":
        # A number may happen to be valid.
        assert answer.status_code in (200, 400), answer.text
        if answer.status_code == 200:
            return
    line(answer, 400)


@given(st.sampled_from(sorted(ENDPOINTS)), st.binary(max_size=60))
@example("mix", b'{"recipes": ["R", "R"], "weights": [NaN, 1]}')
@example("mix", b'{"recipes": ["R", "R"], "weights": [Infinity, 1]}')
@example("nudge", b"[" * 20000)
@example("nudge", b'{"seed": ' + b"9" * 5000 + b"}")
@example("nudge", b'{"\\ud800": 1}')
@example("certificate", b'{"recipe": "\\ud800"}')
@example("certificate", b"\xff\xfe{}")
def test_a_body_that_is_not_the_right_json_is_one_line(page: Page, path: str, body: bytes):
    answer = page.post(f"/api/{path}", content=body, headers={"content-type": "application/json"})
    line(answer, 400)


def test_too_much_is_refused(page: Page):
    headers = {"content-type": "application/json"}
    assert "too large" in page.refused("picture", 413, content=b" " * (2**20 + 1), headers=headers)
    assert "application/json" in page.refused("picture", 415, content=b"{}", headers={"content-type": "text/plain"})
    for fields in ({"count": 97}, {"count": 0}, {"temperature": -1}, {"reencode": 101}, {"with": ["x"] * 17}):
        page.refused("sample", json={**SAMPLE, "count": 1, "seed": 0, **fields})


# Safety


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": f"localhost:{PORT}"}, 200),
        ({"host": f"[::1]:{PORT}"}, 200),
        ({"origin": f"http://127.0.0.1:{PORT}"}, 200),
        ({"host": f"evil.example:{PORT}"}, 403),
        ({"host": "127.0.0.1"}, 403),
        ({"host": f"127.0.0.1:{PORT + 1}"}, 403),
        ({"host": f"user@127.0.0.1:{PORT}"}, 403),
        ({"host": "127.0.0.1:port"}, 403),
        ({"host": ""}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": f"https://127.0.0.1:{PORT}"}, 403),
        ({"origin": f"http://localhost:{PORT}"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
    ],
)
def test_requests_from_elsewhere_are_refused(page: Page, headers: dict[str, str], status: int):
    for answer in (page.get("/", headers=headers), page.get("/api/model", headers=headers)):
        assert answer.status_code == status
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    answer = page.post("/api/nudge", json=filled(page, ENDPOINTS["nudge"]), headers=headers)
    assert answer.status_code == status


def test_an_address_that_the_person_chose_is_known_by_name_or_number(page: Page):
    guarded = server.application(page.library, "box.local", PORT)
    client = TestClient(guarded, raise_server_exceptions=False)
    for host, status in (
        (f"box.local:{PORT}", 200),
        (f"192.168.1.7:{PORT}", 200),
        (f"[fe80::1]:{PORT}", 200),
        (f"evil.example:{PORT}", 403),
    ):
        assert client.get("/api/model", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    "path",
    ["/static/../server.py", "/static/..%2fserver.py", "/static/%2e%2e/server.py", "/static//etc/passwd", "/nothing",
     "/static/", "/api/", "/api/atlas/-1", "/api/atlas/99999999999999999999", "/static/index.html%00"],
)  # fmt: skip
def test_no_path_reaches_the_file_system(page: Page, path: str):
    line(page.get(path), 404)


def test_other_methods_are_refused(page: Page):
    line(page.get("/api/picture"), 405)
    line(page.post("/api/model"), 405)
    line(page.delete("/"), 405)


def test_the_page_and_its_files_are_served(page: Page):
    assert page.get("/").headers["content-type"].startswith("text/html")
    folder = Path(server.__file__).parent / "static"
    kinds = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
    for file in folder.iterdir():
        answer = page.get(f"/static/{file.name}")
        assert answer.content == file.read_bytes() and answer.headers["content-type"].startswith(kinds[file.suffix])


def test_a_fault_is_one_line_and_the_next_request_is_answered(page: Page, monkeypatch: pytest.MonkeyPatch):
    recipe = page.text(page.random())

    def broken(*_: object) -> None:
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(recipes, "picture", broken)
        assert "out of memory" in page.refused("picture", 503, json={"recipe": recipe, "snap": False})
        patch.setattr(recipes, "picture", lambda *_: 1 / 0)
        assert "ZeroDivisionError" in page.refused("picture", 500, json={"recipe": recipe, "snap": False})
    assert page.post("/api/picture", json={"recipe": recipe, "snap": False}).status_code == 200


def test_too_many_requests_at_once_are_refused(page: Page, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "_QUICK", 0)
    busy = TestClient(server.application(page.library, "127.0.0.1", PORT), f"http://127.0.0.1:{PORT}")
    answer = busy.post("/api/picture", json={"recipe": page.text(page.random()), "snap": False})
    assert "try again" in line(answer, 503)


# The library


def test_nothing_is_written_to_the_run_and_the_cache_is_used(page: Page, run: Path, cache: Path):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    kept = sorted(path.name.split("-")[0] for path in cache.iterdir())
    assert {"posteriors", "edits", "tsne"} <= set(kept)
    times = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    with Page(pages.library(run, cache)) as again:
        pages.wait(lambda: not again.library.progress)
        assert again.get("/api/edits").json() == page.get("/api/edits").json()
        assert again.get("/api/map/tsne").content == page.get("/api/map/tsne").content
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == times
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_damaged_cache_is_computed_again(page: Page, run: Path, cache: Path, tmp_path: Path):
    for file in cache.iterdir():
        (tmp_path / file.name).write_bytes(b"damaged")
    with Page(pages.library(run, tmp_path)) as again:
        pages.wait(lambda: not again.library.progress)
        assert again.library.notes == []
        assert again.get("/api/map/pca").content == page.get("/api/map/pca").content
        assert again.get("/api/edits").json() == page.get("/api/edits").json()


def test_without_the_images_there_is_less_to_see(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "SAMPLES", 70)
    with Page(pages.library(run, None, Images(source=str(tmp_path / "gone.png")))) as page:
        pages.wait(lambda: not page.library.progress)
        progress = page.get("/api/progress").json()
        assert progress["map"] and progress["latents"] and not progress["images"] and not progress["edits"]
        assert any("gone.png" in note for note in progress["notes"])
        found = page.get("/api/map").json()
        assert set(found["parts"]) == {"s"} and found["labels"] == {}
        assert page.library.map is not None
        np.testing.assert_array_equal(page.library.map.shown.sprites, page.model.sample(70, seed=0))
        row = page.ask("sample", **{**SAMPLE, "count": 1, "seed": 1})["sprites"][0]
        assert row["status"] in ("new", "training") and "nearest" not in row
        assert "fitted" in page.refused("sample", json={**SAMPLE, "count": 1, "seed": 1, "from": "mixture"})
        assert "not at hand" in page.refused("edit", json=filled(page, ENDPOINTS["edit"]))
        assert "not at hand" in line(page.get("/api/edits"), 400)


def test_a_part_that_fails_says_so_and_the_rest_goes_on(run: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(layout, "Tsne", broken)
    with Page(pages.library(run)) as page:
        pages.wait(lambda: not page.library.progress)
        assert any(re.fullmatch("laying out the map by t-SNE.* failed: by zero", note) for note in page.library.notes)
        assert page.get("/api/map").json()["tsne_kept"] is None and line(page.get("/api/map/tsne"), 404)
        assert page.ask("place", recipes=[page.text(page.random())])["tsne"] is None


# Sessions


class Session(RuleBasedStateMachine):
    """What a person does with a sprite; the recipe in the address always gives the same latents and picture."""

    page: Page

    @initialize(seed=st.integers(0, 2**31 - 1))
    def begin(self, seed: int) -> None:
        self.history, self.place, self.known = [self.sampled(seed)], 0, {}

    def sampled(self, seed: int) -> str:
        return self.page.ask("sample", **{**SAMPLE, "count": 1, "seed": seed})["sprites"][0]["recipe"]

    def go(self, recipe: str) -> None:
        self.history = [*self.history[: self.place + 1], recipe]
        self.place += 1

    @property
    def now(self) -> str:
        return self.history[self.place]

    @rule(seed=st.integers(0, 2**31 - 1))
    def random(self, seed: int) -> None:
        first = self.sampled(seed)
        assert first == self.sampled(seed)
        self.go(first)

    @rule(label=st.sampled_from(LABELS[2:6]), strength=st.floats(0, 3, width=32))
    def edit(self, label: str, strength: float) -> None:
        if np.isnan(self.page.library.directions[LABELS.index(label)]).any():  # pyright: ignore[reportOptionalSubscript]
            return
        self.go(self.page.ask("edit", recipe=self.now, add=[label], remove=[], strength=strength)["recipe"])

    @rule(seed=st.integers(0, 2**31 - 1))
    def nudge(self, seed: int) -> None:
        self.go(self.page.ask("nudge", recipe=self.now, seed=seed, size=0.3)["recipe"])

    @rule(index=st.integers(0, 4), value=st.floats(-3, 3, width=32))
    def slide(self, index: int, value: float) -> None:
        recipe = self.page.recipe(self.now)
        z = recipe.z.copy()
        z[index] = value
        self.go(self.page.text(recipe.moved(z)))

    @rule(position=st.integers(0, 575), level=st.integers(0, 255))
    def paint(self, position: int, level: int) -> None:
        recipe = self.page.recipe(self.now)
        colours = np.full((1, 3), level, np.uint8)
        self.go(self.page.text(Recipe(recipe.z, recipe.seed, np.array([position]), colours)))

    @rule(share=st.floats(0, 1, width=32))
    def mix(self, share: float) -> None:
        first, last = self.history[0], self.now
        mixed = self.page.ask("mix", recipes=[first, last], weights=[1 - share, share])["recipe"]
        self.go(mixed)

    @rule()
    def undo(self) -> None:
        self.place = max(self.place - 1, 0)

    @rule()
    def redo(self) -> None:
        self.place = min(self.place + 1, len(self.history) - 1)

    @rule()
    def save_and_open(self) -> None:
        body = {"recipe": self.now, "scale": 2, "snap": False, "transparent": False}
        file = self.page.post("/api/png", json=body).content
        assert self.page.post("/api/open", content=file).json()["recipe"] == self.now

    @invariant()
    def the_same_recipe_is_the_same_picture(self) -> None:
        if not hasattr(self, "history"):
            return
        recipe = self.page.recipe(self.now)
        assert self.page.text(recipe) == self.now
        picture = self.page.post("/api/picture", json={"recipe": self.now, "snap": False}).content
        assert self.known.setdefault(self.now, picture) == picture


def test_sessions(page: Page):
    Session.page = page
    run_state_machine_as_test(Session, settings=settings(max_examples=8, stateful_step_count=12))


def test_the_browser_may_give_up_a_search(page: Page, monkeypatch: pytest.MonkeyPatch):
    """The search ends at its next report, long before its limit."""
    asked: list[int] = []
    select = type(page.model).select

    def slow(*arguments: Any, **options: Any) -> Any:
        report: Callable[[int, int], None] = arguments[-1]

        def counted(kept: int, drawn: int) -> None:
            asked.append(drawn)
            report(kept, drawn)

        return select(*[*arguments[:-1], counted])

    monkeypatch.setattr(type(page.model), "select", slow)
    monkeypatch.setattr(traits, "read", lambda network, sprites: np.zeros((len(sprites), len(LABELS)), bool))
    monkeypatch.setattr(server.Request, "is_disconnected", disconnected)
    answer = page.post("/api/sample", json={**SAMPLE, "count": 1, "seed": 0, "with": [LABELS[0]]})
    assert answer.status_code == 499
    pages.wait(lambda: bool(asked))
    before = len(asked)
    page.ask("certificate", recipe=page.text(page.random()))
    pages.wait(lambda: len(asked) <= before + 2)
    assert asked[-1] < 50_000


async def disconnected(_: object) -> bool:
    return True
