"""The climb from one-hot vectors to GPT: a rung is a model, trained, measured and shown."""
