"""The notebook: kept without outputs, and every cell runs."""

import json
import subprocess
import sys
from pathlib import Path

NOTEBOOK = Path(__file__).parents[2] / "experiments" / "tour.ipynb"

# In a process of its own: Jupyter's libraries warn of things that are not ours. With fewer images and epochs than the
# first cell asks for, and a smaller model than the second: compiling and training would take most of the time.
EXECUTE = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], 4)
code = [cell for cell in notebook.cells if cell.cell_type == "code"]
for cell, found, fewer in (
    (code[0], "COUNT = 240", "COUNT = 80"),
    (code[0], "EPOCHS = 3", "EPOCHS = 1"),
    (code[1], '"8", "16", "32", "64", "--model.decoder-widths", "32", "16", "8"', '"4", "--model.decoder-widths"'),
    (code[1], '"--train.batch-size", "16"', '"--train.batch-size", "13"'),
):
    assert found in cell.source
    cell.source = cell.source.replace(found, fewer)
NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": sys.argv[2]}}).execute()
nbformat.write(notebook, sys.argv[3])
"""


def test_it_is_kept_without_outputs():
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells and all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


def test_it_runs_from_end_to_end(tmp_path: Path):
    executed = tmp_path / "executed.ipynb"
    command = [sys.executable, "-c", EXECUTE, str(NOTEBOOK), str(tmp_path), str(executed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    cells = [cell for cell in json.loads(executed.read_text())["cells"] if cell["cell_type"] == "code"]
    pictures = [output for cell in cells for output in cell["outputs"] if "image/png" in output.get("data", {})]
    assert len(pictures) == 4
    assert (tmp_path / "runs" / "tour" / "metrics.jsonl").exists()
