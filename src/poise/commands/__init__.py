"""The commands: each a dataclass whose fields are its flags; called, it returns an exit code.

JAX takes most of a second to import, so only a command that needs it does, when it is called.
"""
