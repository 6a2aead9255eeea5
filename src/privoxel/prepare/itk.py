"""The one door to SimpleITK: N4 bias correction, and rigid then affine registration.

Images come and go as canonical arrays with a RAS+ affine; ITK's LPS+ world stays in here. Both steps are
repeatable: the metric's random points are drawn from a seed, and ITK computes on one thread.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from privoxel.arrays import BoolArray, Float32Array, FloatArray
from privoxel.cohort.preprocess import Oriented, VolumeError
from privoxel.prepare.geometry import FLIP, lps

N4_MM = 4.0
N4_ITERATIONS = (50, 50, 50, 50)
RIGID_SHRINK, AFFINE_SHRINK = (8, 4, 2), (4, 2, 1)
BINS, SAMPLED = 32, 0.2
FIRST_STEP_MM, LAST_STEP_MM, MOST_STEPS = 4.0, 1e-4, 200


def _toolkit() -> Any:
    import SimpleITK  # noqa: PLC0415 - an extra

    return SimpleITK


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run a block with ITK on one thread: sums over threads depend on how many there are."""
    process: Any = _toolkit().ProcessObject
    before = process.GetGlobalDefaultNumberOfThreads()
    process.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        process.SetGlobalDefaultNumberOfThreads(before)


def itk_image(array: Any, affine: FloatArray) -> Any:
    """Return a canonical array as a SimpleITK image."""
    sitk = _toolkit()

    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    to_lps = (FLIP @ affine)[:3]
    spacing = np.linalg.norm(to_lps[:, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(to_lps[:, 3].tolist())
    image.SetDirection((to_lps[:, :3] / spacing).ravel().tolist())
    return image


@_one_thread()
def evened(head: Oriented, mask: BoolArray) -> Float32Array:
    """Return the head without its smooth shading, as estimated within ``mask`` (N4; Tustison et al. 2010).

    The field is fitted on voxels of about 4 mm and taken from the head at full resolution.

    Raises:
        VolumeError: if N4 gives up.
    """
    sitk = _toolkit()

    whole = itk_image(head.array, head.affine)
    shrink = [max(1, round(N4_MM / mm)) for mm in whole.GetSpacing()]
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations(N4_ITERATIONS)
    small = sitk.Shrink(itk_image(mask.astype(np.uint8), head.affine), shrink)
    try:
        corrector.Execute(sitk.Shrink(whole, shrink), small)
    except RuntimeError as error:
        raise VolumeError(
            "has shading that cannot be estimated (N4)", "Look at the scan: is its brain whole and bright?"
        ) from error
    field = sitk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(whole)).transpose(2, 1, 0)
    return (head.array / np.exp(field)).astype(np.float32)


@_one_thread()
def registered(
    template: Oriented, brain: Oriented, start: FloatArray, centre: FloatArray, *, seed: int
) -> FloatArray:
    """Return the affine map from the template's world to the scan's (RAS+, mm) under which the two fit best.

    Mattes mutual information by gradient descent over three resolutions, first over the six parameters of a
    rigid map, then over all twelve.

    Args:
        template: brain of the template on its grid.
        brain: brain of the scan, anything outside it 0.
        start: map to start from.
        centre: point of the template's world about which the map turns, mm.
        seed: of the points at which the metric is taken.

    Raises:
        VolumeError: if no overlap is left.
    """
    sitk = _toolkit()

    fixed, moving = itk_image(template.array, template.affine), itk_image(brain.array, brain.affine)
    start_lps, centre_lps = lps(start), FLIP[:3, :3] @ centre
    rigid = sitk.Euler3DTransform()
    rigid.SetCenter(centre_lps.tolist())
    rigid.SetMatrix(start_lps[:3, :3].ravel().tolist())
    rigid.SetTranslation((start_lps[:3, 3] + start_lps[:3, :3] @ centre_lps - centre_lps).tolist())
    try:
        _descend(fixed, moving, rigid, RIGID_SHRINK, seed=seed)
        affine = sitk.AffineTransform(3)
        affine.SetCenter(centre_lps.tolist())
        affine.SetMatrix(rigid.GetMatrix())
        affine.SetTranslation(rigid.GetTranslation())
        _descend(fixed, moving, affine, AFFINE_SHRINK, seed=seed + 1)
    except RuntimeError as error:
        raise VolumeError(
            "cannot be registered to the template (the two no longer overlap)",
            "Look at the scan: is it a whole head, and is its affine right?",
        ) from error
    return lps(_matrix(affine))


def _descend(fixed: Any, moving: Any, transform: Any, shrink: tuple[int, ...], *, seed: int) -> None:
    """Improve ``transform`` in place, from coarse to fine.

    The step halves whenever the direction turns round, and the search ends when it is tiny. Plain gradient
    descent, which ends when the metric settles, stops after some ten steps on this noisy metric: 4.7 mm from
    the truth where this comes to 2.3.
    """
    sitk = _toolkit()

    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(SAMPLED, seed % (2**31 - 1) + 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel(shrink)
    method.SetSmoothingSigmasPerLevel([float(factor) if factor > 1 else 0.0 for factor in shrink])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=FIRST_STEP_MM, minStep=LAST_STEP_MM, numberOfIterations=MOST_STEPS, relaxationFactor=0.5
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed, moving)
    if not math.isfinite(method.GetMetricValue()):
        raise RuntimeError("the metric is not finite")


def _matrix(transform: Any) -> FloatArray:
    """Return an affine ITK transform as 4 × 4, its centre absorbed."""
    matrix = np.eye(4)
    linear = np.array(transform.GetMatrix()).reshape(3, 3)
    centre = np.array(transform.GetCenter())
    matrix[:3, :3] = linear
    matrix[:3, 3] = np.array(transform.GetTranslation()) + centre - linear @ centre
    return matrix
