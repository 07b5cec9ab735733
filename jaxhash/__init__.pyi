from . import codes as codes
from . import data as data
from . import encoding as encoding
from . import hashing as hashing
from . import models as models
from . import plots as plots
from . import regions as regions
from . import runtime as runtime
from . import storage as storage
from . import sweeps as sweeps
from . import terminal as terminal
from . import training as training
from .codes.code import Code as Code
from .codes.properties import measure as measure
from .encoding.transform import encode as encode
from .encoding.transform import encode_with_output as encode_with_output
from .hashing.keys.source import KeyFile as KeyFile
from .hashing.perfect.fitting import FitConfig as FitConfig
from .hashing.perfect.fitting import NotPerfect as NotPerfect
from .hashing.perfect.fitting import fit as fit
from .hashing.perfect.hasher import Hasher as Hasher
from .hashing.perfect.hasher import load_hasher as load_hasher
from .sweeps.models import Model as Model
from .sweeps.models import load as load
from .terminal.any_model import sweep as sweep

__version__: str
