"""Configuration → objects: the only package that knows both."""
