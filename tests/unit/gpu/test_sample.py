"""The program that has GPUs compute, against a library that plays the driver's."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.loading import loaded

PROGRAM = Path(__file__).resolve().parents[3] / "roles" / "gpu_health" / "files" / "gpu_sample.py"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    return loaded(PROGRAM, "gpu_sample")


class Library:
    """Two GPUs: memory is Python's, the kernel is an addition. `fails`: call → error code; `off`: added to each sum."""

    def __init__(self, count: int = 2, off: float = 0, **fails: int) -> None:
        self.count, self.off, self.fails = count, off, fails
        self.memory: dict[int, Any] = {}
        self.called: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call(*words: Any) -> int:
            self.called.append(name)
            if code := self.fails.get(name):
                return code
            own = getattr(self, f"do_{name}", None)
            if own is not None:
                own(*words)
            return 0

        if name.startswith("do_"):
            raise AttributeError(name)
        return call

    def do_cuDeviceGetCount(self, found: Any) -> None:  # noqa: N802 - the library's own names
        found._obj.value = self.count

    def do_cuMemAlloc_v2(self, place: Any, size: Any) -> None:  # noqa: N802
        place._obj.value = len(self.memory) + 1
        self.memory[place._obj.value] = bytes(size.value)

    def do_cuMemcpyHtoD_v2(self, place: Any, vector: Any, size: Any) -> None:  # noqa: N802
        self.memory[place.value] = ctypes.string_at(vector, size.value)

    def do_cuLaunchKernel(self, *words: Any) -> None:  # noqa: N802
        assert words[1] * words[4] >= len(self.memory[1]) // 4, "every sum has a thread"
        left, right, out = (ctypes.cast(word, ctypes.POINTER(ctypes.c_uint64))[0] for word in words[9][:3])
        length = ctypes.cast(words[9][3], ctypes.POINTER(ctypes.c_uint32))[0]
        numbers = ctypes.c_float * length
        one, other = (numbers.from_buffer_copy(self.memory[place]) for place in (left, right))
        sums = [a + b + self.off for a, b in zip(one, other, strict=True)]
        self.memory[out] = bytes(numbers(*sums))

    def do_cuMemcpyDtoH_v2(self, vector: Any, place: Any, size: Any) -> None:  # noqa: N802
        ctypes.memmove(vector, self.memory[place.value], size.value)

    def do_cuMemFree_v2(self, place: Any) -> None:  # noqa: N802
        del self.memory[place.value]


def test_all_gpus_are_right_and_nothing_is_left(program: ModuleType) -> None:
    library = Library()
    assert program.sample(library) == {"count": 2, "bad": [], "trouble": ""}
    assert not library.memory
    assert library.called.count("cuDevicePrimaryCtxRelease_v2") == 2


@pytest.mark.parametrize(
    ("library", "says"),
    [
        (Library(off=1), "65536 of 65536 sums are wrong"),
        (Library(cuCtxSynchronize=719), "cuCtxSynchronize: error 719"),
        (Library(cuModuleLoadData=218), "cuModuleLoadData: error 218"),
        (Library(cuDevicePrimaryCtxRetain=2), "cuDevicePrimaryCtxRetain: error 2"),
    ],
)
def test_what_goes_wrong_is_named_for_each_gpu(program: ModuleType, library: Library, says: str) -> None:
    told = program.sample(library)
    assert told["bad"] == [f"GPU 0: {says}", f"GPU 1: {says}"]
    assert not library.memory


def test_no_gpu_is_no_trouble_and_no_driver_is(program: ModuleType) -> None:
    assert program.sample(Library(cuInit=100)) == {"count": 0, "bad": [], "trouble": ""}
    assert program.sample(Library(cuInit=999))["trouble"] == "cuInit: error 999"


def test_a_machine_without_the_library_says_so() -> None:
    done = subprocess.run([sys.executable, str(PROGRAM)], capture_output=True, text=True, check=False)
    if (told := json.loads(done.stdout))["count"]:
        pytest.skip("this machine has a GPU")
    assert done.returncode == int(bool(told["trouble"]))
