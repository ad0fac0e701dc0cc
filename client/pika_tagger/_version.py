"""The version of the library, alone in a file so that every module can name it."""

__version__ = "0.1.0"
