"""Reference numbers of optimizers, schedules and losses from Python MLX.

    python make_training_goldens.py DIR        # writes DIR/{optimizers,schedules,losses}.safetensors

Needs: pip install "mlx[cpu]==0.32.4". Names in the files:
    optimizers: "w", "v", "t" (parameters), "w.g", ... (gradients [STEPS, ...]), and for each case below
                "CASE.w", ... (the parameter after each step [STEPS, ...])
    schedules:  CASE -> the rate at steps 0 ... [N]
    losses:     CASE -> the loss, "CASE.grad" -> of its sum with respect to the first input; the inputs are
                "logits", "classes", "probabilities", "a", "b", "c", "positive", "sign"
"""

import math
import pathlib
import sys

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as opt

STEPS = 8


def optimizers():
    mx.random.seed(1)
    parameters = {"w": mx.random.normal((6, 4)), "v": mx.random.normal((5,)), "t": mx.random.normal((3, 2, 4))}
    gradients = {k: mx.random.normal((STEPS, *p.shape)) for k, p in parameters.items()}
    out = dict(parameters)
    out.update({k + ".g": g for k, g in gradients.items()})
    cases = {
        "sgd": opt.SGD(0.1),
        "sgd_momentum": opt.SGD(0.1, momentum=0.9),
        "sgd_nesterov": opt.SGD(0.1, momentum=0.9, nesterov=True),
        "sgd_decay_dampening": opt.SGD(0.1, momentum=0.8, weight_decay=0.05, dampening=0.3),
        "rmsprop": opt.RMSprop(0.01, alpha=0.95, eps=1e-6),
        "adagrad": opt.Adagrad(0.1, eps=1e-7),
        "adadelta": opt.AdaDelta(0.5, rho=0.8, eps=1e-5),
        "adam": opt.Adam(0.01),
        "adam_bias": opt.Adam(0.01, betas=[0.8, 0.95], eps=1e-7, bias_correction=True),
        "adamw": opt.AdamW(0.01, weight_decay=0.1),
        "adamw_bias": opt.AdamW(0.01, betas=[0.8, 0.95], weight_decay=0.1, bias_correction=True),
        "adamax": opt.Adamax(0.02),
        "lion": opt.Lion(0.01, betas=[0.85, 0.98]),
        "lion_decay": opt.Lion(0.01, weight_decay=0.2),
        "adafactor": opt.Adafactor(),
        "adafactor_all": opt.Adafactor(
            0.03, eps=(1e-20, 1e-2), clip_threshold=0.8, decay_rate=-0.7, beta_1=0.9, weight_decay=0.01,
            scale_parameter=False, relative_step=False),
        "adafactor_warmup": opt.Adafactor(warmup_init=True),
        "muon": opt.Muon(0.02),
        "muon_plain": opt.Muon(0.02, momentum=0.8, weight_decay=0.0, nesterov=False, ns_steps=3),
        "adam_schedule": opt.Adam(opt.cosine_decay(0.05, 6, 0.01)),
    }
    for name, optimizer in cases.items():
        now = dict(parameters)
        steps = {k: [] for k in now}
        for i in range(STEPS):
            now = optimizer.apply_gradients({k: gradients[k][i] for k in now}, now)
            mx.eval(now, optimizer.state)
            for k, p in now.items():
                steps[k].append(p)
        out.update({f"{name}.{k}": mx.stack(v) for k, v in steps.items()})
    clipped, norm = opt.clip_grad_norm({k: g[0] for k, g in gradients.items()}, 0.7)
    out["clipped.norm"] = norm
    out.update({f"clipped.{k}": g for k, g in clipped.items()})
    return out


def schedules():
    cases = {
        "exponential": opt.exponential_decay(0.1, 0.9),
        "step": opt.step_decay(0.1, 0.5, 4),
        "cosine": opt.cosine_decay(0.1, 12, 0.02),
        "linear": opt.linear_schedule(0.0, 0.1, 7),
        "warmup_cosine": opt.join_schedules([opt.linear_schedule(0, 0.1, 5), opt.cosine_decay(0.1, 10)], [6]),
        "three": opt.join_schedules(
            [opt.linear_schedule(0, 0.1, 3), opt.step_decay(0.1, 0.5, 2), opt.exponential_decay(0.05, 0.8)], [3, 9]),
    }
    return {k: mx.stack([mx.array(f(mx.array(i, mx.uint64)), mx.float32) for i in range(20)]) for k, f in cases.items()}


def losses():
    mx.random.seed(2)
    x = {
        "logits": 3 * mx.random.normal((4, 7)),
        "classes": mx.random.randint(0, 7, (4,)),
        "probabilities": mx.softmax(mx.random.normal((4, 7)), -1),
        "a": mx.random.normal((4, 7)),
        "b": mx.random.normal((4, 7)),
        "c": mx.random.normal((4, 7)),
        "positive": mx.random.uniform(0.05, 0.95, (4, 7)),
        "sign": mx.sign(mx.random.normal((4, 7))),
    }
    weights = mx.abs(x["a"][:, 0])
    n = nn.losses
    cases = {
        "cross_entropy": (lambda l: n.cross_entropy(l, x["classes"]), "logits"),
        "cross_entropy_mean": (lambda l: n.cross_entropy(l, x["classes"], weights=weights, reduction="mean"), "logits"),
        "cross_entropy_smooth": (lambda l: n.cross_entropy(l, x["classes"], label_smoothing=0.2), "logits"),
        "cross_entropy_probs": (lambda l: n.cross_entropy(l, x["probabilities"], label_smoothing=0.1), "logits"),
        "cross_entropy_axis": (lambda l: n.cross_entropy(l.T, x["classes"], axis=0), "logits"),
        "bce_logits": (lambda a: n.binary_cross_entropy(a, x["positive"]), "a"),
        "bce": (lambda a: n.binary_cross_entropy(a, x["probabilities"], with_logits=False, reduction="none"), "positive"),
        "l1": (lambda a: n.l1_loss(a, x["b"]), "a"),
        "mse": (lambda a: n.mse_loss(a, x["b"]), "a"),
        "nll": (lambda a: n.nll_loss(a, x["classes"]), "logits"),
        "gaussian_nll": (lambda a: n.gaussian_nll_loss(a, x["b"], x["positive"], full=True), "a"),
        "kl_div": (lambda a: n.kl_div_loss(a, mx.log(x["probabilities"])), "a"),
        "smooth_l1": (lambda a: n.smooth_l1_loss(a, x["b"], beta=0.7), "a"),
        "triplet": (lambda a: n.triplet_loss(a, x["b"], x["c"]), "a"),
        "hinge": (lambda a: n.hinge_loss(a, x["sign"]), "a"),
        "huber": (lambda a: n.huber_loss(a, x["b"], delta=0.6), "a"),
        "log_cosh": (lambda a: n.log_cosh_loss(a, x["b"]), "a"),
        "cosine": (lambda a: n.cosine_similarity_loss(a, x["b"]), "a"),
        "margin_ranking": (lambda a: n.margin_ranking_loss(a, x["b"], x["sign"], margin=0.1), "a"),
    }
    out = dict(x)
    for name, (f, first) in cases.items():
        out[name] = f(x[first])
        out[name + ".grad"] = mx.grad(lambda v, f=f: f(v).sum())(x[first])
    return out


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for make in (optimizers, schedules, losses):
        arrays = make()
        mx.eval(arrays)
        assert all(math.isfinite(float(a.sum())) for a in arrays.values())
        mx.save_safetensors(str(folder / f"{make.__name__}.safetensors"), arrays)


main()
