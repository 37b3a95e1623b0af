"""Losses against the original's values and gradients."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from openseg_jax import losses
from openseg_jax.config import LossSettings, RmiSettings, schema
from openseg_jax.errors import InputError
from openseg_jax.labels.directions import quantize
from openseg_jax.losses.ce2p import class_boundaries
from openseg_jax.losses.cross_entropy import cross_entropy, resize_labels
from openseg_jax.losses.ohem import kth_smallest, ohem
from openseg_jax.losses.rmi import rmi
from openseg_jax.losses.segfix import segfix
from openseg_jax.losses.upsampled import Upsampled
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


def test_cross_entropy_per_pixel():
    losses_ = cross_entropy(logits("xS"), labels("yS"), ignore=-1, reduction="none")
    assert losses_.shape == (2, 13, 17)
    mean = jnp.sum(losses_) / jnp.sum(labels("yS") >= 0)
    np.testing.assert_allclose(mean, Z["fsce_S/loss"], rtol=2e-6)


@pytest.mark.parametrize(
    ("case", "weights", "second"),
    [
        ("fsce_list_one_target", (1, 1), "yS"),
        ("fsce_list_weights", None, "yS"),
        ("fsce_list_two_targets", (1, 1), "yS_rolled"),
    ],
)
def test_several_outputs(case, weights, second):
    """The original's lists of inputs and targets are sums of cross-entropies here."""
    a, b = weights or (0.3, 1.7)
    inputs = logits("xS"), logits("xS_aux")
    targets = labels("yS"), labels(second)
    check(
        case,
        lambda x, y: a * cross_entropy(x, targets[0], ignore=-1) + b * cross_entropy(y, targets[1], ignore=-1),
        *inputs,
        grad_keys=("grad0", "grad1"),
    )


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


def test_ohem_without_the_first_pixel():
    """The rule of WeightedFSOhemCELoss, which nothing in the original calls."""
    y = labels("yS")
    weighted = options("weighted_ohem_cls") | {"class_weights": options("fsce_S_weight")["class_weights"]}
    check("weighted_ohem_cls", lambda x: ohem(x, y, first_pixel=False, **weighted), logits("xS"))
    nothing = ohem(logits("xS"), jnp.full_like(y, -1), threshold=0.7, min_kept=50, ignore=-1, first_pixel=False)
    assert nothing == 0


def rmi_options(case):
    params = META[case]["params"]
    return {
        "radius": params["rmi_radius"],
        "pool": ("max", "average", "resize", "max")[params["rmi_pool_way"]],
        "pool_size": params["rmi_pool_size"],
        "balance": params["loss_weight_lambda"],
        "complementary": bool(params["lambda_way"]),
        "weight": params["loss_weight"],
    }


# Of rmi_odd the input is not recorded.
RMI_CASES = [case for case in META if case.startswith("rmi_") and f"{case}/loss" in Z and case != "rmi_odd"]


@pytest.mark.parametrize("case", RMI_CASES)
def test_rmi(case):
    x, y = (logits("xA"), labels("yA")) if case == "rmi_A" else (logits("xR"), labels("yR"))
    y = {"rmi_allignored": jnp.full_like(y, -1), "rmi_noignore": jnp.maximum(y, 0)}.get(case, y)
    check(case, jax.jit(lambda x: rmi(x, y, **rmi_options(case))), x, tolerance=4e-7)


def test_rmi_with_auxiliary_output():
    loss = losses.build(config("aux_rmi", "auxrmi_R"))
    inputs = logits("xR")[..., ::-1], logits("xR")
    targets = {"label": void_as_255(labels("yR"))}
    check("auxrmi_R", lambda a, b: loss({"aux": a, "out": b}, targets), *inputs, grad_keys=("grad0", "grad1"))


def test_rmi_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="RMI wants labels on the grid"):
        rmi(logits("xR"), labels("yS"))
    with pytest.raises(ValueError, match='"average" or "resize", found \'min\''):
        rmi(logits("xR"), labels("yR"), pool="min")


SEGFIX = golden("segfix.json")


