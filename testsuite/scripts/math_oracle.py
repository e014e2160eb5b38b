#!/usr/bin/env python3
"""Writes compiler/src/nest/math/double_oracle.txt: exact values of functions at random `f64` arguments.

    pip install mpmath
    math_oracle.py > compiler/src/nest/math/double_oracle.txt

A line is a function, the bits of its arguments, the bits of the result rounded to nearest, and how far the exact
result is from that, in units in its last place. Values come from arithmetic of 400 bits.
"""
import random
import struct

import mpmath
from mpmath import mp, mpf

mp.prec = 400


def bits(x):
    return struct.unpack("<Q", struct.pack("<d", x))[0]


def wide(r, low, high):
    """A number of a random exponent, of either sign."""
    return r.choice([-1, 1]) * r.uniform(1, 2) * 2.0 ** r.randint(low, high)


def quarter_turn(r):
    """Close to a multiple of pi / 2."""
    return float(mpf(r.randint(1, 10**r.randint(1, 7))) * mpmath.pi / 2)


def above_one(r):
    return 1 + abs(wide(r, -40, 60))


def inside_one(r):
    return r.choice([wide(r, -30, -1), r.uniform(-1, 1), r.choice([-1, 1]) * (1 - abs(wide(r, -50, -2)))])


FUNCTIONS = {
    "Exp": (mpmath.exp, [lambda r: r.uniform(-745, 709), lambda r: wide(r, -30, 5)]),
    "Expm1": (mpmath.expm1, [lambda r: r.uniform(-40, 709), lambda r: wide(r, -40, 5)]),
    "Log": (mpmath.log, [lambda r: abs(wide(r, -1070, 1022)), lambda r: r.uniform(0.5, 2), lambda r: 1 + wide(r, -50, -5)]),
    "Log1p": (mpmath.log1p, [lambda r: abs(wide(r, -60, 60)), lambda r: r.uniform(-0.999, 1)]),
    "Softplus": (lambda x: mpmath.log1p(mpmath.exp(x)), [lambda r: r.uniform(-700, 60), lambda r: r.uniform(-5, 5)]),
    "Tanh": (mpmath.tanh, [lambda r: wide(r, -30, 4), lambda r: r.uniform(-20, 20)]),
    "Sigmoid": (lambda x: 1 / (1 + mpmath.exp(-x)), [lambda r: r.uniform(-700, 40), lambda r: r.uniform(-5, 5)]),
    "Erf": (mpmath.erf, [lambda r: r.uniform(-6, 6), lambda r: wide(r, -30, 1), lambda r: r.uniform(0.75, 0.85)]),
    "Sin": (mpmath.sin, [lambda r: r.uniform(-10, 10), lambda r: wide(r, -20, 25), quarter_turn]),
    "Cos": (mpmath.cos, [lambda r: r.uniform(-10, 10), lambda r: wide(r, -20, 25), quarter_turn]),
    "Tan": (mpmath.tan, [lambda r: r.uniform(-10, 10), lambda r: wide(r, -20, 25), quarter_turn]),
    "Asin": (mpmath.asin, [inside_one]),
    "Acos": (mpmath.acos, [inside_one]),
    "Atan": (mpmath.atan, [lambda r: wide(r, -30, 60), lambda r: r.uniform(-3, 3)]),
    "Sinh": (mpmath.sinh, [lambda r: wide(r, -30, 8), lambda r: r.uniform(-710, 710)]),
    "Cosh": (mpmath.cosh, [lambda r: wide(r, -30, 8), lambda r: r.uniform(-710, 710)]),
    "Asinh": (mpmath.asinh, [lambda r: wide(r, -30, 60), lambda r: r.uniform(-3, 3)]),
    "Acosh": (mpmath.acosh, [above_one]),
    "Atanh": (mpmath.atanh, [inside_one]),
    "Pow": (lambda x, y: x**y, None),
    "ExpFtz": (mpmath.exp, [lambda r: r.uniform(-708, 0), lambda r: wide(r, -30, 5)]),
}


def power(r):
    """Arguments whose power is a normal number."""
    if r.random() < 0.5:
        x = abs(wide(r, -300, 300))
        return x, float(mpf(r.uniform(-700, 700)) / abs(mpmath.log(x)))
    return r.uniform(0.9, 1.1), r.uniform(-5000, 5000)


def main():
    r = random.Random(1)
    for name, (f, draws) in FUNCTIONS.items():
        for i in range(45):
            args = power(r) if draws is None else (draws[i % len(draws)](r),)
            exact = f(*map(mpf, args))
            y = float(exact)
            ulp = mpf(2) ** (max(-1022, int(mpmath.floor(mpmath.log(abs(exact), 2)))) - 52)
            print(name, *(f"{bits(x):016x}" for x in args), f"{bits(y):016x}", f"{float((exact - mpf(y)) / ulp):.3f}")


if __name__ == "__main__":
    main()
