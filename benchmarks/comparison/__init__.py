"""The comparison of privoxel's attacks with the paper's and with other tools' on the same trained targets."""
