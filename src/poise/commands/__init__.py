"""The commands: dataclasses whose fields are the flags. Calling one returns an exit code.

Importing JAX takes most of a second, so a command imports it only if needed, when it is called.
"""
