"""The house's order: a module imports only from floors below its own, and nothing imports a program."""

import ast
from pathlib import Path

import flax_punkvae

PACKAGE = Path(flax_punkvae.__file__).parent
# A wing, or a module beside them, may import from the rows above its own. `opening` are flags, hence beside config.
FLOORS = (
    {"console", "colours", "resampling"},
    {"errors"},
    {"config", "images", "opening", "flags"},
    {"presets", "transparency"},
    {"data", "model", "devices", "measures"},
    {"training"},
    {"trained"},
    {"publishing", "page"},
    {"experiments"},
)
# Pure functions on arrays.
PURE = {"model", "measures"}


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


def wing_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_imports_run_upwards_only():
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    for path in PACKAGE.rglob("*.py"):
        wing = wing_of(path)
        for imported in rooms(path) - {wing}:
            assert wing == "__init__" or floor[imported] < floor[wing], f"{path} imports {imported}"


def test_every_wing_says_what_it_is_for():
    for path in PACKAGE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_no_program_imports_another():
    for path in (PACKAGE / "experiments").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            if module.startswith("flax_punkvae.experiments"):
                assert module.startswith("flax_punkvae.experiments.baselines"), path


def test_no_test_file_imports_another():
    for path in Path(__file__).parent.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = node.module if isinstance(node, ast.ImportFrom) else None
            assert not (named or "").startswith("test_"), path


def test_the_mathematics_never_sees_a_config_or_a_data_set():
    for wing in PURE:
        for path in (PACKAGE / wing).glob("*.py"):
            assert rooms(path) <= {wing, *PURE, "errors", "images", "transparency"}, path


def test_the_reader_of_imports_sees_every_form(tmp_path: Path):
    path = tmp_path / "example.py"
    path.write_text(
        "import flax_punkvae.model.ops\nfrom flax_punkvae import losses, images as im\n"
        "from flax_punkvae.data.hub import load\n"
        "def late():\n    from flax_punkvae.config import Config\n"
    )
    assert rooms(path) == {"model", "losses", "images", "data", "config"}