@pytest.mark.parametrize(
    ("setting", "tag"),  # of "fullres" the input is not recorded
    [(setting, tag) for setting, tags in SEGFIX.items() for tag in tags if tag not in ("_config", "fullres")],
)
def test_segfix(setting, tag):
    """Values and gradients, where the original is a number; where it is NaN, what is left of it."""
    arrays = golden(f"segfix_{setting}.npz")
    maps = {key: jnp.asarray(arrays[f"in/{key}"]) for key in ("label", "distance", "angle")}
    mask, direction = (jnp.asarray(arrays[f"in/pred_{k}"].transpose(0, 2, 3, 1)) for k in ("mask", "direction"))
    settings = {
        "maxd2": {"max_distance": 2},
        "mind3maxd8": {"min_distance": 3, "max_distance": 8},
        "nc4axis": {"align_axis": True},
    }.get(setting, {})
    settings |= {"thr07": {"mask_threshold": 0.7}, "weights": {"mask_weight": 2, "direction_weight": 0.3}}.get(tag, {})
    if tag == "no_predicted_boundary":
        mask = mask.at[..., 0].add(100)
    elif tag == "all_background":
        maps["distance"] = jnp.full_like(maps["distance"], 255)
    elif tag == "all_ignored":
        maps["label"] = jnp.full_like(maps["label"], -1)

    def loss(mask, direction):
        return segfix(
            mask, direction, maps["label"].astype(jnp.int32), maps["distance"], maps["angle"], ignore=-1, **settings
        )

    value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(mask, direction)
    expected = float(arrays[f"{tag}/loss"])
    if np.isnan(expected):
        assert np.isfinite(value)
        assert all(np.isfinite(g).all() for g in gradients)
    else:
        np.testing.assert_allclose(value, expected, rtol=3e-6)
    for key, gradient in zip(("grad_mask", "grad_dir"), gradients, strict=True):
        wanted = arrays.get(f"{tag}/{key}")
        if wanted is not None and np.isfinite(wanted).all() and wanted.any():
            ours = np.asarray(gradient).transpose(0, 3, 1, 2)
            np.testing.assert_allclose(ours, wanted, atol=6e-6 * np.abs(wanted).max(), err_msg=key)


@pytest.mark.parametrize(("setting", "n"), [("default", 8), ("nc4", 4), ("nc4axis", 4), ("nc16", 16)])
def test_directions_are_quantized_as_the_original_does(setting, n):
    arrays = golden(f"segfix_{setting}.npz")
    for angles in (arrays["align/angle_in"], jnp.asarray(arrays["align/angle_in"])):
        np.testing.assert_array_equal(quantize(angles, n, shifted=setting == "nc4"), arrays["align/index"])


