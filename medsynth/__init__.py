"""Synthetic brain MRI from editable tumour label maps, and the measurements that go with it."""

__version__ = "0.1.0"
