"""The class kernel of an exact posterior, by quadrature; its solver against linear algebra."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import multivariate_normal

from sknoprop import NoPropClassifier
from sknoprop.building import build_model
from sknoprop.defaults import fill_in
from sknoprop.fitting import prediction_draws
from sknoprop.inference import (
    block_kernels,
    candidate_classes,
    class_flows,
    kernel_probabilities,
)
from sknoprop.kernels import (
    asymmetry,
    kernel_from_flow,
    kernel_latents,
    latent_shares,
    retention,
    shared_draws,
    stationary_distribution,
)
from sknoprop.probes import Probes, kernel_levels
from sknoprop.schedules import SCHEDULES, CosineSchedule
from sknoprop.training.seeds import Seeds
from tests.exact import F64, ExactModel
from tests.models import toy_model

#: Levels by log SNR: from nothing of the label to nearly all of it.
LOG_SNRS = [-8.0, -3.0, -1.0, 0.0, 1.0, 2.0]

EMBEDDINGS = {
    "line": ([[-1.0], [1.0]], [0.3, 0.7]),
    "uneven line": ([[-2.0], [0.5], [0.7]], [0.2, 0.5, 0.3]),
    "one-hot": ([[1.0, 0.0], [0.0, 1.0]], [0.1, 0.9]),
    "plane": ([[0.3, 1.5], [-1.0, 0.2], [2.0, 0.0]], [0.6, 0.3, 0.1]),
    "fewer dimensions than classes": ([[0.0], [1.0], [2.0], [3.5]], [0.4, 0.1, 0.3, 0.2]),
}


def normal_nodes(dim):
    """Nodes and weights for a standard normal: trapezoids, which converge exponentially here."""
    line = torch.linspace(-9.0, 9.0, 301, dtype=F64)
    weight = torch.exp(-0.5 * line**2)
    weight = weight / weight.sum()
    if dim == 1:
        return line[:, None], weight
    return torch.cartesian_prod(line, line), torch.outer(weight, weight).flatten()


def times_at(schedule, log_snrs):
    fine = torch.cat(
        [torch.logspace(-10, -3, 4_000, dtype=F64), torch.linspace(1e-3, 0.999, 4_000)]
    )
    with torch.no_grad():
        levels = schedule.double().log_snr(fine)
    return [float(fine[(levels - wanted).abs().argmin()]) for wanted in log_snrs]


def exact_kernels(schedule, weight, prior, **kwargs):
    """Kernels of the exact posterior at all levels, the mean over noise by quadrature."""
    model = ExactModel(prior, weight, schedule, times_at(schedule, LOG_SNRS), **kwargs)
    nodes, mass = normal_nodes(len(weight[0]))
    signal, noise = model.schedule.signal(model.levels), model.schedule.noise(model.levels)
    z = kernel_latents(model.embedding.weight, signal, noise, nodes)
    p = model.posterior(z, model.levels[:, None, None, None])
    return torch.einsum("lcny,n->lcy", p, mass), model.prior


def assert_reversible(kernels, prior):
    flow = prior[:, None] * kernels
    torch.testing.assert_close(flow, flow.mT, rtol=0, atol=1e-6)
    law = stationary_distribution(kernels)
    torch.testing.assert_close(law, prior.expand_as(law), rtol=0, atol=1e-6)
    assert float(asymmetry(kernels, law).max()) < 3e-6


@pytest.mark.parametrize("embedding", sorted(EMBEDDINGS))
@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_exact_posterior_gives_a_reversible_kernel_with_itself_as_law(name, embedding):
    assert_reversible(*exact_kernels(SCHEDULES[name](), *EMBEDDINGS[embedding]))


@pytest.mark.parametrize("embedding", sorted(EMBEDDINGS))
def test_a_wrong_posterior_fails(embedding):
    """The test above must notice the classic mistake of s where s squared belongs."""
    kernels, prior = exact_kernels(SCHEDULES["cosine"](), *EMBEDDINGS[embedding], noise_power=1.0)
    with pytest.raises(AssertionError):
        assert_reversible(kernels, prior)
    assert float((stationary_distribution(kernels) - prior).abs().max()) > 0.01


def test_rows_are_equal_at_pure_noise_and_identity_at_the_label():
    weight, prior = EMBEDDINGS["plane"]
    schedule = SCHEDULES["straight"]()
    features = torch.zeros(1, 1, 1, dtype=F64)
    eps = shared_draws(64, 2, torch.Generator().manual_seed(0)).double()

    def at(level):
        model = ExactModel(prior, weight, schedule, level)
        return block_kernels(model, features, Probes(model, eps))[0, 0]

    at_noise = at([0.0])
    torch.testing.assert_close(at_noise, torch.tensor(prior, dtype=F64).expand(3, 3))
    assert float(retention(at_noise)) == pytest.approx(0.0, abs=1e-12)
    at_label = at([0.98])
    torch.testing.assert_close(at_label, torch.eye(3, dtype=F64))
    assert float(retention(at_label)) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("n_draws", [1, 2, 4])
@pytest.mark.parametrize("embedding", sorted(EMBEDDINGS))
@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_with_an_exact_posterior_any_draws_give_its_law(name, embedding, n_draws):
    """No Monte Carlo error at all: balance holds for each draw, close to the label too."""
    weight, prior = EMBEDDINGS[embedding]
    schedule = SCHEDULES[name]()
    model = ExactModel(prior, weight, schedule, times_at(schedule, [*LOG_SNRS, 3.5]))
    eps = shared_draws(n_draws, len(weight[0]), torch.Generator().manual_seed(3)).double()
    kernels = block_kernels(model, torch.zeros(7, 1, 1, dtype=F64), Probes(model, eps))
    law = stationary_distribution(kernels)[:, 0]
    torch.testing.assert_close(law, model.prior.expand_as(law), rtol=1e-7, atol=0)
    assert float(asymmetry(kernels[:, 0], law).max()) < 1e-12


def test_a_wrong_posterior_has_another_law():
    """The test above must notice the classic mistake of s where s squared belongs."""
    weight, prior = EMBEDDINGS["plane"]
    schedule = SCHEDULES["cosine"]()
    levels = times_at(schedule, LOG_SNRS)
    model = ExactModel(prior, weight, schedule, levels, noise_power=1.0)
    eps = shared_draws(4, 2, torch.Generator().manual_seed(3)).double()
    kernels = block_kernels(model, torch.zeros(6, 1, 1, dtype=F64), Probes(model, eps))
    law = stationary_distribution(kernels)
    assert float((law - model.prior).abs().max()) > 0.01


def test_draws_of_all_classes_estimate_the_kernel_of_each():
    """The balance heuristic changes the variance, not the mean: quadrature says what it is."""
    weight, prior = EMBEDDINGS["plane"]
    schedule = SCHEDULES["cosine"]()
    levels = times_at(schedule, [-1.0, 0.0, 1.0])
    model = ExactModel(prior, weight, schedule, levels)
    eps = shared_draws(100_000, 2, torch.Generator().manual_seed(0)).double()
    kernels = block_kernels(model, torch.zeros(3, 2, 1, dtype=F64), Probes(model, eps))
    assert kernels.shape == (3, 2, 3, 3)
    nodes, mass = normal_nodes(2)
    signal, noise = model.schedule.signal(model.levels), model.schedule.noise(model.levels)
    z = kernel_latents(model.embedding.weight, signal, noise, nodes)
    p = model.posterior(z, model.levels[:, None, None, None])
    exact = torch.einsum("lcny,n->lcy", p, mass)
    torch.testing.assert_close(kernels[:, 0], exact, rtol=0, atol=3e-3)
    torch.testing.assert_close(kernels[:, 1], exact, rtol=0, atol=3e-3)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_shares_are_densities_of_a_draw_over_their_sum(scale):
    weight = scale * torch.tensor(EMBEDDINGS["plane"][0], dtype=F64)
    signal, noise = torch.tensor([0.3, 0.9]) / scale, torch.tensor([0.8, 0.4], dtype=F64)
    eps = shared_draws(4, 2, torch.Generator().manual_seed(0)).double()
    origin = weight[1:]
    shares = latent_shares(origin, weight, signal, noise, eps)
    assert shares.shape == (2, 2, 4, 3)
    for level in range(2):
        for k in range(2):
            for d in range(4):
                z = signal[level] * origin[k] + noise[level] * eps[d]
                density = [
                    multivariate_normal.pdf(z, signal[level] * w, float(noise[level]) ** 2)
                    for w in weight
                ]
                expected = torch.tensor(density / np.sum(density))
                torch.testing.assert_close(shares[level, k, d], expected, rtol=1e-6, atol=1e-12)


@given(st.integers(2, 5).flatmap(lambda k: arrays(float, (k, k), elements=st.floats(0, 3))))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_kernels_from_flows_are_markov_with_the_flows_law(flow):
    flow = torch.tensor(flow) + 1e-3
    kernel = kernel_from_flow(flow)
    torch.testing.assert_close(kernel.sum(1), torch.ones(len(flow), dtype=F64))
    assert float(kernel.min()) >= -1e-15
    torch.testing.assert_close(stationary_distribution(kernel), stationary_distribution(flow))


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("n_draws", [1, 4])
def test_kernels_over_candidates_keep_the_exact_law(n_draws, conditional):
    """Restricting a reversible chain to some states restricts its law to them.

    So does asking for probabilities given that the class is one of them.
    """
    weight, prior = EMBEDDINGS["fewer dimensions than classes"]
    eps = shared_draws(n_draws, 1, torch.Generator().manual_seed(0)).double()
    model = ExactModel(prior, weight, SCHEDULES["cosine"](), [0.4], conditional=conditional)
    candidates = torch.tensor([[3, 0, 2], [1, 2, 3]])
    law = stationary_distribution(
        class_flows(model, torch.zeros(1, 2, 1, dtype=F64), Probes(model, eps), candidates)
    )[0]
    expected = torch.tensor([[0.2, 0.4, 0.3], [0.1, 0.3, 0.2]], dtype=F64)
    torch.testing.assert_close(law, expected / expected.sum(1, keepdim=True))


@pytest.mark.parametrize("variant", ["dt", "ct"])
def test_first_pass_asks_blocks_at_their_noisiest_level(variant, monkeypatch):
    """With signal at t = 0 too: sqrt(1 - s^2) of the mean embedding, s of the noise."""
    monkeypatch.setattr("sknoprop.inference.MAX_CANDIDATES", 2)
    W = np.array([[4.0, 1.0], [5.0, -1.0], [6.0, 3.0]])
    model, inputs, _ = toy_model(
        variant=variant, embedding=W, schedule=CosineSchedule(log_snr_min=-1.0)
    )
    eps = shared_draws(4, 2, torch.Generator().manual_seed(0)).double()
    features = model.encoder(inputs)
    with torch.no_grad():
        found, candidates = candidate_classes(model, features, Probes(model, eps))
        signal = torch.sigmoid(model.schedule.log_snr(model.partition.edges[:-1])).view(4, 1, 1, 1)
        assert float(signal[0]) == pytest.approx(1 / (1 + np.exp(1.0)))
        z = signal.sqrt() * torch.tensor([5.0, 1.0]) + (1 - signal).sqrt() * eps
        position = None if variant == "dt" else torch.zeros(4, 1, 1, dtype=F64)
        answers = torch.softmax(model.head(features, z, position), -1).mean(2)
    torch.testing.assert_close(found, answers[0])
    assert torch.equal(candidates, answers.mean(0).topk(2).indices)


@pytest.mark.parametrize("variant", ["dt", "fm"])
@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"head": "paper"},
        {"head": "paper", "batch_norm": True},
        {"parameterization": "velocity"},
        {"embedding": "learned", "embedding_dim": 3},
        {"embedding": "prototype", "head": "paper", "encoder": "cnn", "image_shape": (1, 8, 8)},
    ],
    ids=str,
)
def test_candidates_have_the_probabilities_that_all_classes_have(choice, variant):
    """Those of latents written out, given that the class is one of the row's; of any latents."""
    if choice.get("image_shape"):
        X, y = np.random.default_rng(0).random((12, 64)), np.arange(12) % 6
        params = fill_in(
            NoPropClassifier(variant, n_blocks=4, hidden_layer_sizes=(8,), **choice).get_params(),
            *(12, 6),
        )
        model = build_model(params, X, y, Seeds(0), 6).double().eval()
        inputs = model.encoder.prepare(torch.tensor(X).view(12, 1, 8, 8))
    else:
        model, inputs, _ = toy_model(6, variant=variant, **choice)
        model.eval()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():  # biases and moments start out as if they were not there
        for name, tensor in model.head.state_dict().items():
            draw = torch.rand(tensor.shape, generator=rng, dtype=torch.float64) + 0.5
            tensor.copy_(draw if name.endswith("var") else draw - 1.0)
    weight, eps = model.embedding.weight, torch.randn(3, model.embedding.dim, generator=rng)
    classes = torch.stack([torch.randperm(6, generator=rng)[:4] for _ in inputs])
    t = kernel_levels(model)[:, 0]
    level = model.schedule.signal(t), model.schedule.noise(t), eps.double()
    with torch.no_grad():
        features = model.encoder(inputs)
        z, _ = next(iter(Probes(model, eps.double()))).of_candidates(classes, slice(1, 3))
        found = model.class_probabilities(features, z, t[:, None, None])
        z = kernel_latents(weight[classes[:, 1:3]], *level).flatten(2, 3)
        p = model.class_probabilities(features, z, t[:, None, None])
    expected = p.gather(-1, classes[None, :, None].expand(*p.shape[:3], -1))
    found, expected = (q / q.sum(-1, keepdim=True).clamp_min(1e-30) for q in (found, expected))
    torch.testing.assert_close(found, expected)


