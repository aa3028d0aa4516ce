"""The command `jaxformer`: the rim, where settings, files and messages meet the library."""
