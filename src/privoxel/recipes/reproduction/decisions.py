"""What was decided where the paper is silent, said with the values that the run used."""

from privoxel.attacks import ATTACKS
from privoxel.attacks.forest import ErrorForest
from privoxel.attacks.paper import COMBINED
from privoxel.evaluation.draws import PAPER_LEAK
from privoxel.evaluation.reproduction_results import Decision
from privoxel.recipes.federation.settings import FederateConfig
from privoxel.recipes.reproduction.central import CentralScale
from privoxel.recipes.reproduction.shadow import FITTED, KNOWN


def decisions(scale: CentralScale, federation: FederateConfig) -> list[Decision]:
    """Return every open question of the paper and what this run took."""
    run, private = scale.run, scale.private
    models = {one.model: one for one in scale.private_models()}
    configs = [scale.config_of(one) for one in models.values()]
    training = configs[0].training
    epochs = ", ".join(
        f"{one.models[0].epochs or one.training.epochs} ({name})"
        for name, one in zip(models, configs, strict=True)
    )
    attack = federation.attack
    told = {
        "Dropout of the attack's head": f"{COMBINED.dropout:g}",
        "Attack network: epochs, patience": f"{COMBINED.epochs} and {COMBINED.patience} for as many "
        "leaked scans as the paper has; more epochs where there are fewer, so that the number of steps "
        "stays comparable",
        "Which validation quantity chooses the attack's epoch": "cross-entropy on a fifth of the leaked "
        "participants",
        "Random forest of the row 'error'": f"scikit-learn's defaults, {ErrorForest().trees} fully grown "
        "trees, on the signed error; its threshold is set on out-of-fold votes of the leaked participants",
        "Scaling of features": "standardised on the leaked scans; entries without spread are dropped",
        "State of the network while features are read": "evaluation (no dropout); gradients of the "
        "squared error of each scan alone",
        "Which layer's activations": "conv 5, with a copy of the later layers as the encoder",
        "Are the attacked participants drawn anew for each of the five attacks": f"yes: "
        f"{100 * PAPER_LEAK:.0f} % of each class are leaked, the rest is judged, "
        f"{run.attacks.repeats or 5} draws",
        "Seed and strata of the central split": f"seed {run.seed}, spread evenly over age",
        "Size of the federated test": "the victim's scans, and the half of the unseen participants that "
        "no attacker knows",
        "Do unseen participants differ between attackers": f"no: one seeded half is for learning (at most "
        f"{attack.known} of it and as many own scans), the other is judged by all",
        "Optimiser's state between rounds": "not kept: every learner starts each round anew",
        "Private training: clip, batch, epochs, rate": f"clip {private.clip:g}, batch "
        f"{training.batch_size} (drawn by coins), epochs {epochs}, learning rate "
        f"{training.learning_rate:g}, DP-Adam",
        "Private training: noise": "; ".join(
            f"{name}: {', '.join(f'{noise:g}' for noise in values)}" for name, values in private.noise.items()
        ),
        "Attack on the private models": f"{ATTACKS[private.primary].title}, fixed beforehand",
        "Weight decay of private training": f"{training.weight_decay:g}, as without privacy",
        "Appendix E: known non-members": f"{100 * KNOWN:.0f} % of the unseen participants are the shadow's "
        f"non-members, the rest is judged; the classifier learns from {100 * FITTED:.0f} % of the "
        f"shadow's participants in balanced numbers, the rest is its validation; {scale.shadow.repeats} "
        "attacks",
    }
    return [Decision(question=question, decided=decided) for question, decided in told.items()]
