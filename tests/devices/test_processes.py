"""What several processes tell each other, and which of their errors mean what."""

import json

import jax
import pytest

from flax_punkvae.devices import processes
from flax_punkvae.errors import UserError, explain_out_of_memory, is_out_of_memory, run_program

# As jax 0.5.0 and 0.10.2 and NumPy said them on CPUs, and XLA says them on GPUs.
MEMORY = [
    jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4398046511104 bytes."),
    jax.errors.JaxRuntimeError(
        "FAILED_PRECONDITION: Buffer Definition Event: Error preparing computation: %sOut of memory allocating 9 bytes."
    ),
    jax.errors.JaxRuntimeError("INTERNAL: Failed to allocate: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
    jax.errors.JaxRuntimeError("INTERNAL: CUBLAS_STATUS_ALLOC_FAILED"),
    MemoryError("Unable to allocate 2.00 PiB for an array"),
    MemoryError(),
]
LOSSES = [
    jax.errors.JaxRuntimeError("UNAVAILABLE: Failed to send RPC to coordination service."),
    jax.errors.JaxRuntimeError("UNKNOWN: Gloo AllGather failed: Read error: Connection reset by peer"),
    ValueError("Gloo context initialization failed: Connect timeout"),
    jax.errors.JaxRuntimeError("INTERNAL: NCCL operation ncclAllReduce failed: remote process exited"),
]
OTHERS = [
    jax.errors.JaxRuntimeError("INVALID_ARGUMENT: Executable expected 3 arguments"),
    jax.errors.JaxRuntimeError("UNIMPLEMENTED: no such op"),
    RuntimeError("Could not determine home directory."),
    ValueError("out of memory of this test"),
]


@pytest.mark.parametrize("error", [*MEMORY, *LOSSES, *OTHERS], ids=lambda error: str(error)[:40])
def test_out_of_memory_a_lost_process_and_anything_else_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, error: Exception
):
    assert is_out_of_memory(error) == (error in MEMORY)
    assert not processes.is_loss(error)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert processes.is_loss(error) == (error in LOSSES)


@pytest.mark.parametrize("error", MEMORY, ids=lambda error: str(error)[:40])
def test_out_of_memory_is_one_line_with_what_to_do(error: Exception):
    with (
        pytest.raises(UserError, match=r"^out of memory \(.+\): choose a smaller batch$") as raised,
        explain_out_of_memory("choose a smaller batch"),
    ):
        raise error
    assert "\n" not in str(raised.value)


def test_a_program_out_of_memory_exits_with_2_and_other_errors_stay(capsys: pytest.CaptureFixture[str]):
    def fail(_arguments) -> int:
        jax.block_until_ready(jax.numpy.zeros(2**44, jax.numpy.float32))
        return 0

    with pytest.raises(SystemExit) as stopped:
        run_program(fail)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: out of memory (")
    for error in OTHERS:
        with pytest.raises(type(error)) as raised, explain_out_of_memory("never said"):
            raise error
        assert raised.value is error


def test_what_differs_is_named_with_two_of_its_values():
    same = {"a": 1, "b": [4, 8], "c": None}
    assert processes.disagreement([same, same, same]) == ""
    assert processes.disagreement([same, same, {**same, "a": 2.5}]) == "a (1 in process 0, 2.5 in process 2)"
    message = processes.disagreement([same, {**same, "b": [4], "c": "x"}])
    assert message == "b ([4, 8] in process 0, [4] in process 1), c (none in process 0, x in process 1)"
    assert processes.disagreement([{}, {"new": None}]) == "new (none in process 0, none in process 1)"
    many = processes.disagreement([{str(i): i for i in range(20)}, {str(i): "x" * 1000 for i in range(20)}])
    assert many.endswith(" and 12 more") and len(many) < 2000


def test_a_deciding_fact_lets_others_differ():
    here, there = {"source": "a", "sha": 1}, {"source": "b", "sha": 1}
    assert processes.disagreement([here, there], "sha") == ""
    message = processes.disagreement([here, {**there, "sha": 2}], "sha")
    assert message == "source (a in process 0, b in process 1), sha (1 in process 0, 2 in process 1)"


def test_all_refuse_what_differs_with_the_same_line(monkeypatch: pytest.MonkeyPatch):
    """Oracle: the texts that would be gathered, which hold names in any script and bytes that are no text."""
    facts = {"--run-dir": "läufe/\udcff", "seed": 0}
    processes.agree(facts)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "_gathered_texts", lambda text: [text, text])
    processes.agree(facts)
    monkeypatch.setattr(processes, "_gathered_texts", lambda text: [text, json.dumps({**facts, "seed": 1})])
    with pytest.raises(
        processes.AgreedError, match=r"differ in seed \(0 in process 0, 1 in process 1\): .*--processes 1"
    ):
        processes.agree(facts)
    with pytest.raises(processes.AgreedError, match=r": share the disk$"):
        processes.agree(facts, advice="share the disk")


@pytest.mark.parametrize("index", [None, 0])
def test_one_process_alone_joins_nobody_even_in_a_slurm_step(monkeypatch: pytest.MonkeyPatch, index: int | None):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_: pytest.fail("it joined"))
    with processes.joined(None, 1, index):
        assert processes.is_first()
