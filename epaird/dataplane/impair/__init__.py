"""Impairment: what a line does to the frames of one direction of a cable."""
