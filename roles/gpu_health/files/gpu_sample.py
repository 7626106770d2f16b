#!/usr/bin/python3
# Managed by Rackloom.
"""
Has each GPU of this machine add two vectors, and compares what it gave with what it should have.

    gpu-sample              all GPUs, or those that CUDA_VISIBLE_DEVICES leaves

Prints a line of JSON: {"count": 8, "bad": [], "trouble": ""}. Exit code 0 = all were right, 1 = not. It needs the
driver alone, no CUDA toolkit: the driver compiles the kernel below itself.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

LENGTH = 1 << 16
THREADS = 256
NO_DEVICE = 100
KERNEL = b"""
.version 6.0
.target sm_70
.address_size 64

.visible .entry add(.param .u64 p_a, .param .u64 p_b, .param .u64 p_out, .param .u32 p_n)
{
    .reg .pred %p;
    .reg .f32 %f<4>;
    .reg .b32 %r<6>;
    .reg .b64 %d<8>;

    ld.param.u64 %d1, [p_a];
    ld.param.u64 %d2, [p_b];
    ld.param.u64 %d3, [p_out];
    ld.param.u32 %r1, [p_n];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    setp.ge.u32 %p, %r5, %r1;
    @%p bra done;
    cvta.to.global.u64 %d1, %d1;
    cvta.to.global.u64 %d2, %d2;
    cvta.to.global.u64 %d3, %d3;
    mul.wide.u32 %d4, %r5, 4;
    add.s64 %d5, %d1, %d4;
    add.s64 %d6, %d2, %d4;
    add.s64 %d7, %d3, %d4;
    ld.global.f32 %f1, [%d5];
    ld.global.f32 %f2, [%d6];
    add.f32 %f3, %f1, %f2;
    st.global.f32 [%d7], %f3;
done:
    ret;
}
"""


class CudaError(Exception):
    """The driver refused something; the text says what and why."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(f"{what}: error {code}")
        self.code = code


class Cuda:
    """The driver's own library."""

    def __init__(self, library: Any) -> None:
        self.library = library

    def call(self, name: str, *words: Any) -> None:
        """One call. Raises CudaError."""
        code = getattr(self.library, name)(*words)
        if code:
            raise CudaError(name, code)

    def count(self) -> int:
        """How many GPUs this program is given."""
        found = ctypes.c_int()
        self.call("cuInit", 0)
        self.call("cuDeviceGetCount", ctypes.byref(found))
        return found.value

    def add(self, index: int) -> str:
        """Have one GPU add two vectors; what was wrong, '' where nothing was. Raises CudaError."""
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self.call("cuDeviceGet", ctypes.byref(device), index)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        try:
            self.call("cuCtxSetCurrent", context)
            return self._add(index)
        finally:
            self.library.cuDevicePrimaryCtxRelease_v2(device)

    def _add(self, index: int) -> str:
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), KERNEL)
        self.call("cuModuleGetFunction", ctypes.byref(function), module, b"add")
        vector = ctypes.c_float * LENGTH
        size = ctypes.c_size_t(ctypes.sizeof(vector))
        left = vector(*range(LENGTH))
        right = vector(*(2 * number + index for number in range(LENGTH)))
        places = [ctypes.c_uint64() for _ in range(3)]
        try:
            for place in places:
                self.call("cuMemAlloc_v2", ctypes.byref(place), size)
            self.call("cuMemcpyHtoD_v2", places[0], left, size)
            self.call("cuMemcpyHtoD_v2", places[1], right, size)
            words = [*places, ctypes.c_uint32(LENGTH)]
            pointers = (ctypes.c_void_p * len(words))(
                *(ctypes.cast(ctypes.byref(word), ctypes.c_void_p) for word in words)
            )
            grid = (LENGTH + THREADS - 1) // THREADS
            self.call("cuLaunchKernel", function, grid, 1, 1, THREADS, 1, 1, 0, None, pointers, None)
            self.call("cuCtxSynchronize")
            out = vector()
            self.call("cuMemcpyDtoH_v2", out, places[2], size)
        finally:
            for place in places:
                if place.value:
                    self.library.cuMemFree_v2(place)
            self.library.cuModuleUnload(module)
        return wrong(list(out), index)


def wrong(out: list[float], index: int) -> str:
    """How many sums are not what they should be."""
    bad = sum(1 for number, value in enumerate(out) if value != 3 * number + index)
    return f"{bad} of {len(out)} sums are wrong" if bad else ""


def sample(library: Any) -> dict[str, Any]:
    """All GPUs."""
    cuda = Cuda(library)
    told: dict[str, Any] = {"count": 0, "bad": [], "trouble": ""}
    try:
        told["count"] = cuda.count()
    except CudaError as error:
        told["trouble"] = "" if error.code == NO_DEVICE else str(error)
        return told
    for index in range(told["count"]):
        try:
            said = cuda.add(index)
        except CudaError as error:
            said = str(error)
        if said:
            told["bad"].append(f"GPU {index}: {said}")
    return told


def main() -> int:
    """Print what came of it."""
    try:
        told = sample(ctypes.CDLL("libcuda.so.1"))
    except OSError as error:
        told = {"count": 0, "bad": [], "trouble": f"the driver's library is not there: {error}"}
    print(json.dumps(told))
    return int(bool(told["bad"] or told["trouble"]))


if __name__ == "__main__":
    sys.exit(main())
