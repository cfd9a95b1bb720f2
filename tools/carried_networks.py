"""Make the networks that the product carries of the files that MediaPipe ships.

A development tool: `domains/picture/backends/carried` holds what it wrote. What it reads are
the .tflite files of two npm packages under the Apache License 2.0; the scheme below says how
each of their operators is written down.

    npm pack @mediapipe/face_detection@0.4.1657300184
    npm pack @mediapipe/selfie_segmentation@0.1.1675465747
    pip install --no-deps ai-edge-litert==2.3.0 backports.strenum
    python -m tools.carried_networks face_detection.tgz selfie_segmentation.tgz

With `--references FOLDER` it also has TensorFlow Lite's own runtime compute what each network
gives for a fixed input, which the tests compare with.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from domains.picture.backends.carried.figure import figure

_FOLDER = Path("domains/picture/backends/carried")
_FILES = {
    "face_detection_full_range.tflite": "faces",
    "selfie_segmentation.tflite": "people",
}
_SCHEMA = "ai_edge_litert.schema_py_generated"
_SAME = 0
_ACTIVATIONS = {0: None, 1: "relu"}
# What MediaPipe adds to TensorFlow Lite: a transposed convolution with a bias.
_UPCONV = "Convolution2DTransposeBias"
_PLAIN = {
    "ADD": "add",
    "MUL": "multiply",
    "RELU": "relu",
    "HARD_SWISH": "hard_swish",
    "LOGISTIC": "sigmoid",
}


class _Graph:
    """A .tflite file's only graph, operator by operator as the runner has them."""

    def __init__(self, data: bytes) -> None:
        self.tflite: Any = importlib.import_module(_SCHEMA)
        self.model = self.tflite.Model.GetRootAs(data, 0)
        self.graph = self.model.Subgraphs(0)
        self.names = {
            value: name
            for name, value in vars(self.tflite.BuiltinOperator).items()
            if isinstance(value, int)
        }
        self.weights: dict[str, np.ndarray[Any, Any]] = {}
        self.steps: list[dict[str, Any]] = []
        self.known: dict[int, np.ndarray[Any, Any]] = {}

    def shape(self, at: int) -> tuple[int, ...]:
        return tuple(int(edge) for edge in self.graph.Tensors(at).ShapeAsNumpy())

    def constant(self, at: int) -> np.ndarray[Any, Any]:
        """The numbers of a tensor that the file holds."""
        if at in self.known:
            return self.known[at]
        tensor = self.graph.Tensors(at)
        kinds = {
            self.tflite.TensorType.FLOAT16: np.float16,
            self.tflite.TensorType.FLOAT32: np.float32,
            self.tflite.TensorType.INT32: np.int32,
        }
        stored = self.model.Buffers(tensor.Buffer()).DataAsNumpy()
        return np.frombuffer(stored.tobytes(), kinds[tensor.Type()]).reshape(self.shape(at))

    def convert(self) -> None:
        for at in range(self.graph.OperatorsLength()):
            operator = self.graph.Operators(at)
            code = self.model.OperatorCodes(operator.OpcodeIndex())
            kind = self.names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            if kind == "CUSTOM":
                kind = code.CustomCode().decode()
            taken = [operator.Inputs(each) for each in range(operator.InputsLength())]
            self._convert(kind, operator.BuiltinOptions(), taken, operator.Outputs(0))

    def _convert(self, kind: str, table: Any, taken: list[int], given: int) -> None:
        if kind == "DEQUANTIZE":
            self.known[given] = self.constant(taken[0])
        elif kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            self._convolution(kind, table, taken, given)
        elif kind == _UPCONV:
            # Stored [given, height, width, taken]; torch wants [taken, given, height, width].
            weight = self.constant(taken[1]).transpose(3, 0, 1, 2)
            self._weigh(given, weight, self.constant(taken[2]))
            self._step("upconv", taken[:1], given, stride=2)
        elif kind in _PLAIN:
            self._plain(_PLAIN[kind], table, taken, given)
        elif kind == "PAD":
            (*_, channels) = self.constant(taken[1]).tolist()
            assert not np.any(self.constant(taken[1])[:-1])
            assert channels[0] == 0
            self._step("more_channels", taken[:1], given, count=channels[1])
        elif kind == "MAX_POOL_2D":
            options = self._options("Pool2DOptions", table)
            assert (options.FilterHeight(), options.StrideH()) == (2, 2)
            self._step("max_pool", taken, given)
        elif kind == "AVERAGE_POOL_2D":
            assert self.shape(given)[1:3] == (1, 1)
            self._step("mean", taken, given)
        elif kind == "RESIZE_BILINEAR":
            options = self._options("ResizeBilinearOptions", table)
            assert options.HalfPixelCenters()
            assert not options.AlignCorners()
            self._step("resize", taken[:1], given, size=self.shape(given)[1:3])
        elif kind == "RESHAPE":
            self._step("rows", taken[:1], given, width=self.shape(given)[2])
        elif kind == "CONCATENATION":
            self._step("join", taken, given)
        else:
            raise ValueError(f"an operator that no carried network has: {kind}")

    def _convolution(self, kind: str, table: Any, taken: list[int], given: int) -> None:
        deep = kind == "DEPTHWISE_CONV_2D"
        options = self._options("DepthwiseConv2DOptions" if deep else "Conv2DOptions", table)
        assert options.DilationHFactor() == options.DilationWFactor() == 1
        weight = self.constant(taken[1])
        # [1, height, width, channels] and [given, height, width, taken], to torch's order.
        weight = weight.transpose(3, 0, 1, 2) if deep else weight.transpose(0, 3, 1, 2)
        self._weigh(given, weight, self.constant(taken[2]))
        stride = options.StrideH()
        assert stride == options.StrideW()
        padding = [0, 0, 0, 0]
        if options.Padding() == _SAME:
            padding = [
                edge
                for axis in (2, 1)  # torch pads the last axis first
                for edge in _same(
                    self.shape(taken[0])[axis],
                    self.shape(given)[axis],
                    weight.shape[axis + 1],
                    stride,
                )
            ]
        groups = len(weight) if deep else 1
        self._step(
            "conv",
            taken[:1],
            given,
            stride=stride,
            padding=padding,
            groups=groups,
            bent=_ACTIVATIONS[options.FusedActivationFunction()],
        )

    def _plain(self, kind: str, table: Any, taken: list[int], given: int) -> None:
        bent = None
        if kind in ("add", "multiply"):
            options = self._options("AddOptions" if kind == "add" else "MulOptions", table)
            bent = _ACTIVATIONS[options.FusedActivationFunction()]
        self._step(kind, taken, given, bent=bent)

    def _options(self, name: str, table: Any) -> Any:
        options = getattr(self.tflite, name)()
        options.Init(table.Bytes, table.Pos)
        return options

    def _weigh(self, given: int, weight: Any, bias: Any) -> None:
        for name, numbers in (("weight", weight), ("bias", bias)):
            # What was stored in float16 stays so; nothing is lost.
            self.weights[f"{given}.{name}"] = np.ascontiguousarray(numbers)

    def _step(self, kind: str, taken: list[int], given: int, **options: Any) -> None:
        said = {name: value for name, value in options.items() if value is not None}
        self.steps.append({"do": kind, "of": taken, "is": given, **said})


