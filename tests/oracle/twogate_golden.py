"""Golden cases and reference statistics of TwoGate, from twogate.py beside this file.

    python3 tests/oracle/twogate_golden.py golden tests/fixtures/twogate/golden.json
    python3 tests/oracle/twogate_golden.py statistics 200 0,3,12,15
    python3 tests/oracle/twogate_golden.py statistics 200 4,6 clean-prefix

`golden` writes inputs and results of every formula, in float64. `statistics` prints one JSON line for
each strategy (or those that are named) and delay, with its episodes, which `vlad bench async --oracle FILE` compares with its own.
Needs numpy, and nothing else.
"""
import json
import sys

import numpy as np

import twogate as tg

# Where the point may be: before the first gate on both sides, between the gates with and without a
# choice, after the second, and near the end.
PLACES = [
    ([0.0, 0.0], 0.0), ([0.01, 0.003], 0.0), ([0.31, -0.02], 0.12), ([0.499, 0.09], 0.0),
    ([0.55, 0.13], 0.12), ([0.69, -0.08], 0.0), ([0.72, -0.03], -0.12), ([0.95, 0.05], 0.12),
    ([1.09, -0.12], 0.0), ([1.12, 0.13], -0.12), ([1.3, 0.04], 0.12), ([1.58, 0.11], 0.12),
]
TIMES = [0.0, 0.2, 0.4, 0.6000000000000001, 0.8]


class Given:
    """A generator that gives the numbers it was given."""

    def __init__(self, numbers):
        self.numbers = numbers

    def standard_normal(self, shape):
        assert self.numbers.shape == tuple(shape)
        return self.numbers.copy()


def flat(array):
    return [float(number) for number in np.asarray(array).reshape(-1)]


def mixture(place):
    p, goal = PLACES[place]
    return tg.mix(np.array(p), goal)


def plans():
    sides = [(1, 0), (-1, 1), (0, -1)]
    return [{"p": p, "goal_y": goal, "sides": list(sides[i % 3]),
             "rows": flat(tg.plan(np.array(p), goal, *sides[i % 3]))}
            for i, (p, goal) in enumerate(PLACES[:6])]


def mixes():
    rows = []
    for p, goal in PLACES:
        weights, means = tg.mix(np.array(p), goal)
        rows.append({"p": p, "goal_y": goal, "weights": flat(weights), "means": [flat(m) for m in means]})
    return rows


def denoised(rng):
    rows = []
    for i, t in enumerate(TIMES * 2):
        place = (2 * i) % len(PLACES)
        weights, means = mixture(place)
        x = rng.standard_normal((tg.H, 2)) * (1 - t) + t * means[i % 2]
        e = rng.standard_normal((tg.H, 2))
        clean, vjp = tg.denoise(x, t, weights, means, lambda _: e)
        rows.append({"place": place, "t": t, "x": flat(x), "e": flat(e), "clean": flat(clean), "vjp": flat(vjp)})
    return rows


def flows(rng):
    """Plain flows, and guided ones towards an older plan: soft, hard and linear masks."""
    rows = []
    for place in (0, 4, 6, 10):
        weights, means = mixture(place)
        x0 = rng.standard_normal((tg.H, 2))
        rows.append({"place": place, "x0": flat(x0), "result": flat(tg.flow(Given(x0), weights, means))})
    masks = [(3, 20, "exp"), (3, 3, "exp"), (12, 18, "exp"), (5, 20, "linear"), (0, 20, "exp"), (0, 0, "exp")]
    for i, (d, end, schedule) in enumerate(masks):
        place = 2 * i
        weights, means = mixture(place)
        x0 = rng.standard_normal((tg.H, 2))
        target = means[1] + 0.3 * rng.standard_normal((tg.H, 2))
        result = tg.flow(Given(x0), weights, means, target, d, end, schedule)
        rows.append({"place": place, "x0": flat(x0), "target": flat(target), "result": flat(result),
                     "mask": flat(mask(d, end, schedule)), "beta": tg.BETA})
    return rows


