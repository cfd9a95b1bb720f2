"""Matrix products by cuBLASLt, with the algorithm chosen by trying those that it proposes."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import torch

_COMPUTE_32F, _REAL_32F = 68, 0
_DATA_TYPES = {torch.float16: 2, torch.bfloat16: 14}
_TRANSPOSED = 1
_TRANS_A, _EPILOGUE, _BIAS_POINTER, _BIAS_TYPE = 3, 7, 8, 26
_WITH_BIAS = 4
_MOST_WORKSPACE = 1
WORKSPACE_BYTES = 64 << 20


class _Algorithm(ctypes.Structure):
    _fields_ = [("data", ctypes.c_uint64 * 8)]


class _Proposal(ctypes.Structure):
    _fields_ = [
        ("algorithm", _Algorithm),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    ]


@lru_cache
def _library() -> tuple[Any, ctypes.c_void_p]:
    major = str(torch.version.cuda).partition(".")[0]
    library = ctypes.CDLL(f"libcublasLt.so.{major}")
    handle = ctypes.c_void_p()
    _check(library.cublasLtCreate(ctypes.byref(handle)))
    return library, handle


def _check(status: int) -> None:
    if status:
        message = f"cuBLASLt says {status}"
        raise RuntimeError(message)


class Product:
    """`rows @ weight.T + bias` for one shape.

    Args:
        rows: (m, k).
        weight: (n, k).
        bias: (n), or none.
    """

    def __init__(
        self, rows: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> None:
        library, self._handle = _library()
        self._run = library.cublasLtMatmul
        self._propose = library.cublasLtMatmulAlgoGetHeuristic
        m, k = rows.shape
        n = weight.shape[0]
        kind = _DATA_TYPES[rows.dtype]
        self._description = ctypes.c_void_p()
        _check(
            library.cublasLtMatmulDescCreate(
                ctypes.byref(self._description), _COMPUTE_32F, _REAL_32F
            )
        )
        self._library = library
        self._set(_TRANS_A, ctypes.c_int(_TRANSPOSED))
        if bias is not None:
            self._set(_EPILOGUE, ctypes.c_int(_WITH_BIAS))
            self._set(_BIAS_TYPE, ctypes.c_int(kind))
            self._set(_BIAS_POINTER, ctypes.c_void_p(bias.data_ptr()))
        self._layouts = [
            self._layout(kind, *shape) for shape in ((k, n, k), (k, m, k), (n, m, n))
        ]
        self._one, self._zero = ctypes.c_float(1.0), ctypes.c_float(0.0)

    def _set(self, attribute: int, value: Any) -> None:
        _check(
            self._library.cublasLtMatmulDescSetAttribute(
                self._description, attribute, ctypes.byref(value), ctypes.sizeof(value)
            )
        )

    def _layout(self, kind: int, rows: int, columns: int, leading: int) -> ctypes.c_void_p:
        made = ctypes.c_void_p()
        _check(
            self._library.cublasLtMatrixLayoutCreate(
                ctypes.byref(made),
                kind,
                ctypes.c_uint64(rows),
                ctypes.c_uint64(columns),
                ctypes.c_int64(leading),
            )
        )
        return made

    def proposals(self, most: int, workspace: int = WORKSPACE_BYTES) -> list[_Proposal]:
        """Algorithms, those first that cuBLASLt thinks fastest."""
        preference = ctypes.c_void_p()
        _check(self._library.cublasLtMatmulPreferenceCreate(ctypes.byref(preference)))
        size = ctypes.c_uint64(workspace)
        _check(
            self._library.cublasLtMatmulPreferenceSetAttribute(
                preference, _MOST_WORKSPACE, ctypes.byref(size), ctypes.sizeof(size)
            )
        )
        found = (_Proposal * most)()
        count = ctypes.c_int()
        a, b, d = self._layouts
        _check(
            self._propose(
                *(self._handle, self._description, a, b, d, d, preference),
                *(most, found, ctypes.byref(count)),
            )
        )
        return [each for each in found[: count.value] if each.state == 0]

    def __call__(
        self,
        proposal: _Proposal,
        rows: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        out: torch.Tensor,
        workspace: torch.Tensor,
    ) -> None:
        """Compute into `out` (m, n)."""
        if bias is not None:
            self._set(_BIAS_POINTER, ctypes.c_void_p(bias.data_ptr()))
        a, b, d = self._layouts
        _check(
            self._run(
                *(self._handle, self._description),
                ctypes.byref(self._one),
                *(ctypes.c_void_p(weight.data_ptr()), a, ctypes.c_void_p(rows.data_ptr()), b),
                ctypes.byref(self._zero),
                *(ctypes.c_void_p(out.data_ptr()), d, ctypes.c_void_p(out.data_ptr()), d),
                ctypes.byref(proposal.algorithm),
                ctypes.c_void_p(workspace.data_ptr()),
                ctypes.c_size_t(workspace.numel()),
                ctypes.c_void_p(torch.cuda.current_stream().cuda_stream),
            )
        )