def _same(taken: int, given: int, kernel: int, stride: int) -> tuple[int, int]:
    """How TensorFlow pads an axis so that its length is divided by the stride alone."""
    lacking = max((given - 1) * stride + kernel - taken, 0)
    return lacking // 2, lacking - lacking // 2


def convert(data: bytes, target: Path) -> None:
    """Write a network down as safetensors, with its steps in the metadata."""
    graph = _Graph(data)
    graph.convert()
    inner = graph.graph
    described = {
        "edge": graph.shape(inner.Inputs(0))[1],
        "taken": inner.Inputs(0),
        "given": [inner.Outputs(at) for at in range(inner.OutputsLength())],
        "steps": graph.steps,
    }
    save_file(graph.weights, target, {"network": json.dumps(described, separators=(",", ":"))})
    print(f"{target}: {len(graph.steps)} steps, {target.stat().st_size} bytes")


def reference_input(edge: int) -> np.ndarray[Any, Any]:
    """A fixed input, float32 `[edge, edge, 3]`, from 0 to 1."""
    return figure(edge) / np.float32(255)


def thinned(numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Every 16th row of a list, every 8th pixel of a picture: `[rows, columns]` or
    `[height, width, channels]`."""
    kept = numbers[::16] if numbers.ndim == 2 else numbers[::8, ::8]
    return np.ascontiguousarray(kept)


def _reference(data: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """What TensorFlow Lite gives for `reference_input`, thinned, by the outputs' order."""
    runtime: Any = importlib.import_module("ai_edge_litert.interpreter")
    interpreter = runtime.Interpreter(model_content=_without_custom(data), num_threads=1)
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    interpreter.set_tensor(taken["index"], reference_input(int(taken["shape"][1]))[None])
    interpreter.invoke()
    details = interpreter.get_output_details()
    return {
        str(at): thinned(interpreter.get_tensor(one["index"])[0])
        for at, one in enumerate(details)
    }


def _without_custom(data: bytes) -> bytes:
    """The same network with MediaPipe's operator as the built-in one that does the same."""
    tflite: Any = importlib.import_module(_SCHEMA)
    flatbuffers: Any = importlib.import_module("flatbuffers")
    model = tflite.ModelT.InitFromObj(tflite.Model.GetRootAs(data, 0))
    codes = [code.customCode for code in model.operatorCodes]
    if _UPCONV.encode() not in codes:
        return data
    at = codes.index(_UPCONV.encode())
    code = model.operatorCodes[at]
    code.customCode, code.version = None, 3
    code.builtinCode = code.deprecatedBuiltinCode = tflite.BuiltinOperator.TRANSPOSE_CONV
    (graph,) = model.subgraphs
    (operator,) = (one for one in graph.operators if one.opcodeIndex == at)
    size = tflite.TensorT()
    size.shape, size.type, size.name = [4], tflite.TensorType.INT32, b"size"
    held = tflite.BufferT()
    held.data = np.array(graph.tensors[operator.outputs[0]].shape, np.int32).view(np.uint8)
    model.buffers.append(held)
    size.buffer = len(model.buffers) - 1
    graph.tensors.append(size)
    taken, weight, bias = operator.inputs
    operator.inputs = [len(graph.tensors) - 1, weight, taken, bias]
    options = tflite.TransposeConvOptionsT()
    options.padding, options.strideH, options.strideW = _SAME, 2, 2
    operator.builtinOptionsType = tflite.BuiltinOptions.TransposeConvOptions
    operator.builtinOptions, operator.customOptions = options, None
    builder = flatbuffers.Builder(len(data))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def main() -> None:
    """Convert what the packages hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("packages", nargs="+", type=Path, help="npm packages (.tgz)")
    parser.add_argument("--references", type=Path, help="folder for the runtime's outputs")
    arguments = parser.parse_args()
    for package in arguments.packages:
        with tarfile.open(package) as members:
            for member in members:
                name = _FILES.get(Path(member.name).name)
                stream = members.extractfile(member) if name else None
                if stream is None:
                    continue
                data = stream.read()
                convert(data, _FOLDER / f"{name}.safetensors")
                if arguments.references:
                    save_file(_reference(data), arguments.references / f"{name}.safetensors")


if __name__ == "__main__":
    main()
