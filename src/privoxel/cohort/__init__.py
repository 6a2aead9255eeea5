"""Cohorts: real and simulated scans, their ages, their splits."""
