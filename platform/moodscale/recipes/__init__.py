"""One file a published system: what an example is, which model is built, the loss, what a prediction is."""
