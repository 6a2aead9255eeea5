"""From raw T1-weighted scans of heads to brains on the model's grid in MNI152 space.

Reorient; find the brain (deepbet); even out the coil's shading (N4); register to the ICBM152 template that
nilearn carries, rigid then affine (SimpleITK, mutual information); average over the voxels of the grid.
``brain`` is the only door to deepbet and ``itk`` the only one to SimpleITK; the rest is NumPy and SciPy.
"""
