"""Brains from physics: anatomy, tumour growth, MR signal, scanner. No patient in them."""

from medsynth.phantom.phantom import Phantom, make

__all__ = ["Phantom", "make"]
