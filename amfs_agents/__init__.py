"""AMFS for the frameworks that people build agents with."""
