"""Knowledge distillation on public brains: the student is what is released, and it never sees a member.

Shejwalkar and Houmansadr (2021, arXiv 1906.06589; DMP) for regression and with simulated scans as the public
data: a teacher is trained on the members, and a student on public scans with the teacher's predictions in
the place of ages.
"""

from dataclasses import replace

import numpy as np
from torch import nn

from privoxel.cohort.base import Cohort
from privoxel.training.loop import predict_ages
from privoxel.training.runtime import Runtime


def taught(public: Cohort, teacher: nn.Module, *, batch_size: int, runtime: Runtime) -> Cohort:
    """Return ``public`` with the ages (years) that ``teacher`` predicts."""
    ages = predict_ages(teacher, public, np.arange(len(public)), batch_size=batch_size, runtime=runtime)
    return replace(public, covariates=replace(public.covariates, age=ages))
