"""Federated averaging in one process and a few lines: no engine, no messages, no files.

Each learner starts from the community model and takes plain steps (with FedProx's pull, if there is one);
the community model becomes the mean.
Only the names of the random streams are shared with what it is the twin of.
"""

from copy import deepcopy

import torch
from torch import nn

from privoxel.seeding import Streams


def fedavg(build, cohort, learners, job, streams: Streams) -> list[dict[str, torch.Tensor]]:
    """Return the learnable weights of the initial model and of the community model of every round."""
    model = build()
    rounds = [weights_of(model)]
    for number in range(1, job.rounds + 1):
        local = []
        for learner in learners:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    parameter.copy_(rounds[-1][name])
            local.append(trained(model, cohort, learner, job, number, streams))
        counts = [len(learner.rows) if job.weighted else 1 for learner in learners]
        shares = [count / sum(counts) for count in counts]
        rounds.append(
            {name: sum(s * w[name] for s, w in zip(shares, local, strict=True)) for name in rounds[-1]}
        )
    return rounds


def trained(model: nn.Module, cohort, learner, job, number, streams) -> dict[str, torch.Tensor]:
    own = streams.child(f"learner/{learner.name}")
    community = weights_of(model)
    model.train()
    for epoch in range(1, job.local_epochs + 1):
        order = own.generator(f"order/{number}/{epoch}").permutation(learner.rows)
        with torch.random.fork_rng():
            torch.manual_seed(own.seed(f"dropout/{number}/{epoch}"))
            for start in range(0, len(order), job.batch_size):
                batch = order[start : start + job.batch_size]
                ages = torch.as_tensor(cohort.covariates.age[batch], dtype=torch.float32)
                loss = ((model(torch.from_numpy(cohort.batch(batch))) - ages) ** 2).mean() / job.loss_scale
                for name, parameter in model.named_parameters() if job.proximal_mu else ():
                    loss = loss + job.proximal_mu / 2 * ((parameter - community[name]) ** 2).sum()
                model.zero_grad()
                loss.backward()
                with torch.no_grad():
                    for parameter in model.parameters():
                        parameter.add_(parameter.grad, alpha=-job.learning_rate)
    return weights_of(model)


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: deepcopy(parameter.detach()) for name, parameter in model.named_parameters()}
