"""The paper's tables and figures of federations, measured beside published."""
