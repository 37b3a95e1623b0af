"""Cross-entropy and OHEM against the original's values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from openseg_jax import losses
from openseg_jax.errors import InputError
from openseg_jax.losses.cross_entropy import cross_entropy, resize_labels
from openseg_jax.losses.ohem import kth_smallest, ohem
from tests.conftest import golden

Z = golden("losses.npz")
META = golden("losses.json")


def logits(name):
    return jnp.asarray(Z[f"in/{name}"].transpose(0, 2, 3, 1))


def labels(name):
    return jnp.asarray(Z[f"in/{name}"].astype(np.int32))


def options(case):
    params = META[case]["params"] or {}
    result = {"ignore": params.get("ce_ignore_index", -1), "class_weights": params.get("ce_weight")}
    if params.get("ce_reduction") == "sum":
        result["reduction"] = "sum"
    if "ohem_thresh" in params:
        result |= {"threshold": params["ohem_thresh"], "min_kept": params["ohem_minkeep"]}
    return result


def check(case, function, *inputs, grad_keys=("grad",), tolerance=2e-6):
    """Value and gradients; where the original is NaN we want 0, with the same zero gradient."""
    value, gradients = jax.value_and_grad(function, argnums=tuple(range(len(inputs))))(*inputs)
    expected = float(Z[f"{case}/loss"])
    np.testing.assert_allclose(value, 0.0 if np.isnan(expected) else expected, rtol=2e-6, atol=1e-12, err_msg=case)
    for key, gradient in zip(grad_keys, gradients, strict=True):
        if f"{case}/{key}" in Z:
            wanted = Z[f"{case}/{key}"]
            ours = np.asarray(gradient).transpose(0, 3, 1, 2)
            if wanted.shape != ours.shape:  # stored at every third position
                ours = ours[..., ::3, ::3]
            np.testing.assert_allclose(ours, wanted, atol=tolerance * np.abs(wanted).max() + 3e-12, err_msg=case)


CE_CASES = {
    "fsce_A": "yA", "fsce_A_weight": "yA", "fsce_S": "yS", "fsce_S_weight": "yS", "fsce_S_sum": "yS",
    "fsce_S_mean": "yS", "fsce_S_default_ignore": "yS", "fsce_S_noparams": "yS",
    "fsce_S_label_down": "yHI", "fsce_S_label_up": "yLO",
}  # fmt: skip


@pytest.mark.parametrize("case", CE_CASES)
def test_cross_entropy(case):
    x = logits("xA" if "_A" in case else "xS")
    check(case, lambda x: cross_entropy(x, labels(CE_CASES[case]), **options(case)), x)


def test_cross_entropy_with_another_ignore_label():
    y = jnp.where(labels("yS") == -1, 255, labels("yS"))
    check("fsce_S_ignore255", lambda x: cross_entropy(x, y, **options("fsce_S_ignore255")), logits("xS"))


def test_cross_entropy_of_nothing_is_zero_with_zero_gradient():
    assert np.isnan(Z["fsce_allignored/loss"])
    y = jnp.full_like(labels("yS"), -1)
    check("fsce_allignored", lambda x: cross_entropy(x, y, ignore=-1), logits("xS"))


@pytest.mark.parametrize("pair", sorted({key.split("/")[1] for key in Z if key.startswith("nearest/")}))
def test_labels_are_resized_as_torch_does(pair):
    sizes = [[int(n) for n in size.split("x")] for size in pair.split("_to_")]
    rows = jnp.broadcast_to(jnp.arange(sizes[0][0])[None, :, None], (1, *sizes[0]))
    columns = jnp.broadcast_to(jnp.arange(sizes[0][1])[None, None], (1, *sizes[0]))
    np.testing.assert_array_equal(resize_labels(rows, sizes[1])[0, :, 0], Z[f"nearest/{pair}/row_index"])
    np.testing.assert_array_equal(resize_labels(columns, sizes[1])[0, 0], Z[f"nearest/{pair}/col_index"])


OHEM_CASES = [
    case
    for case in META
    if case.startswith(("ohem_A", "ohem_S", "ohem_C")) and case not in ("ohem_S_2replicas", "ohem_S_ignore255")
]


@pytest.mark.parametrize("case", OHEM_CASES)
def test_ohem(case):
    letter = case.split("_")[1]
    # float32 noise of p - 1 with p close to 1 decides the gradients of the very confident net
    tolerance = 4e-4 if letter == "C" else 2e-6
    y = labels(f"y{letter}")
    check(case, lambda x: ohem(x, y, **options(case)), logits(f"x{letter}"), tolerance=tolerance)


def test_ohem_with_another_ignore_label():
    y = jnp.where(labels("yS") == -1, 255, labels("yS"))
    check("ohem_S_ignore255", lambda x: ohem(x, y, **options("ohem_S_ignore255")), logits("xS"))


@pytest.mark.parametrize(
    ("case", "first"),
    [
        ("ohem_first_ignored_lowprob", -6.0),
        ("ohem_first_ignored_highprob", 25.0),
        ("ohem_first_ignored_lowprob_k3", -6.0),
        ("ohem_allignored_low", -6.0),
        ("ohem_allignored_high", 25.0),
    ],
)
def test_ohem_forces_the_first_pixel(case, first):
    x = logits("xS").at[0, 0, 0, 0].set(first)
    y = jnp.full_like(labels("yS"), -1) if "allignored" in case else labels("y_first_ignored")
    check(case, lambda x: ohem(x, y, **options(case)), x)


@pytest.mark.parametrize("case", ["ohem_ties_thresh_above", "ohem_ties_thresh_below"])
def test_ohem_ties(case):
    with jax.enable_x64(True):  # adding 354 equal float32 numbers rounds all sums the same way, by 4e-6
        x = jnp.zeros(logits("xS").shape, jnp.float64)
        check(case, lambda x: ohem(x, labels("yS"), **options(case)), x)


def test_ohem_refuses_labels_of_another_size():
    with pytest.raises(ValueError, match="on the grid of the logits"):
        ohem(logits("xS"), labels("yA"), threshold=0.7, min_kept=50)


def config(name, case, replicas=1):
    params = META[case]["params"]
    aux, out = META[case]["loss_weights"] or (0.4, 1.0)
    return ConfigDict(
        {
            "name": name,
            "class_weights": params.get("ce_weight") or (),
            "aux_weight": aux,
            "out_weight": out,
            "ohem_threshold": params.get("ohem_thresh", 0.7),
            "ohem_min_kept": params.get("ohem_minkeep", 50),
            "replicas": replicas,
        }
    )


def void_as_255(y):
    return jnp.where(y == -1, 255, y)


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("auxce_S", "aux_ce"), ("auxce_S_weight", "aux_ce"), ("auxce_S_lw", "aux_ce"),
        ("auxohem_S", "aux_ohem"), ("auxohem_S_k", "aux_ohem"),
    ],
)  # fmt: skip
def test_losses_with_auxiliary_output(case, name):
    loss = losses.build(config(name, case))
    y = void_as_255(labels("yS"))
    check(
        case,
        lambda aux, out: loss({"aux": aux, "out": out}, y),
        logits("xS_aux"),
        logits("xS"),
        grad_keys=("grad0", "grad1"),
    )


def test_auxiliary_output_of_another_size():
    loss = losses.build(config("aux_ce", "auxce_S_diffres"))
    y = void_as_255(labels("yHI"))
    rng = np.random.default_rng(0)
    aux = jnp.asarray(rng.standard_normal((2, 7, 9, 7)), jnp.float32)
    expected = cross_entropy(logits("xS"), y, class_weights=options("auxce_S_diffres")["class_weights"])
    expected += 0.4 * cross_entropy(aux, y, class_weights=options("auxce_S_diffres")["class_weights"])
    np.testing.assert_allclose(loss({"aux": aux, "out": logits("xS")}, y), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("case", "name", "like"),
    [("fsce_S_2replicas", "ce", "fsce_S_weight"), ("ohem_S_2replicas", "ohem", "ohem_S_2replicas")],
)
def test_loss_of_replicas_is_the_mean_of_their_losses(case, name, like):
    y = void_as_255(labels("yS"))
    per_gpu = losses.build(config(name, like, replicas=2))
    check(case, lambda x: per_gpu({"out": x}, y), logits("xS"))
    whole = losses.build(config(name, like))
    assert abs(float(whole({"out": logits("xS")}, y)) - float(Z[f"{case}/loss"])) > 1e-3


def test_plain_loss_sums_all_outputs():
    loss = losses.build(config("ce", "fsce_S"))
    check(
        "fsce_list_one_target",
        lambda a, b: loss({"aux": a, "out": b}, void_as_255(labels("yS"))),
        logits("xS"),
        logits("xS_aux"),
        grad_keys=("grad0", "grad1"),
    )


def test_a_loss_that_does_not_fit_the_outputs_says_so():
    with pytest.raises(InputError, match="'ohem' wants the outputs out, this model has aux, out"):
        losses.build(config("ohem", "ohem_S_t0.7_k50"))({"aux": logits("xS"), "out": logits("xS")}, labels("yS"))
    with pytest.raises(InputError, match="unknown loss 'dice'"):
        losses.build(config("dice", "fsce_S"))


def test_kth_smallest_equals_sorting():
    rng = np.random.default_rng(1)
    values = rng.random(500).astype(np.float32).round(2)  # with ties
    mask = rng.random(500) < 0.7
    ordered = np.sort(values[mask])
    for k in (0, 1, 17, 200, len(ordered) - 1, len(ordered), 10_000):
        expected = ordered[min(k, len(ordered) - 1)]
        assert kth_smallest(jnp.asarray(values), jnp.asarray(mask), k) == expected
