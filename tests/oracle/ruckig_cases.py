"""Writes tests/fixtures/ruckig/cases.csv: state-to-state ways of one joint by the reference
implementation of Ruckig (Berscheid and Kröger, "Jerk-limited Real-time Trajectory Generation with
Arbitrary Target States", 2021), which the generator that vlad uses is compared with.

    pip install ruckig==0.19.4
    python ruckig_cases.py > ../fixtures/ruckig/cases.csv

One case a line: p0 v0 a0 p1 v1 a1 v_max a_max j_max minimum_duration, then the duration, then
position, velocity and acceleration at 1/4, 1/2 and 3/4 of it.
"""
import random

from ruckig import InputParameter, Result, Ruckig, Trajectory

random.seed(20261121)
otg = Ruckig(1)
count = 0
while count < 400:
    v_max, a_max = random.uniform(0.2, 4), random.uniform(1, 30)
    j_max = a_max * random.uniform(5, 200)
    inp = InputParameter(1)
    inp.max_velocity, inp.max_acceleration, inp.max_jerk = [v_max], [a_max], [j_max]
    inp.current_position = [random.uniform(-1, 1)]
    inp.current_velocity = [random.uniform(-v_max, v_max) * 0.9]
    inp.current_acceleration = [random.uniform(-a_max, a_max) * 0.9]
    inp.target_position = [inp.current_position[0] + random.gauss(0, random.choice([0.01, 0.1, 1]))]
    inp.target_velocity = [random.choice([0, random.uniform(-v_max, v_max) * 0.9])]
    inp.target_acceleration = [random.choice([0, random.uniform(-a_max, a_max) * 0.5])]
    minimum = random.choice([None, 1 / 30, 0.2, 1.5])
    inp.minimum_duration = minimum
    way = Trajectory(1)
    try:
        result = otg.calculate(inp, way)
    except RuntimeError:
        continue
    if result not in (Result.Working, Result.Finished):
        continue
    row = [
        *inp.current_position, *inp.current_velocity, *inp.current_acceleration,
        *inp.target_position, *inp.target_velocity, *inp.target_acceleration,
        v_max, a_max, j_max, minimum or 0.0, way.duration,
    ]
    for part in (0.25, 0.5, 0.75):
        row += [x[0] for x in way.at_time(way.duration * part)]
    print(",".join(f"{x:.12g}" for x in row))
    count += 1
