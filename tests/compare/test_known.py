"""Each difference of Keras that is known: shown at the versions installed, named where a comparison parts, avoided."""

from pathlib import Path

import numpy as np
import pytest

from multiloss.check import Workers, compare_training
from multiloss.check.models.known import KNOWN, recognised
from multiloss.check.report import Cell

MODELS = Path(__file__).with_name("known_models.py")


@pytest.fixture(scope="module")
def workers():
    with Workers() as kept:
        yield kept


def compared(build, data, workers):
    return compare_training(f"{MODELS}:{build}", f"{MODELS}:{data}", steps=2, workers=workers)


full = pytest.mark.full
# The model, its data, the stage, a backend that is off there, its error, and what is said. One loss, one gradient
# and one step are in the default tier.
PARTS = [
    pytest.param("build_embedding", "data_repeated", "step", "tensorflow", 0.01, "twice as far", marks=full),
    pytest.param("build_embedding", "data_words", "step", "tensorflow", None, "squares", marks=full),
    *(
        pytest.param(f"build_embedding({name!r})", "data_words", "step", "tensorflow", None, "squares", marks=full)
        for name in ("AdamW", "Adamax", "Nadam", "RMSprop", "Adagrad", "Adadelta", "Adafactor", "Ftrl", "Lamb", "Muon")
    ),
    pytest.param("build_clipped_embedding", "data_words", "step", "tensorflow", None, "clips", marks=full),
    pytest.param("build_of_one_name", "data_rows", "deterministic", "torch", None, "names of their own", marks=full),
    ("build_sigmoid", "data_far", "loss", "tensorflow", None, "20 on tensorflow, 15.94"),
    pytest.param("build_softmax", "data_far_classes", "loss", "tensorflow", 20 - 16.118, "logits", marks=full),
    pytest.param("build_sigmoid_of_classes", "data_far_classes", "loss", "tensorflow", 10, "of a softmax", marks=full),
    pytest.param("build_hashes", "data_hashes", "loss", "jax", None, "32 bits", marks=full),
    pytest.param("build_average_pooling", "data_images", "forward", "torch", None, "twice", marks=full),
    pytest.param("build_bicubic", "data_images", "forward", "torch", None, "-0.75", marks=full),
    pytest.param("build_bicubic_upsampling", "data_images", "forward", "torch", None, "-0.75", marks=full),
    pytest.param("build_layer_normalization", "data_images", "runs", "torch", None, "Permute", marks=full),
    pytest.param("build_embedding", "data_unknown_word", "runs", "tensorflow", None, "input_dim", marks=full),
    pytest.param("build_embedding", "data_unknown_word", "runs", "torch", None, "input_dim", marks=full),
    ("build_absolute_error", "data_padded", "gradient", "jax", 0.25, "|x| at 0 is 1"),  # of a quarter of the rows
    pytest.param("build_l1", "data_rows", "gradient", "jax", 0.01, "Penalize", marks=full),
    pytest.param("build_leaky_relu", "data_blank", "gradient", "jax", None, "its slope", marks=full),
    pytest.param("build_unit", "data_blank", "gradient", "tensorflow", np.inf, "1e12", marks=full),
    pytest.param("build_norm", "data_blank", "gradient", "torch", np.inf, "0 on torch, NaN on JAX", marks=full),
    pytest.param("build_norm", "data_padded", "gradient", "jax", np.inf, "if a loss depends on it", marks=full),
    pytest.param("build_std", "data_blank", "gradient", "torch", np.inf, "ops.std", marks=full),
    pytest.param("build_masked_metric", "data_tags", "metrics", "jax", 0.5, "loses the mask", marks=full),
]


@pytest.mark.parametrize(("build", "data", "stage", "backend", "error", "text"), PARTS)
def test_known_difference_is_named(build, data, stage, backend, error, text, workers):
    comparison = compared(build, data, workers)
    cell = comparison.first[backend]
    assert comparison.verdict.startswith("FAILS" if stage == "runs" else "PARTS")
    assert cell.check == stage
    assert "Known: " in cell.detail
    assert text in cell.detail
    # 1e-3: errors are given with three digits.
    assert error is None or cell.error == pytest.approx(error, rel=1e-3)


AGREE = [
    ("build_embedding('SGD')", "data_words"),
    ("build_logits", "data_far"),
    ("build_average_pooling('valid')", "data_images"),
    ("build_bicubic(interpolation='bilinear')", "data_images"),
    ("build_bicubic(antialias=True)", "data_images"),
    ("build_permuted", "data_images"),
    ("build_absolute_error('huber')", "data_padded"),
    ("build_elu", "data_blank"),
    ("build_safe_norm", "data_blank"),
    ("build_masked_metric", "data_weighted_tags"),
]


@pytest.mark.full
@pytest.mark.parametrize(("build", "data"), AGREE)
def test_what_is_advised_agrees(build, data, workers):
    comparison = compared(build, data, workers)
    assert comparison.ok, comparison.text()
    # Weights are one backend's, since a seed does not make them the same.
    assert any("each backend draws others" in note for note in comparison.notes) != (build == "build_logits")


@pytest.mark.full
def test_unknown_id_is_nan_on_jax(workers):
    build, data = f"{MODELS}:build_embedding", f"{MODELS}:data_unknown_word"
    jax = workers.get("jax", None)
    model = jax.ask("describe_model", build=build, data=data, seed=0, size=32, steps=1).result
    given = {"build": build, **{name: model[name] for name in ("weights", "state", "unit")}}
    reply = jax.ask("forward_model", given=given, batch=model["batches"][0], wide=False)
    calls = reply.result["inference"]["calls"]
    rows = next(call.outputs[0] for call in calls if call.kind == "Embedding")
    assert np.isnan(rows[0, 0]).all()
    assert np.isfinite(rows).sum() == rows.size - rows[0, 0].size


def _step(backend, detail, check="step"):
    return Cell(check, backend, "fail", detail, 1.0, 0.1, "embeddings", errors={"embeddings": 10.0})


ADAM = "`words/embeddings` differs after one step of the optimizer `adam` (Adam), though its gradient agrees"


@pytest.mark.parametrize(
    "cell",
    [
        _step("torch", ADAM),
        _step("tensorflow", ADAM.replace("embeddings", "kernel")),
        _step("tensorflow", ADAM.replace("Adam", "MyAdam")),
        _step("tensorflow", ADAM, "gradient"),
        _step("tensorflow", "follows from `forward`"),
    ],
)
def test_what_is_not_known_stays_as_it_is(cell):
    assert recognised([cell]) == (cell,)


def test_only_the_first_failure_of_a_backend_is_explained():
    earlier = Cell("forward", "tensorflow", "fail", "`mean` (Mean, [2] -> [2]) is the first layer that differs")
    assert recognised([_step("tensorflow", ADAM), earlier]) == (_step("tensorflow", ADAM), earlier)
    of_two = recognised([_step("tensorflow", ADAM), _step("jax", ADAM)])
    assert all("Known: " in cell.detail for cell in of_two)  # either may be wrong


def test_every_entry_says_what_to_do_and_is_shown():
    shown = [part.values if hasattr(part, "values") else part for part in PARTS]
    for known in KNOWN:
        assert any(stage in known.stages and text in known.text for _, _, stage, _, _, text in shown), known.text