def test_candidates_divide_their_mass_anew_and_leave_the_rest(monkeypatch):
    """Where classes are not equally far from their mean; elsewhere blocks are asked there alone."""
    monkeypatch.setattr("sknoprop.inference.MAX_CANDIDATES", 2)
    embedding = np.array([[4.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 1.0, 1.0]])
    model, inputs, _ = toy_model(n_classes=4, embedding=embedding)
    eps = shared_draws(4, 3, torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        features = model.encoder(inputs)
        found = kernel_probabilities(model, features, Probes(model, eps))
        first, candidates = candidate_classes(model, features, Probes(model, eps))
        law = stationary_distribution(class_flows(model, features, Probes(model, eps), candidates))
    for row, pair in enumerate(candidates.tolist()):
        rest = [c for c in range(4) if c not in pair]
        for block in range(4):
            own = found[block, row]
            torch.testing.assert_close(own[rest], first[row, rest])
            torch.testing.assert_close(own[pair] / own[pair].sum(), law[block, row])
            assert float(own.sum()) == pytest.approx(1.0)


@pytest.mark.parametrize("variant", ["dt", "ct", "fm"])
def test_blocks_are_asked_at_times_of_their_own(variant):
    """The one level of a block, or the middles of three parts of its interval."""
    model, inputs, _ = toy_model(variant=variant, partition="uniform")
    asked = []
    model.head.register_forward_pre_hook(lambda _, arguments: asked.append(arguments[1:]))
    with torch.no_grad():
        probes = Probes(model, torch.zeros(1, 3, dtype=F64))
        block_kernels(model, model.encoder(inputs), probes)
        block = torch.arange(4, dtype=F64)
        parts = [0.0] if variant == "dt" else [1 / 6, 3 / 6, 5 / 6]
        assert len(asked) == len(parts)
        for (z, position), part in zip(asked, parts, strict=True):
            signal = model.schedule.signal((block + part) / 4 * model.path.horizon)
            expected = signal.view(4, 1, 1, 1) * torch.eye(3, dtype=F64)
            torch.testing.assert_close(z, expected, rtol=1e-5, atol=1e-7)
            if variant == "dt":
                assert position is None
            else:
                told = torch.full((4, 1, 1), part, dtype=F64)
                torch.testing.assert_close(position, told, rtol=1e-5, atol=0)


@pytest.mark.parametrize("n_draws", [1, 2, 3, 8])
def test_draws_of_predictions_sum_to_nothing(n_draws):
    """Each has its opposite; one that has none is zero."""
    model, *_ = toy_model()
    eps = prediction_draws(model, n_draws, entropy=5)
    assert eps.shape == (n_draws, 3)
    torch.testing.assert_close(eps.sum(0), torch.zeros(3, dtype=F64))
    assert int((eps == 0.0).all(1).sum()) == n_draws % 2
    assert len(torch.unique(eps, dim=0)) == n_draws


@pytest.mark.usefixtures("untouched_generators")
def test_draws_are_those_of_their_generator():
    one, other, third = (
        shared_draws(4, 3, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(one, other)
    assert not torch.equal(one, third)


@given(
    st.integers(2, 7).flatmap(
        lambda k: st.lists(
            st.lists(st.floats(1e-9, 1.0), min_size=k, max_size=k), min_size=k, max_size=k
        )
    )
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_stationary_distribution_solves_the_balance_equations(rows):
    kernel = torch.tensor(rows, dtype=F64)
    kernel = kernel / kernel.sum(1, keepdim=True)
    law = stationary_distribution(kernel)
    assert float(law.sum()) == pytest.approx(1.0)
    torch.testing.assert_close(law @ kernel, law, rtol=1e-9, atol=1e-12)


def test_stationary_distribution_matches_eigenvectors():
    generator = np.random.default_rng(0)
    kernel = generator.dirichlet(np.full(6, 0.5), size=(50, 6))
    given = torch.tensor(kernel)
    law = stationary_distribution(given).numpy()
    assert (given.numpy() == kernel).all()
    assert (stationary_distribution(given, overwrite_kernel=True).numpy() == law).all()
    for matrix, vector in zip(kernel, law, strict=True):
        values, vectors = np.linalg.eig(matrix.T)
        expected = np.real(vectors[:, np.argmax(values.real)])
        np.testing.assert_allclose(vector, expected / expected.sum(), rtol=1e-8)


def test_nearly_identity_kernels_keep_relative_accuracy():
    """Two classes: the law is the ratio of the two rates, however small they are."""
    for rate in (1e-3, 1e-12, 1e-25):
        kernel = torch.tensor([[1 - 3 * rate, 3 * rate], [rate, 1 - rate]], dtype=F64)
        law = stationary_distribution(kernel)
        torch.testing.assert_close(law, torch.tensor([0.25, 0.75], dtype=F64))


@pytest.mark.parametrize(("log_snr", "n_classes"), [(4.5, 2), (5.5, 2), (5.0, 4), (6.5, 4)])
def test_an_exact_posterior_close_to_the_label_still_has_its_law(log_snr, n_classes):
    """Where what leaves a class is 1e-60 and less: only the ratios count."""
    prior = np.arange(1.0, n_classes + 1) / np.arange(1.0, n_classes + 1).sum()
    weight = np.eye(4) if n_classes == 4 else [[-1.0], [1.0]]
    model = ExactModel(prior, weight, CosineSchedule(), times_at(CosineSchedule(), [log_snr]))
    eps = shared_draws(2, len(weight[0]), torch.Generator().manual_seed(0)).double()
    flow = class_flows(model, torch.zeros(1, 1, 1, dtype=F64), Probes(model, eps))[0, 0]
    assert 0.0 < float(flow[0, 1]) < (1e-60 if n_classes == 2 else 1e-30)
    torch.testing.assert_close(stationary_distribution(flow), model.prior, rtol=1e-6, atol=0)


@pytest.mark.parametrize("restricted", [False, True])
@pytest.mark.parametrize("variant", ["ct", "fm"])
@torch.no_grad()
def test_what_leaves_a_class_is_the_mean_over_its_blocks_levels(variant, restricted):
    model, inputs, _ = toy_model(5, variant=variant)
    features = model.encoder(inputs)
    eps = shared_draws(2, 5, torch.Generator().manual_seed(0)).double()
    candidates = (
        (torch.arange(len(inputs))[:, None] + torch.tensor([0, 1, 3])) % 5 if restricted else None
    )
    probes, at_level = Probes(model, eps), []
    for level in probes:
        alone = Probes(model, eps)
        alone.levels = [level]
        at_level.append(class_flows(model, features, alone, candidates) / len(eps))
    assert len(at_level) == 3, "ten levels at least, four blocks"
    assert not torch.allclose(at_level[0], at_level[-1], rtol=0.01)
    found = class_flows(model, features, probes, candidates) / (len(probes) * len(eps))
    leaving = ~torch.eye(found.shape[-1], dtype=torch.bool)
    expected = sum(at_level) / 3
    torch.testing.assert_close(found[..., leaving], expected[..., leaving], rtol=1e-12, atol=0)


def test_identity_kernel_gives_no_opinion():
    law = stationary_distribution(torch.eye(4, dtype=F64))
    torch.testing.assert_close(law, torch.full((4,), 0.25, dtype=F64))


def test_retention_is_the_mean_of_the_other_eigenvalues():
    kernel = np.random.default_rng(1).dirichlet(np.ones(5), size=5)
    values = np.linalg.eigvals(kernel)
    expected = (values.sum().real - 1) / 4
    assert float(retention(torch.tensor(kernel))) == pytest.approx(expected)


def test_draws_come_in_antithetic_pairs():
    draws = shared_draws(6, 3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(draws[:3], -draws[3:])
    assert shared_draws(5, 3, torch.Generator().manual_seed(0)).shape == (5, 3)


def test_latents_are_noised_embeddings():
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    eps = torch.tensor([[0.5, -0.5], [1.0, 0.0], [0.0, 0.0]])
    z = kernel_latents(weight, torch.tensor([0.1, 0.9]), torch.tensor([2.0, 0.3]), eps)
    assert z.shape == (2, 2, 3, 2)
    for level, (m, s) in enumerate([(0.1, 2.0), (0.9, 0.3)]):
        for c in range(2):
            for d in range(3):
                torch.testing.assert_close(z[level, c, d], m * weight[c] + s * eps[d])


@pytest.mark.parametrize("origin", [0.0, 1e4])
@pytest.mark.parametrize("part", [slice(0, 4), slice(1, 3)])
def test_candidates_count_as_much_as_their_densities_say(origin, part, monkeypatch):
    """Distances of all pairs, kept, against those of each row's own embeddings, and where they lie
    far from zero."""
    model, inputs, _ = toy_model(6, embedding="learned", embedding_dim=3)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.embedding.weight.copy_(torch.randn(6, 3, generator=rng) + origin)
    eps = torch.randn(3, 3, generator=rng).double()
    classes = torch.stack([torch.randperm(6, generator=rng)[:4] for _ in inputs])
    weight = model.embedding.weight.detach()
    with torch.no_grad():
        (probe,) = Probes(model, eps)
        _, found = probe.of_candidates(classes, part)
        monkeypatch.setattr("sknoprop.probes.MOST_PAIRS", 35)
        (probe,) = Probes(model, eps)
        _, written_out = probe.of_candidates(classes, part)
        signal, noise = model.schedule.signal(probe.t), model.schedule.noise(probe.t)
        z = kernel_latents(weight[classes[:, part]], signal, noise, eps).flatten(2, 3)
        means = signal.view(-1, 1, 1, 1) * weight[classes]
        apart = torch.cdist(z, means, compute_mode="donot_use_mm_for_euclid_dist")
        expected = torch.softmax(-0.5 * (apart / noise.view(-1, 1, 1, 1)) ** 2, -1)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(written_out, expected, rtol=1e-6, atol=1e-9)
