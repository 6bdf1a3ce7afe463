"""Orders, symmetries and invariants of the integrators, for fields that do not depend on time."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from costate.architectures.forms import DenseField
from costate.architectures.integrators import Shear
from small import INTEGRATORS, REVERSIBLE, block, dense

WIDTH = 3


EQUATIONS = "resnet", "antisymmetric", "leapfrog", "verlet"
"""Networks whose differential equations are written out below."""


def flow(name: str, K: np.ndarray, b: np.ndarray, Y: np.ndarray, T: float) -> np.ndarray:
    """Y at T of the differential equation itself, the second field starting at 0."""
    A = (K - K.T - getattr(INTEGRATORS[name], "gamma", 0) * np.eye(WIDTH)) / 2
    right_hand_sides = {
        "resnet": lambda Y, _: (np.tanh(Y @ K + b), 0 * Y),
        "antisymmetric": lambda Y, _: (np.tanh(Y @ A + b), 0 * Y),
        "leapfrog": lambda Y, V: (V, -np.tanh(Y @ K + b) @ K.T),
        "verlet": lambda Y, Z: (np.tanh(Z @ K + b), -np.tanh(Y @ K.T + b)),
    }
    f = right_hand_sides[name.split(",")[0]]
    start = np.concatenate([Y, 0 * Y])
    solution = solve_ivp(lambda t, s: np.concatenate(f(s[:WIDTH], s[WIDTH:])), (0, T), start, rtol=1e-12, atol=1e-12)
    return solution.y[:WIDTH, -1]


def ends(name: str, T: float, steps: np.ndarray) -> tuple[torch.nn.Module, torch.Tensor, list[np.ndarray]]:
    """A layer, a start, and Y at T after so many steps of that layer."""
    one, found = dense(1, WIDTH), []
    Y = torch.randn(1, WIDTH, dtype=torch.float64)
    for n in steps:
        field = dense(n, WIDTH)
        field.load_state_dict({"K": one.K.repeat(n, 1, 1), "b": one.b.repeat(n, 1)})
        found.append(block(field, INTEGRATORS[name], T)(Y)[0].detach().numpy()[:WIDTH])
    return one, Y, found


def slope(h: np.ndarray, errors: list[np.ndarray]) -> float:
    return np.polyfit(np.log(h), np.log([np.linalg.norm(error) for error in errors]), 1)[0]


@pytest.mark.parametrize("name", [name for name in INTEGRATORS if name.split(",")[0] in EQUATIONS])
def test_order(name):
    """The error falls as h, and as h² where the second field starts with half a step: as the class says."""
    T, steps = 1.5, np.array([32, 64, 128, 256])
    one, Y, found = ends(name, T, steps)
    exact = flow(name, one.K[0].detach().numpy(), one.b[0].detach().numpy(), Y[0].numpy(), T)
    order = slope(T / steps, [each - exact for each in found])
    assert order == pytest.approx(INTEGRATORS[name].order, abs=0.05)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_there_is_a_limit_for_short_steps(name):
    """Of any integrator: what a doubling of the steps changes falls as h to the order that it says."""
    T, steps = 1.5, np.array([32, 64, 128, 256])
    _, _, found = ends(name, T, steps)
    assert slope(T / steps[:-1], np.diff(found, axis=0)) == pytest.approx(INTEGRATORS[name].order, abs=0.1)


@pytest.mark.parametrize("name", REVERSIBLE)
def test_a_step_and_a_step_back_is_the_identity(name):
    integrator, layers = REVERSIBLE[name], block(dense(8, WIDTH), REVERSIBLE[name], T=4.0).steps()
    start = tuple(torch.randn(2, 5, WIDTH, dtype=torch.float64))
    state = start
    for layer in layers:
        state = integrator.step(state, layer)
    assert not torch.allclose(state[0], start[0], atol=0.1)
    for layer in reversed(layers):
        for shear in reversed(integrator.shears(layer)):
            state = shear(state, -1)
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(state, start, strict=True))


@pytest.mark.parametrize("half", [False, True])
def test_leapfrog_is_the_two_step_form(half):
    """Y_{j+1} = 2 Y_j − Y_{j−1} − h² σ(Y_j K_j + b_j) K_jᵀ, Y_{−1} = Y_0, its first force whole or half."""
    field, h = dense(6, WIDTH), 0.25
    integrator = REVERSIBLE["leapfrog, half_start" if half else "leapfrog"]
    Y = torch.randn(4, WIDTH, dtype=torch.float64)
    before = Y
    state = (Y, torch.zeros_like(Y))
    for j, layer in enumerate(block(field, integrator, T=6 * h).steps()):
        force = torch.tanh(Y @ field.K[j] + field.b[j]) @ field.K[j].T / (2 if half and j == 0 else 1)
        before, Y = Y, 2 * Y - before - h**2 * force
        state = integrator.step(state, layer)
        assert torch.allclose(state[0], Y, rtol=0, atol=1e-12)
        assert torch.allclose(state[1], (Y - before) / h, rtol=0, atol=1e-12)


def log_cosh(x: torch.Tensor) -> torch.Tensor:
    return x.abs() + torch.log1p(torch.exp(-2 * x.abs())) - np.log(2)


@pytest.mark.parametrize("name", ["verlet", "leapfrog"])
def test_energy_stays_bounded(name):
    """Over 3,000 steps, where the field has a Hamiltonian H: ½ |V|² + Σ log cosh(Y K + b) for leapfrog, and for Verlet,
    if K is diagonal, Σ (log cosh(Z K + b) + log cosh(Y K + b)) / K.
    """
    torch.manual_seed(0)
    k = 0.5 + torch.rand(WIDTH, dtype=torch.float64)
    field = DenseField(k.diag()[None], 2, "tanh", False).double()
    torch.nn.init.uniform_(field.b, -0.5, 0.5)

    def energy(Y, second):
        kinetic = 0.5 * second**2 if name == "leapfrog" else log_cosh(second * k + field.b[0]) / k
        potential = log_cosh(Y * k + field.b[0]) / (1 if name == "leapfrog" else k)
        return (kinetic + potential).sum().item()

    (layer,) = block(field, REVERSIBLE[name], T=0.1).steps()
    state = (torch.randn(1, WIDTH, dtype=torch.float64), torch.zeros(1, WIDTH, dtype=torch.float64))
    energies = []
    with torch.no_grad():
        for _ in range(3_000):
            state = REVERSIBLE[name].step(state, layer)
            energies.append(energy(*state))
    early, late = np.array(energies[:1000]), np.array(energies[-1000:])
    assert np.abs(early - early.mean()).max() < 0.1 * early.mean()
    assert late.mean() == pytest.approx(early.mean(), rel=1e-3)
    assert np.ptp(late) < 1.1 * np.ptp(early)


def test_a_field_is_not_moved_by_a_function_of_itself():
    """A stranger's was: it trained, and nothing could run it backwards."""
    state = torch.ones(1, WIDTH), torch.ones(1, WIDTH)
    with pytest.raises(ValueError, match="a function of the other one"):
        Shear(1, 1, 0.5, torch.tanh)(state)
