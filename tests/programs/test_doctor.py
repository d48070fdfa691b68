"""The doctor: what it finds wrong, and the report of a machine where nothing is."""

import subprocess
import sys
from pathlib import Path

import pytest

from flax_punkvae.experiments import doctor
from helpers.programs import ended

GOOD = {"jax": "0.10.2", "jaxlib": "0.10.2", "orbax-checkpoint": "0.12.8"}
METAL = {"jax": "0.5.0", "jaxlib": "0.5.0", "orbax-checkpoint": "0.11.20", "jax-metal": "0.1.1"}


@pytest.mark.parametrize(
    ("versions", "system", "machine", "problem", "fix"),
    [
        ({**METAL, "jax": "0.5.1", "jaxlib": "0.5.1"}, "darwin", "arm64", "jax-metal 0.1.1 works with jax", "[metal]"),
        ({**METAL, "jax": "0.4.33", "jaxlib": "0.4.33"}, "darwin", "arm64", "0.4.34 to 0.5.0", "[metal]"),
        ({**METAL, "orbax-checkpoint": "0.11.24"}, "darwin", "arm64", "cannot save", "[metal]"),
        ({**GOOD, "orbax-checkpoint": "0.11.15"}, "linux", "x86_64", "preservation_policy", "pip install"),
        ({**GOOD, "jaxlib": "0.10.3"}, "linux", "x86_64", "jaxlib 0.10.3 is newer than jax", "pip install"),
        ({**GOOD, "jax-mps": "0.11.0"}, "darwin", "arm64", "jax-mps needs jax 0.11", "[mps]"),
        (GOOD, "darwin", "x86_64", "Intel Mac", "arm64 Python"),
    ],
)
def test_each_known_problem_is_named_with_its_fix(
    versions: dict[str, str], system: str, machine: str, problem: str, fix: str
):
    ((named, command),) = doctor.known_problems(versions, system, machine)
    assert problem in named and fix in command


@pytest.mark.parametrize("versions", [GOOD, METAL])
def test_good_sets_have_no_problem(versions: dict[str, str]):
    assert doctor.known_problems(versions, "darwin", "arm64") == []


def test_the_report_of_this_machine(tmp_path: Path):
    done = ended(tmp_path, program=doctor.main)
    assert (done.returncode, done.stderr) == (0, "")
    for part in (
        "flax_punkvae 0.1.0",
        "jaxlib ",
        "backend: cpu",
        "precision of float32 products: default",
        "device 0: ",
        "relative difference of the loss: ",
        "largest relative difference of a gradient: ",
    ):
        assert part in done.stdout
    assert done.stdout.splitlines()[-1] == "no problems found"
    assert list(tmp_path.iterdir()) == []


def test_a_backend_that_is_not_there_fails_loudly(tmp_path: Path):
    command = [sys.executable, "-W", "error", "-m", "flax_punkvae.experiments.doctor", "--device", "cuda"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "error: --device: cuda does not start on this machine (" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_device_that_computes_something_else_is_found(monkeypatch, capsys: pytest.CaptureFixture[str]):
    """The same comparison, with the gradient of one layer turned on the second device it runs on."""
    import jax

    from flax_punkvae.training import steps

    real, calls = steps.train_step, []

    def wrong(state, images, key):
        calls.append(1)
        state, metrics = real(state, images, key)
        if len(calls) == 2:
            adam = state.opt_state[0]
            turned = jax.tree.map(lambda leaf: leaf * 1.02, adam.mu)
            state = state.replace(opt_state=(adam._replace(mu=turned), *state.opt_state[1:]))
        return state, metrics

    monkeypatch.setattr(steps, "train_step", wrong)
    assert doctor.main([]) == 1
    assert "problems found: see above" in capsys.readouterr().out
