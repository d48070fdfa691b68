"""What is set on jax at the start: the backend, float32 products, a compilation cache that nobody else wrote to."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from flax_punkvae.config import Config
from flax_punkvae.devices import backend
from flax_punkvae.errors import UserError
from flax_punkvae.training import state as train_state
from flax_punkvae.training import steps

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_enable_compilation_cache",
    "jax_default_matmul_precision",
    "jax_threefry_partitionable",
)


def setting(name: str) -> Any:
    return getattr(jax.config, name)


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """jax as it was, and no cache named by the environment."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    before = {name: setting(name) for name in SETTINGS}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return tmp_path


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def somebody_else(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Make a file another user's: by giving it away where that is allowed, or else by being another user."""
    if os.geteuid() == 0:
        os.chown(path, 12345, 12345, follow_symlinks=False)
    else:
        other = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: other)


def test_the_users_own_cache_is_made_for_the_user_alone(home: Path, capsys: pytest.CaptureFixture[str]):
    before = os.umask(0)
    try:
        backend.prepare("auto")
    finally:
        os.umask(before)
    cache = home / ".cache" / "flax_punkvae"
    assert (mode(cache), mode(cache.parent)) == (0o700, 0o700)
    assert setting("jax_compilation_cache_dir") == str(cache)
    # As earlier versions made it: nobody else writes there.
    cache.chmod(0o755)
    backend.prepare("auto")
    assert capsys.readouterr() == ("", "")


def group_may_write(monkeypatch: pytest.MonkeyPatch, path: Path) -> str:
    path.mkdir()
    path.chmod(0o770)
    return "others may write to .*chmod go-w"


def all_may_write(monkeypatch: pytest.MonkeyPatch, path: Path) -> str:
    path.mkdir()
    path.chmod(0o1777)
    return "others may write to "


def another_users(monkeypatch: pytest.MonkeyPatch, path: Path) -> str:
    path.mkdir(mode=0o700)
    somebody_else(monkeypatch, path)
    return "belongs to another user"


def link_to_where_all_may_write(monkeypatch: pytest.MonkeyPatch, path: Path) -> str:
    target = path.with_name("target")
    path.symlink_to(target)
    return all_may_write(monkeypatch, target)


def another_users_link_to_ours(monkeypatch: pytest.MonkeyPatch, path: Path) -> str:
    path.with_name("target").mkdir(mode=0o700)
    path.symlink_to("target")
    somebody_else(monkeypatch, path)
    return "the symbolic link .*" if os.geteuid() == 0 else "belongs to another user"


def another_users_link_behind_ours(monkeypatch: pytest.MonkeyPatch, path: Path) -> str:
    path.symlink_to("theirs")
    message = another_users_link_to_ours(monkeypatch, path.with_name("theirs"))
    return f"{message}theirs belongs" if os.geteuid() == 0 else message


def a_file(_monkeypatch: pytest.MonkeyPatch, path: Path) -> str:
    path.touch()
    return "cannot be created"


def a_link_to_itself(_monkeypatch: pytest.MonkeyPatch, path: Path) -> str:
    path.symlink_to(path)
    return "cannot be created"


@pytest.mark.parametrize(
    "spoil",
    [
        *(group_may_write, all_may_write, another_users, link_to_where_all_may_write, another_users_link_to_ours),
        *(another_users_link_behind_ours, a_file, a_link_to_itself),
    ],
)
def test_a_cache_that_others_may_have_written_is_not_used(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], spoil
):
    """Oracle: the rule that code is run only from where this user alone may write, link by link."""
    cache = home / ".cache" / "flax_punkvae"
    cache.parent.mkdir()
    named = spoil(monkeypatch, cache)
    for variable in ("", "JAX_COMPILATION_CACHE_DIR"):
        if variable:
            monkeypatch.setenv(variable, str(cache))
        with pytest.raises(UserError, match=f"^{variable or '--compilation-cache'}: .*{named}") as raised:
            backend.prepare("auto" if variable else str(cache))
        assert "\n" not in str(raised.value)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    jax.config.update("jax_compilation_cache_dir", None)
    backend.prepare("auto")
    assert setting("jax_compilation_cache_dir") is None
    message = capsys.readouterr().err
    assert message.startswith("continuing without a compilation cache: ") and message.count("\n") == 1


def test_a_named_cache_is_made_and_off_is_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    backend.prepare("a/b")
    assert mode(tmp_path / "a" / "b") == 0o700
    assert setting("jax_compilation_cache_dir") == str(tmp_path / "a" / "b")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "c"))
    backend.prepare("auto")
    assert mode(tmp_path / "c") == 0o700
    backend.prepare("off")
    assert not setting("jax_enable_compilation_cache")
    with pytest.raises(UserError, match="--compilation-cache is empty"):
        backend.prepare("")


def fails(*_: object) -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize("variables", [{}, {"HOME": "."}, {"HOME": ".", "XDG_CACHE_HOME": "relative"}])
def test_without_a_home_there_is_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: dict[str, str]
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if not variables:
        monkeypatch.setattr(Path, "home", fails)
    before = setting("jax_compilation_cache_dir")
    backend.prepare("auto")
    assert setting("jax_compilation_cache_dir") == before
    assert capsys.readouterr().err.startswith("continuing without a compilation cache: no home directory")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unable to initialize\nbackend 'cuda'")])
@pytest.mark.parametrize("device", ["auto", "tpu"])
def test_a_backend_that_does_not_start_is_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception, device):
    """What jax raises: the first where a known platform is not there, the second for the others."""

    def default_backend() -> str:
        raise error

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "default_backend", default_backend)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    with pytest.raises(
        UserError, match=r"^JAX_PLATFORMS=cuda: no backend" if device == "auto" else "^--device: "
    ) as raised:
        backend.prepare("off", device)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "platform", "precise"),
    [("gpu", "cuda", True), ("tpu", "tpu", True), ("cpu", "cpu", False), ("METAL", "METAL", False)],
)
def test_every_product_of_float32_is_exact_on_gpus_and_tpus(
    monkeypatch: pytest.MonkeyPatch, small: Config, name: str, platform: str, precise: bool
):
    """Oracle: the lowering of a training step, in which each product and convolution states its precision."""
    state = train_state.create_state(small, jax.random.key(0))
    monkeypatch.setattr(jax, "default_backend", lambda: name)
    # Whatever a shell profile says.
    jax.config.update("jax_default_matmul_precision", "bfloat16")
    with jax.threefry_partitionable(False):
        backend.prepare("off")
        traced = steps.train_step.trace(state, jnp.zeros((8, 128, 128, 3)), jax.random.key(1))
        text = traced.lower(lowering_platforms=(platform,)).as_text()
    products = [
        line for line in text.splitlines() if "stablehlo.dot_general" in line or "stablehlo.convolution" in line
    ]
    assert len(products) > 10
    assert {
        "precision = [HIGHEST, HIGHEST]" in line or "HIGHEST>, #stablehlo<precision HIGHEST" in line
        for line in products
    } == {precise}


def test_a_home_that_is_not_utf8_costs_the_cache_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caf\udce9"))
    backend.prepare("auto")
    message = capsys.readouterr().err
    assert message.startswith("continuing without a compilation cache: ") and "is not UTF-8" in message
    assert message.isascii() and list(tmp_path.iterdir()) == []
