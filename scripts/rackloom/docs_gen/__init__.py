"""Reference pages written from the sources that they describe: ``python -m rackloom.docs_gen``."""
