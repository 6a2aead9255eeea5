"""A federation from partition to report: train on Flower, attack as one of the learners, control, conclude."""
