"""Modules and caches of sympy with which isolated processes are forked, since a process per answer can't keep any."""

from typing import Any

from gym_adapters.reasoning_gym.scores import scorer

_INTEGRAND = {"variable": "x", "integrand": "2*x + exp(x)*cos(x)"}
_SAMPLES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("countdown", "(3 + 4)*5/6 - 7", {"numbers": [3, 4, 5, 6, 7], "target": 1}),
    ("polynomial_multiplication", "-6*x**2*y + 3", {}),
    ("simple_integration", "x**2 - 2*x**3/3 + C", _INTEGRAND),
    ("intermediate_integration", "-exp(x)*sin(2*x) + sqrt(1 - x)*log(x) - x*atan(x)", _INTEGRAND),
    ("intermediate_integration", "x**2 + exp(x)*cos(x)/2 + exp(x)*sin(x)/2 + 3*Integral(x*cos(x), x)", _INTEGRAND),
)

for _name, _answer, _metadata in _SAMPLES:
    scorer(_name, "{}").score_answer(_answer, {"answer": "3 - 6*x**2*y", "metadata": _metadata})
