"""A network that is looked into: from its weights and scans to the run folder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from privoxel.attacks.base import ThreatModel
from privoxel.cohort.memberships import group_by_ids
from privoxel.config import ModelConfig, RunConfig, SignalConfig
from privoxel.errors import ConfigError, ModelError, ModelProblemsError
from privoxel.models.adapted import WhiteBox
from privoxel.models.factories import build_from
from privoxel.models.heads import Gaussian, Scalar, SoftBins
from privoxel.models.weights import read_weights
from privoxel.progress import Silent
from privoxel.recipes.brought_settings import BroughtAudit
from privoxel.recipes.doors import audit
from privoxel.recipes.target import TargetPlan, Workplace
from privoxel.recipes.white_box import (
    brought_white_box,
    checked_model,
    observe_model,
    open_network,
    white_box_attacks,
)
from privoxel.store import open_run
from privoxel.training.runtime import Runtime
from tests.brought_networks import in_place
from tests.conftest import make_cohort

COHORT = make_cohort(40)
PEOPLE = COHORT.covariates.participants
MEMBERS = PEOPLE[:20]
QUICK = ("abs-error", "gradient-norm", "stacked")


def overfitted(net, *, steps=120):
    """Return ``net`` trained on the members alone until it knows them."""
    volumes = torch.from_numpy(COHORT.batch(range(20)))
    ages = torch.as_tensor(COHORT.covariates.age[:20], dtype=torch.float32)
    optimiser = torch.optim.Adam(net.parameters(), 0.02)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net.train()
        for _ in range(steps):
            optimiser.zero_grad()
            (net(volumes).flatten() - ages).square().mean().backward()
            optimiser.step()
    return net.eval()


class Memoriser(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm3d(4)
        self.last = nn.Conv3d(4, 6, 2, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6 * 4 * 5 * 4, 1)
        nn.init.constant_(self.head.bias, 62.0)

    def forward(self, volumes):
        maps = self.relu(self.norm(self.conv(volumes)))
        return self.head(self.relu(self.last(maps)).flatten(1))


def memoriser(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Memoriser()


@pytest.fixture(scope="module")
def trained():
    return overfitted(memoriser())


@pytest.fixture(scope="module")
def finished(trained, tmp_path_factory):
    options = BroughtAudit(attacks=QUICK, primary="gradient-norm", runtime=Runtime(threads=1))
    box = WhiteBox(trained, layers=("norm",))
    return audit(box, COHORT, members=MEMBERS, output=tmp_path_factory.mktemp("w") / "run", options=options)


def test_a_network_that_knows_its_members_leaks(finished):
    (target,) = finished.results.targets
    aucs = {attack.name: attack.metrics["auc"].value for attack in target.attacks}
    assert set(aucs) == set(QUICK)
    assert aucs["gradient-norm"] > 0.9
    assert finished.results.verdict.outcome == "leak shown"


def test_the_run_says_which_layers_play_which_role(finished):
    model = finished.results.config["model"]
    assert model["layers"] == {
        "conv1": "conv",
        "conv6": "last",
        "output": "head",
        "conv5": "what last reads",
        "norm": "norm",
    }
    assert model["head"]["kind"] == "Scalar"
    assert model["network"] == "Memoriser"


def test_copies_and_projections_are_made_for_the_attacks_that_read_them(trained, tmp_path):
    names = ("abs-error", "stability", "stability-rotation", "stability-noise", "projected-gradients")
    options = BroughtAudit(attacks=names, primary="abs-error", runtime=Runtime(threads=1))
    box = WhiteBox(trained)
    done = audit(box, COHORT, members=MEMBERS, output=tmp_path / "run", options=options, stability=True)
    (target,) = done.results.targets
    assert {attack.name for attack in target.attacks} == set(names)
    stored = np.load(tmp_path / "run" / "signals" / "Memoriser" / "copies" / "augmented_shift.npy")
    moved = np.roll(COHORT.batch([3]), -1, axis=2)  # the first copy: one voxel down the first axis
    moved[:, :, -1] = moved[:, :, -2]
    with torch.no_grad():
        slow = float(trained(torch.from_numpy(moved)))
    row = [scan.participant for scan in COHORT.covariates.scans].index(PEOPLE[3])
    assert stored[0, 0, row, 0] == pytest.approx(slow, rel=1e-4)
    with pytest.raises(ConfigError, match="needs attacks that work on it, got stability"):
        audit(box, COHORT, members=MEMBERS, output=tmp_path / "2", options=options)


def test_checkpoints_bring_the_attacks_along_the_training(tmp_path):
    early, late = overfitted(memoriser(), steps=3), overfitted(memoriser(), steps=120)
    torch.save(early.state_dict(), tmp_path / "early.pt")
    names = ("abs-error", "trajectory", "trajectory-fall", "movement-alignment")
    options = BroughtAudit(attacks=names, primary="trajectory-fall", runtime=Runtime(threads=1))
    given = {"members": MEMBERS, "options": options, "checkpoints": [tmp_path / "early.pt"]}
    done = audit(late, COHORT, output=tmp_path / "run", **given)
    (target,) = done.results.targets
    aucs = {attack.name: attack.metrics["auc"].value for attack in target.attacks}
    assert set(aucs) == set(names)
    kept = np.load(tmp_path / "run" / "signals" / "Memoriser" / "kept" / "prediction.npy")
    with torch.no_grad():
        slow = [net(torch.from_numpy(COHORT.batch(range(40)))).flatten().numpy() for net in (early, late)]
    np.testing.assert_allclose(kept[0], slow, rtol=1e-4)
    before, after = np.abs(np.stack(slow) - COHORT.covariates.age)
    of_all = roc_auc_score(np.arange(40) < 20, before - after)
    assert of_all > 0.6
    assert aucs["trajectory-fall"] == pytest.approx(of_all, abs=0.1)  # means over those each attacker judges
    with pytest.raises(ConfigError, match="--checkpoint needs a network to look into"):
        audit(late, COHORT, output=tmp_path / "2", black_box=True, **given)
    with pytest.raises(
        ConfigError, match="that work on it, got movement-alignment, trajectory, trajectory-fall"
    ):
        audit(late, COHORT, output=tmp_path / "3", **(given | {"checkpoints": []}))


def test_a_checkpoint_of_another_network_is_named(trained, tmp_path):
    torch.save(nn.Linear(3, 2).state_dict(), tmp_path / "other.pt")
    options = BroughtAudit(attacks=("trajectory",), primary="trajectory", runtime=Runtime(threads=1))
    with pytest.raises(ModelProblemsError, match=r"other.pt needs the \d+ tensors of Memoriser, got others"):
        audit(
            trained,
            COHORT,
            members=MEMBERS,
            output=tmp_path / "run",
            options=options,
            checkpoints=[tmp_path / "other.pt"],
        )


def observed(box, tmp_path, **settings):
    model = checked_model(box, COHORT, Runtime())
    grouped = group_by_ids(COHORT, MEMBERS, None)
    brought = brought_white_box(box, grouped, "net", signals=SignalConfig(**settings), runtime=Runtime())
    config = RunConfig(models=(ModelConfig(name="net"),), signals=SignalConfig(**settings))
    folder = open_run(tmp_path / "run", {"config": config.to_dict()}, resume=False, facts={})
    workplace = Workplace(config, COHORT, folder, Runtime(), Silent())
    plan = TargetPlan("net", config.models[0], grouped.design)
    if settings.get("extra"):
        return brought.observe(plan, (), workplace), model
    return observe_model(model, plan, workplace), model


@pytest.mark.parametrize(
    ("head", "outputs"),
    [(Scalar("huber", offset=60, scale=8), 1), (SoftBins(40, 90, width=5), 10), (Gaussian(), 2)],
    ids=lambda v: type(v).__name__,
)
def test_signals_are_those_of_the_slow_loop(head, outputs, tmp_path):
    box = WhiteBox(in_place(outputs), head)
    (found, model) = observed(box, tmp_path, batch_size=7)
    table = found.table
    slow = in_place(outputs).double()
    layers = model.located.roles
    for row in range(0, len(COHORT), 9):
        slow.zero_grad()
        output = slow(torch.from_numpy(COHORT.batch([row])).double())
        age = torch.tensor([COHORT.covariates.age[row]], dtype=torch.float64)
        head.losses(output, age).sum().backward()
        output = output.detach()
        gradients = {name: p.grad.numpy() for name, p in slow.named_parameters()}
        norms = np.array([np.linalg.norm(gradients[name]) for name in table.tensors])
        assert table.read("prediction")[row] == pytest.approx(float(head.ages(output)[0]), rel=1e-4)
        np.testing.assert_allclose(table.read("gradient-norms")[row], norms, atol=1e-4 * norms.max())
        for role, layer in layers.items():
            expected = gradients[f"{layer}.weight"]
            stored = table.read(f"gradient:{role}")[row]
            np.testing.assert_allclose(stored, expected, atol=2e-3 * np.abs(expected).max() + 1e-6)
        if isinstance(head, Gaussian):
            assert table.read("stated-sd")[row] == pytest.approx(float(head.sds(output)[0]), rel=1e-4)


def test_further_layers_and_projections_are_extracted_under_their_own_names(tmp_path):
    found, _ = observed(WhiteBox(in_place()), tmp_path, extra=("gradient:norm", "projection:16"))
    assert {"gradient:norm", "projection:16", "gradient:conv1", "activation:conv5"} <= set(found.table.values)
    assert found.table.read("projection:16").shape == (len(COHORT), 16)
    assert found.table.read("activation:conv5").shape == (len(COHORT), 4)
    assert found.table.tensors[0] == "stem.weight"


def test_signals_that_no_brought_model_has_are_refused():
    box = WhiteBox(in_place())
    grouped = group_by_ids(COHORT, MEMBERS, None)
    with pytest.raises(ModelError, match="got nowhere"):
        brought_white_box(
            box, grouped, "n", signals=SignalConfig(extra=("gradient:nowhere",)), runtime=Runtime()
        )


def test_attacks_are_those_whose_signals_and_formulas_fit_the_network():
    scalar = set(white_box_attacks(checked_model(WhiteBox(in_place()), COHORT, Runtime())))
    binned = set(
        white_box_attacks(checked_model(WhiteBox(in_place(10), SoftBins(40, 90, width=5)), COHORT, Runtime()))
    )
    stated = set(white_box_attacks(checked_model(WhiteBox(in_place(2), Gaussian()), COHORT, Runtime())))
    assert {"default", "activation", "gradient-conv1", "combined", "self-influence"} <= scalar
    assert scalar - binned == {"self-influence", "inverse-hessian"}
    assert stated - binned == {"stated-likelihood"}
    flat = WhiteBox(nn.Sequential(nn.Flatten(), nn.Linear(720, 1)))
    found = white_box_attacks(checked_model(flat, COHORT, Runtime()))
    assert "gradient-output" in found
    assert "activation" in found  # of what the head reads
    assert not {"gradient-conv1", "gradient-conv6", "combined"} & set(found)
    assert all(a.threat_model in {ThreatModel.BLACK_BOX, ThreatModel.WHITE_BOX} for a in found.values())


def test_everything_wrong_with_a_network_is_told_before_any_work():
    net = in_place(2)
    net.norm = nn.BatchNorm3d(4, track_running_stats=False)
    with pytest.raises(ModelProblemsError) as caught:
        checked_model(WhiteBox(net), COHORT, Runtime())
    assert {problem.where for problem in caught.value.problems} == {"batch norm", "batch", "output shape"}


def test_factories_are_called_and_weights_put_into_what_they_make(tmp_path):
    torch.save({f"module.{n}": t for n, t in in_place(seed=5).state_dict().items()}, tmp_path / "w.pt")
    box = open_network("tests.brought_networks:factory", weights=tmp_path / "w.pt")
    state = read_weights(tmp_path / "w.pt")
    assert all(torch.equal(state[f"module.{n}"], t) for n, t in box.net.state_dict().items())
    assert build_from("tests.brought_networks:binned").head == SoftBins(40.0, 90.0, width=5.0)
    assert build_from("tests.brought_networks:InPlace").head == Scalar()
    for place, words in (
        (
            "tests.brought_networks:not_a_network",
            r"needs an nn\.Module or a privoxel\.models\.WhiteBox, got str",
        ),
        ("tests.brought_networks:needs_arguments", "callable without arguments"),
        ("tests.brought_networks:boom", "brought_networks:boom needs to return a network, got KeyError"),
        ("tests.brought_networks:boxed_name", "brought_networks:boxed_name: WhiteBox needs a network"),
        ("tests.brought_networks:GRID", "needs a function, a class or a network, got tuple"),
        ("tests.brought_networks:nowhere", "needs the name 'nowhere'"),
        ("no.such.module:name", "needs a module that can be imported"),
    ):
        with pytest.raises(ModelError, match=words):
            build_from(place)


def test_a_target_is_for_heads_of_one_output(tmp_path):
    box = open_network("tests.brought_networks:of_three", target=2)
    assert box.head == Scalar(target=2)
    with pytest.raises(ModelError, match="needs the head Scalar, which reads one output, got SoftBins"):
        open_network("tests.brought_networks:binned", target=2)
    with pytest.raises(ModelError, match="got SoftBins"):
        audit(WhiteBox(in_place(10), SoftBins(40, 90, width=5)), COHORT, members=MEMBERS, target=2)


def test_a_factory_whose_weights_nobody_named_is_said_to_have_its_own(tmp_path, caplog):
    torch.save(in_place(seed=5).state_dict(), tmp_path / "w.pt")
    options = BroughtAudit(attacks=("abs-error",), primary="abs-error", runtime=Runtime(threads=1))
    groups, digests = {}, {}
    for name, weights in (("own", None), ("given", tmp_path / "w.pt")):
        results = audit(
            "tests.brought_networks:factory",
            COHORT,
            members=MEMBERS,
            non_members=PEOPLE[20:],
            output=tmp_path / name,
            options=options,
            weights=weights,
        ).results
        groups[name] = results.targets[0].design.get("groups", "")
        digests[name] = results.config["model"]["weights"]
    assert "those that its factory gave it" in groups["own"]
    assert "those that its factory gave it" in caplog.text
    assert "factory gave" not in groups["given"]
    assert digests["own"] != digests["given"]


def test_a_network_is_only_asked_where_that_is_wanted(trained, tmp_path):
    options = BroughtAudit(attacks=("abs-error",), primary="abs-error")
    outcome = audit(
        trained, COHORT, members=MEMBERS, output=tmp_path / "run", options=options, black_box=True
    )
    assert "layers" not in outcome.results.config["model"]
    with pytest.raises(ConfigError, match="gradient-norm"):
        audit(
            trained,
            COHORT,
            members=MEMBERS,
            output=tmp_path / "other",
            options=replace(options, primary="gradient-norm"),
            black_box=True,
        )


def test_other_weights_do_not_continue_a_run(trained, finished):
    folder = Path(finished.report).parent
    options = BroughtAudit(attacks=QUICK, primary="gradient-norm", runtime=Runtime(threads=1), resume=True)
    again = audit(
        WhiteBox(trained, layers=("norm",)), COHORT, members=MEMBERS, output=folder, options=options
    )
    assert again.results.verdict == finished.results.verdict
    with pytest.raises(Exception, match="weights"):
        audit(
            WhiteBox(memoriser(9), layers=("norm",)),
            COHORT,
            members=MEMBERS,
            output=folder,
            options=options,
        )
