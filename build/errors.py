"""What can go wrong in the pipeline, as one small tree.

PipelineError                the message names the cause and the fix; nobody needs the traceback
├── SettingError             a parameter given to doit or written in presets.toml
├── SourceError              files that should be downloaded or copied are missing, incomplete or not the pinned ones
├── CheckpointError          a checkpoint is not of the kind that the stage takes
├── ManifestError            a stage's folder is missing, half-written or not what its manifest says
├── PromptError              the task file does not fit the tokenizer, or is wrong in itself
├── EngineError              the engine could not be built
└── ServerError              tritonserver could not be started, or stopped by itself
    ├── PortInUseError       another process listens on a port that the server needs
    └── OverloadedError      a running server refused a tag for want of room, or gave none in time

Add a class only where a caller treats it differently.
"""


class PipelineError(Exception):
    """Base of all errors that the pipeline raises on purpose."""


class SettingError(PipelineError):
    """A setting has a value that cannot work."""


class SourceError(PipelineError):
    """The source of a model is missing, incomplete or not the pinned one."""


class CheckpointError(PipelineError):
    """A checkpoint is not of the kind that the stage takes."""


class ManifestError(PipelineError):
    """A stage's folder has no manifest, or does not match it."""


class PromptError(PipelineError):
    """The task file is wrong in itself, or does not fit the tokenizer."""


class EngineError(PipelineError):
    """The engine could not be built."""


class ServerError(PipelineError):
    """Tritonserver could not be started, or stopped by itself."""


class PortInUseError(ServerError):
    """Another process listens on a port that the server needs."""


class OverloadedError(ServerError):
    """A running server refused a tag for want of room, or gave none in time: it may only have too much to do."""
