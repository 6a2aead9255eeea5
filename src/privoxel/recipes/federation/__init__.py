"""A federation from partition to report: train on Flower, attack as a learner, control, conclude."""
