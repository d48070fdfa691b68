"""The house's order: a module imports only from floors below its own, and nothing imports a program."""

import ast
from pathlib import Path

import flax_punkvae

PACKAGE = Path(flax_punkvae.__file__).parent
FLOORS = (
    {"console"},
    {"errors"},
    {"config", "images", "ops", "losses", "priors"},
    {"data", "networks", "metrics", "parallel", "processes", "yardsticks", "sums", "signals", "opening"},
    {"models"},
    {"train_state", "latents", "features", "fidelity"},
    {"training"},
    {"checkpoints", "export", "run_directory", "backend"},
    {"reporting"},
    {"loop"},
    {"trained"},
    {"evaluation", "plots", "editing"},
    {"contenders"},
)
TAKES_ARRAYS_ONLY = {"models", "networks", "priors", "ops", "losses", "metrics", "parallel", "yardsticks"}


def rooms(path: Path) -> set[str]:
    """The rooms of the package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "flax_punkvae":
            parts = node.module.split(".")[1:]
            found |= {parts[0]} if parts else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {parts[1] for parts in names if parts[0] == "flax_punkvae" and len(parts) > 1}
    return found - {"__version__"}


def room_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def test_imports_run_upwards_only():
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    for path in PACKAGE.rglob("*.py"):
        room = room_of(path)
        if room in ("__init__", "experiments"):
            continue
        for imported in rooms(path) - {room}:
            assert floor[imported] < floor[room], f"{path} imports {imported}"


def test_nothing_imports_a_program():
    for path in PACKAGE.rglob("*.py"):
        assert "experiments" not in rooms(path), path


def test_no_test_file_imports_another():
    for path in Path(__file__).parent.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = node.module if isinstance(node, ast.ImportFrom) else None
            assert not (named or "").startswith("test_"), path


def test_the_mathematics_never_sees_the_config():
    for name in TAKES_ARRAYS_ONLY:
        path = PACKAGE / f"{name}.py"
        if path.exists():
            assert "config" not in rooms(path), path


def test_the_reader_of_imports_sees_every_form(tmp_path: Path):
    path = tmp_path / "example.py"
    path.write_text(
        "import flax_punkvae.ops\nfrom flax_punkvae import losses, images as im\n"
        "from flax_punkvae.data.hub import load\n"
        "def late():\n    from flax_punkvae.config import Config\n"
    )
    assert rooms(path) == {"ops", "losses", "images", "data", "config"}
