"""Registered models: packed, reloaded in a fresh process, compared, and only then given a version.

The entry points are :func:`moodscale.registry.register.register` and
:func:`moodscale.registry.predict.predict_from_registry`. Nothing is imported here: configuration reads
``registry.config`` and must not pay for MLflow and torch.
"""
