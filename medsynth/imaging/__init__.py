"""The image-to-image GAN: label maps to MRI, MRI to label maps, any channels to any channels."""

from medsynth.imaging.synthesizer import Synthesizer, load

__all__ = ["Synthesizer", "load"]
