"""Every public name of this package, written once."""
# ruff: noqa: PLC0414 - the alias says to type checkers that the name is exported

from .answers import answer as answer
from .answers import tool_call as tool_call
from .capacity import Capacity as Capacity
from .capacity import ConcurrencyCap as ConcurrencyCap
from .capacity import FixedWindow as FixedWindow
from .capacity import Refusal as Refusal
from .capacity import TokenBucket as TokenBucket
from .chaos import DISTURBANCES as DISTURBANCES
from .chaos import EVERYDAY as EVERYDAY
from .chaos import ChaosTransport as ChaosTransport
from .chaos import Disturbance as Disturbance
from .failures import FAILURES as FAILURES
from .failures import failure as failure
from .gateway import Gateway as Gateway
from .received import ReceivedRequest as ReceivedRequest
from .replies import Reply as Reply
from .replies import error_reply as error_reply
from .replies import html_reply as html_reply
from .replies import json_reply as json_reply
from .replies import stream_reply as stream_reply
from .statistics import Sample as Sample
from .statistics import Statistics as Statistics
from .thread import GatewayInThread as GatewayInThread
from .transport import GatewayTransport as GatewayTransport
from .waiting import no_waiting as no_waiting
