"""Brains from physics: anatomy, tumour growth, MR signal, scanner. No patient in them."""

from medsynth.phantom.phantom import REVISION, Phantom, make

__all__ = ["REVISION", "Phantom", "make"]
