"""Differentially private training: DP-SGD and DP-Adam (Abadi et al. 2016), the only door to Opacus.

A participant's privacy is what is accounted: each is drawn into a batch by a coin of its own (Poisson
sampling), gives one clipped gradient, and Gaussian noise is added to the sum.
"""