def mask(d, end, schedule):
    """The weights that `flow` makes of these three, by the same operations."""
    start = min(d, end)
    weights = np.clip((start - 1 - tg.idx) / (end - start + 1) + 1, 0, 1)
    if schedule == "exp":
        weights = weights * np.expm1(weights) / (np.e - 1)
    return np.where(tg.idx >= end, 0, weights)


def prefixes(rng):
    rows = []
    for i, d in enumerate([1, 3, 6, 12, 20, 29, 3, 6]):
        place = i % len(PLACES)
        weights, means = mixture(place)
        x0 = rng.standard_normal((tg.H, 2))
        prefix = means[i % 2] + 0.2 * rng.standard_normal((tg.H, 2))
        result = tg.clean_prefix(Given(x0[d:]), weights, means, prefix, d)
        rows.append({"place": place, "d": d, "x0": flat(x0), "prefix": flat(prefix[:d]), "result": flat(result)})
    return rows


def course():
    """Positions of the point behind a target that steps, ten sub-steps a tick: the world's dynamics."""
    p, v = np.array([0.0, 0.002]), np.zeros(2)
    rows = []
    for tick in range(12):
        a = np.array([0.015 * tick, 0.03 if tick % 4 < 2 else -0.01])
        for _ in range(10):
            acceleration = 1600 * (a - p) - 80 * v
            v = v + acceleration * tg.DT / 10
            p = p + v * tg.DT / 10
        rows.append({"target": flat(a), "p": flat(p), "v": flat(v)})
    return rows


def golden(path):
    rng = np.random.default_rng(20)
    cases = {"plan": plans(), "mix": mixes(), "denoise": denoised(rng), "flow": flows(rng),
             "prefix": prefixes(rng), "course": course()}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(cases, file, separators=(",", ":"))
        file.write("\n")


STRATEGIES = {"sync": "sync", "naive": "naive", "ensemble": "te", "blend": "blend", "guided-hard": "rtc-hard",
              "guided": "rtc", "clean-prefix": "prefix6", "clean-prefix-ideal": "prefix"}


def statistics(n, delays, names):
    for d in delays:
        for name in names:
            strategy = STRATEGIES[name]
            # As the daemon: sync plays a chunk to its end, the others as much as the gate lets them.
            s_min = tg.H if strategy == "sync" else min(max(10, d), tg.H - d - 2)
            episodes = [tg.episode(strategy, lambda _, d=d: d, seed, s_min) for seed in range(n)]
            boundaries = np.concatenate([e["bnd"] for e in episodes if len(e["bnd"])] or [np.zeros(1)])
            ages = np.concatenate([e["age"] for e in episodes]) * tg.DT * 1e3
            reactions = np.array([e["rx"] for e in episodes if e["rx"]]) * tg.DT * 1e3
            print(json.dumps({
                "strategy": name, "d": d, "n": n,
                "success": float(np.mean([e["ok"] for e in episodes])),
                "collided": float(np.mean([e["coll"] for e in episodes])),
                "stalls": float(np.mean([e["stall"] for e in episodes])),
                "boundary_p95_mm": float(np.percentile(boundaries, 95) * 1e3),
                "rms_jerk": float(np.mean([e["jrms"] for e in episodes])),
                "age_p95_ms": float(np.percentile(ages, 95)),
                "age_p99_ms": float(np.percentile(ages, 99)),
                "reaction_p50_ms": float(np.median(reactions)) if len(reactions) else None,
                "reaction_p95_ms": float(np.percentile(reactions, 95)) if len(reactions) else None,
                "episodes": [{"ok": bool(e["ok"]), "rms_jerk": float(e["jrms"]), "stalls": int(e["stall"]),
                              "boundaries_mm": [float(b) * 1e3 for b in e["bnd"]]} for e in episodes],
            }), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["golden"]:
        golden(sys.argv[2])
    elif sys.argv[1:2] == ["statistics"]:
        named = sys.argv[4].split(",") if 4 < len(sys.argv) else list(STRATEGIES)
        statistics(int(sys.argv[2]), [int(d) for d in sys.argv[3].split(",")], named)
    else:
        sys.exit(__doc__)