def test_ce2p():
    """The sum of its parts; the edges are those of the labels if none are given."""
    y = jnp.array([[[0, 0, 1, 1, 1, 255]] * 4])
    edges = class_boundaries(y)
    np.testing.assert_array_equal(edges[0, 1], [1, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(class_boundaries(y, width=1)[0, 1], [0, 1, 1, 0, 0, 0])
    rng = np.random.default_rng(0)
    outputs = {
        name: jnp.asarray(rng.standard_normal((1, 4, 6, 3)), jnp.float32)
        for name in ("seg_out1", "seg_dsn", "seg_out2")
    }
    outputs["edge_out"] = jnp.asarray(rng.standard_normal((1, 4, 6, 2)), jnp.float32)
    given = jnp.asarray(rng.integers(0, 2, y.shape))
    loss = losses.build(config("ce2p", "fsce_S"))
    share = float(given[y != 255].mean())
    expected = cross_entropy(outputs["edge_out"], jnp.where(y == 255, 255, given), class_weights=(share, 1 - share))
    expected += sum(w * cross_entropy(outputs[k], y) for k, w in {"seg_out1": 1, "seg_dsn": 0.4, "seg_out2": 1}.items())
    np.testing.assert_allclose(loss(outputs, {"label": y, "edge": given}), expected, rtol=1e-6)
    assert np.isfinite(loss(outputs, {"label": y}))
    assert loss(outputs, {"label": jnp.full_like(y, 255)}) == 0


@pytest.mark.parametrize("name", ["ce", "ohem", "rmi"])
def test_bands_change_nothing(name, monkeypatch):
    """Logits that are enlarged band by band: the loss and the gradient of enlarging them first."""
    rng = np.random.default_rng(3)
    low = jnp.asarray(rng.standard_normal((2, 9, 11, 7)), jnp.float32)
    y = jnp.asarray(rng.integers(0, 8, (2, 33, 45)))
    y = jnp.where(y == 7, 255, y)
    loss = losses.build(config(name, "ohem_S_t0.7_k50"))

    def of(low, materialized):
        logits = Upsampled(low, (33, 45))
        return loss({"out": logits.full() if materialized else logits}, {"label": y})

    value, gradient = jax.value_and_grad(of)(low, True)
    for module, name in (("upsampled", "_BAND"), ("rmi", "_GROUP")):
        monkeypatch.setattr(sys.modules[f"openseg_jax.losses.{module}"], name, 2 * 33 * 45 * 7 // 3)
    in_bands = jax.jit(jax.value_and_grad(lambda low: of(low, False)))
    assert "while" in in_bands.lower(low).as_text()
    value_in_bands, gradient_in_bands = in_bands(low)
    np.testing.assert_allclose(value_in_bands, value, rtol=2e-6)
    np.testing.assert_allclose(gradient_in_bands, gradient, atol=2e-6 * float(jnp.abs(gradient).max()))


def test_ohem_refuses_labels_of_another_size():
    with pytest.raises(ValueError, match="on the grid of the logits"):
        ohem(logits("xS"), labels("yA"), threshold=0.7, min_kept=50)


def config(name, case, replicas=0):
    params = META[case]["params"]
    aux_weight, out_weight = META[case]["loss_weights"] or (0.4, 1.0)
    return LossSettings(
        name,
        class_weights=tuple(params.get("ce_weight") or ()),
        aux_weight=aux_weight,
        out_weight=out_weight,
        ohem_threshold=params.get("ohem_thresh", 0.7),
        ohem_min_kept=params.get("ohem_minkeep", 50),
        rmi=RmiSettings(**rmi_options(case)) if "rmi_radius" in params else RmiSettings(),
        **({"scope": "replica", "replicas": replicas} if replicas else {}),
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
        lambda aux, out: loss({"aux": aux, "out": out}, {"label": y}),
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
    np.testing.assert_allclose(loss({"aux": aux, "out": logits("xS")}, {"label": y}), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("case", "name", "like"),
    [("fsce_S_2replicas", "ce", "fsce_S_weight"), ("ohem_S_2replicas", "ohem", "ohem_S_2replicas")],
)
def test_loss_of_replicas_is_the_mean_of_their_losses(case, name, like):
    y = void_as_255(labels("yS"))
    per_gpu = losses.build(config(name, like, replicas=2))
    check(case, lambda x: per_gpu({"out": x}, {"label": y}), logits("xS"))
    whole = losses.build(config(name, like))
    assert abs(float(whole({"out": logits("xS")}, {"label": y})) - float(Z[f"{case}/loss"])) > 1e-3


def test_plain_loss_sums_all_outputs():
    loss = losses.build(config("ce", "fsce_S"))
    check(
        "fsce_list_one_target",
        lambda a, b: loss({"aux": a, "out": b}, {"label": void_as_255(labels("yS"))}),
        logits("xS"),
        logits("xS_aux"),
        grad_keys=("grad0", "grad1"),
    )


def test_a_loss_that_does_not_fit_the_outputs_says_so():
    with pytest.raises(InputError, match="'ohem' wants the outputs out, this model has aux, out"):
        losses.build(config("ohem", "ohem_S_t0.7_k50"))({"aux": logits("xS"), "out": logits("xS")}, {})
    with pytest.raises(InputError, match="unknown loss 'dice'"):
        losses.build(config("dice", "fsce_S"))


def test_class_weights_of_another_number_are_refused():
    with pytest.raises(InputError, match="3 class weights do not fit 7 classes"):
        losses.build(LossSettings("ce", class_weights=(1.0, 2.0, 3.0)))({"out": logits("xS")}, {"label": labels("yS")})


def test_the_schema_knows_every_loss():
    assert list(schema.LOSSES) == list(losses.LOSSES)
    assert all(facts.sums == bool(losses.LOSSES[name].weight) for name, facts in schema.LOSSES.items())


def test_kth_smallest_equals_sorting():
    rng = np.random.default_rng(1)
    values = rng.random(500).astype(np.float32).round(2)  # with ties
    mask = rng.random(500) < 0.7
    ordered = np.sort(values[mask])
    for k in (0, 1, 17, 200, len(ordered) - 1, len(ordered), 10_000):
        expected = ordered[min(k, len(ordered) - 1)]
        assert kth_smallest(jnp.asarray(values), jnp.asarray(mask), k) == expected


@pytest.mark.parametrize("name", ["ce", "aux_ce", "ohem", "aux_ohem"])
@pytest.mark.parametrize("weights", [(1.0,), (1.0,) * 4])
def test_class_weights_of_another_length(name, weights):
    outputs = {"out": jnp.zeros((1, 4, 4, 3)), "aux": jnp.zeros((1, 4, 4, 3))}
    outputs = outputs if name.startswith("aux") else {"out": outputs["out"]}
    loss = losses.build(LossSettings(name=name, class_weights=weights))
    with pytest.raises(InputError, match=f"{len(weights)} class weights do not fit 3 classes"):
        loss(outputs, {"label": jnp.zeros((1, 4, 4), jnp.int32)})
