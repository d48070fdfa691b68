"""How fast the page is, and how it stands many clients: `python tests/page/benchmark.py RUN_DIR`.

Starts the page's program, drives it in headless Chromium, and prints one line for each measurement.
"""

import itertools
import json
import random
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect, sync_playwright

CLIENTS, SECONDS, MALFORMED = 20, 60.0, 1000


def main(run: str) -> None:
    """Measure one run."""
    command = [sys.executable, "-m", "flax_punkvae.experiments.page", run, "--port", "0", "--no-open"]
    begun = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None and server.stderr is not None
        address = next(found[0] for line in server.stdout if (found := re.findall(r"is at (http\S+)", line)))
        print(f"from the command to the address: {time.monotonic() - begun:.1f} s")
        try:
            with sync_playwright() as playwright:
                chromium = shutil.which("chromium") or shutil.which("chromium-browser")
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": 1400, "height": 1000})
                opened(page, address, begun)
                dragged(page)
                panned(page)
                browser.close()
            crowded(address, server.pid)
            malformed(address)
        finally:
            server.terminate()
            _, errors = server.communicate(timeout=30)
            print(f"lines on standard error: {len(errors.splitlines())}; exit status {server.returncode}")


def opened(page: Page, address: str, begun: float) -> None:
    """How long it takes to see something."""
    loading = time.monotonic()
    page.goto(address)
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    print(f"first paint: {paint:.0f} ms" if paint else "first paint: not reported")
    expect(page.locator("#latency")).to_contain_text("decoded in", timeout=60_000)
    print(f"first sprite: {time.monotonic() - loading:.1f} s after loading the page")
    expect(page.locator("#map-note")).to_contain_text("nearest neighbours", timeout=600_000)
    print(f"map by PCA: {time.monotonic() - begun:.1f} s after the command")
    expect(page.locator("#progress")).not_to_contain_text(re.compile("laying|measuring|encoding"), timeout=900_000)
    print(f"all parts, t-SNE and edits included: {time.monotonic() - begun:.1f} s after the command")


def dragged(page: Page) -> None:
    """The time from an input event of a slider to the frame that shows its picture."""
    slider = page.locator("#sliders input[type=range]").first
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box is not None
    page.evaluate("performance.clearMeasures('drag')")
    page.mouse.move(box["x"] + 10, box["y"] + box["height"] / 2)
    page.mouse.down()
    for turn in range(4):
        for step in range(100):
            share = step / 100 if turn % 2 == 0 else 1 - step / 100
            page.mouse.move(box["x"] + 10 + share * (box["width"] - 20), box["y"] + box["height"] / 2)
            page.wait_for_timeout(8)
    page.mouse.up()
    times = page.evaluate("performance.getEntriesByName('drag').map((entry) => entry.duration)")
    cuts = statistics.quantiles(times, n=100)
    print(f"drag: {len(times)} pictures, from event to frame p50 {cuts[49]:.0f} ms, p95 {cuts[94]:.0f} ms")


def panned(page: Page) -> None:
    """Frames a second while the map is dragged about, far out and nearer."""
    canvas = page.locator("#map")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    for zooms in (0, 4, 4):
        for _ in range(zooms):
            page.click("#zoom-in")
        page.mouse.move(*middle)
        page.mouse.down()
        page.evaluate(
            """() => {
              const times = (window.frameTimes = []);
              const tick = (now) => times.push(now) && times === window.frameTimes && requestAnimationFrame(tick);
              requestAnimationFrame(tick);
            }"""
        )
        begun = time.monotonic()
        while time.monotonic() - begun < 3:
            angle = 4 * (time.monotonic() - begun)
            page.mouse.move(middle[0] + 120 * random.uniform(0.9, 1) * (angle % 2 - 1), middle[1] + 60 * (angle % 1.5))
        times = page.evaluate("window.frameTimes")
        page.mouse.up()
        gaps = [after - before for before, after in itertools.pairwise(times)]
        print(
            f"panning, {page.locator('#map-view').inner_text()}: {1000 / statistics.mean(gaps):.0f} frames a second, "
            f"slowest of 20 {statistics.quantiles(gaps, n=20)[-1]:.0f} ms"
        )


def ask(address: str, path: str, body: bytes) -> tuple[int, bytes]:
    """(status, content) of a request as the page makes it."""
    headers = {"Content-Type": "application/json", "Origin": address.rstrip("/")}
    request = urllib.request.Request(f"{address}api/{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def first_recipe(address: str) -> str:
    """A recipe of the model."""
    fields = {"count": 1, "seed": 1, "from": "prior", "temperature": 1, "reencode": 0, "new": False}
    _, content = ask(address, "sample", json.dumps({**fields, "with": [], "without": []}).encode())
    return json.loads(content)["sprites"][0]["recipe"]


def resident(pid: int) -> float:
    """Resident memory in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


def crowded(address: str, pid: int) -> None:
    """Many clients that each ask for one picture after another, as a drag does."""
    recipe, times, wrong = first_recipe(address), [], []

    def drag(client: int) -> None:
        source = random.Random(client)
        text = recipe
        while time.monotonic() < end:
            body: dict[str, Any] = {"recipe": text, "seed": source.randrange(2**31), "size": 0.2}
            text = json.loads(ask(address, "nudge", json.dumps(body).encode())[1])["recipe"]
            begun = time.monotonic()
            status, _ = ask(address, "picture", json.dumps({"recipe": text, "snap": False}).encode())
            times.append(time.monotonic() - begun)
            if status != 200:
                wrong.append(status)

    end = time.monotonic() + 5
    drag(0)
    before = resident(pid)
    times.clear()
    end = time.monotonic() + SECONDS
    threads = [threading.Thread(target=drag, args=(client,)) for client in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cuts = statistics.quantiles(times, n=100)
    print(
        f"{CLIENTS} clients for {SECONDS:.0f} s: {len(times)} pictures, p50 {1000 * cuts[49]:.0f} ms, "
        f"p95 {1000 * cuts[94]:.0f} ms, {len(wrong)} errors, "
        f"memory {before:.0f} MB before and {resident(pid):.0f} MB after"
    )


def malformed(address: str) -> None:
    """Bodies that are no requests: all must be answered with 4xx."""
    recipe, source = first_recipe(address), random.Random(0)
    paths = ("picture", "png", "certificate", "nudge", "edit", "mix", "strip", "sample", "complete", "place", "open")
    odd = (None, True, -1, 1e308, 10**400, "", "\ud800", [], {}, [[[]]], "NaN", recipe[:-9], recipe + "A")
    counts: dict[int, int] = {}
    for _ in range(MALFORMED):
        fields = {name: source.choice(odd) for name in ("recipe", "recipes", "seed", "size", "count", "known", "scale")}
        content = json.dumps(fields).encode()
        body = source.choice((content, content[: source.randrange(len(content))], source.randbytes(50), b"[" * 9999))
        status, _ = ask(address, source.choice(paths), body)
        counts[status] = counts.get(status, 0) + 1
    print(f"{MALFORMED} malformed requests: {', '.join(f'{n} times {code}' for code, n in sorted(counts.items()))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
