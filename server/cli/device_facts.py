"""What a device can do, for people."""

from __future__ import annotations

from deviceops.v1 import common_pb2, device_pb2
from server.cli.output import details, table
from server.cli.wording import byte_figure, enum_word, moment


def show(found: device_pb2.GetDeviceCapabilitiesResponse) -> None:
    """The data types as a table, the rest below it, each with its unit."""
    table(
        ("data type", "works", "greatest error", "matmul"),
        (
            (
                enum_word(common_pb2.TensorDataType, each.data_type, "TENSOR_DATA_TYPE_"),
                "yes" if each.works else "no",
                f"{each.max_relative_error:.1e}",
                f"{each.matmul_tflops:.3g} TFLOP/s" if each.works else "",
            )
            for each in found.data_types
        ),
    )
    details(
        (
            ("device", found.device_id),
            ("largest allocation", _sourced(found.largest_allocation)),
            ("attention", _attention(found) or "none works"),
            ("float64", _yes(found.has_float64)),
            ("host to device", f"{found.host_to_device_gbps:.2f} GB/s"),
            ("device to host", f"{found.device_to_host_gbps:.2f} GB/s"),
            ("pinned memory", _yes(found.has_pinned_memory)),
            ("compilation", _yes(found.has_compilation)),
            ("measured", moment(found.measure_time)),
            ("with", ", ".join(f"{k} {v}" for k, v in sorted(found.software_versions.items()))),
            *(("problem", problem) for problem in found.problems),
        )
    )


def _attention(found: device_pb2.GetDeviceCapabilitiesResponse) -> str:
    return ", ".join(
        enum_word(device_pb2.AttentionBackend, backend, "ATTENTION_BACKEND_")
        for backend in found.attention_backends
    )


def _sourced(figure: common_pb2.ByteFigure) -> str:
    return f"{byte_figure(figure)} ({figure.source})" if figure.source else byte_figure(figure)


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"
