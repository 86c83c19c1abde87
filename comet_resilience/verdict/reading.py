"""An answer read as a person reads it: the subject, the party at fault, and if it will pass.

Three questions decide what to do about a failure: whose fault it is, whether the very same request
can succeed later, and whether a time is named. A code, a class or a type answers the first where
there is one, in whatever spelling; words are asked only where it does not, in English and Chinese.
The rows of the table ask the ``Reading``; none of them is carried by a single loose word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from .vocabulary import Observation

#: Longer messages are cut before they are searched: time stays bounded whatever a server sends.
MESSAGE_SEARCHED: Final = 4_000


class Topic(StrEnum):
    """The subject of a failure; each belongs to one party."""

    CONTEXT = "context"
    SIZE = "size"
    FIELD = "field"
    CONTENT = "content"
    MODEL = "model"
    PATH = "path"
    MONEY = "money"
    KEY = "key"
    EXPIRED = "expired"
    ACCESS = "access"
    ADDRESS = "address"
    RATE = "rate"
    CONCURRENCY = "concurrency"
    LOAD = "load"
    TIMEOUT = "timeout"
    SERVER = "server"


class Party(StrEnum):
    """The party at fault."""

    REQUEST = "request"
    ACCOUNT = "account"
    LOAD = "load"
    PLATFORM = "platform"
    NOBODY = "nobody"


_PARTIES: Final[Mapping[Topic, Party]] = MappingProxyType(
    {
        Topic.CONTEXT: Party.REQUEST, Topic.SIZE: Party.REQUEST, Topic.FIELD: Party.REQUEST,
        Topic.CONTENT: Party.REQUEST, Topic.MODEL: Party.REQUEST, Topic.PATH: Party.REQUEST,
        Topic.MONEY: Party.ACCOUNT, Topic.KEY: Party.ACCOUNT, Topic.EXPIRED: Party.ACCOUNT,
        Topic.ACCESS: Party.ACCOUNT, Topic.ADDRESS: Party.ACCOUNT,
        Topic.RATE: Party.LOAD, Topic.CONCURRENCY: Party.LOAD, Topic.LOAD: Party.LOAD,
        Topic.TIMEOUT: Party.PLATFORM, Topic.SERVER: Party.PLATFORM,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The meaning of one answer, however it is expressed.

    ``named`` is the subject by code, class or type, ``None`` where these say nothing; ``by_type``
    tells that only the type says it, which is the weaker word, and ``explicit`` that a code says
    "rate limit" of itself, which a class made from the status does not. ``topics`` are what the
    words name. ``passing`` says that the words ask for the same request again, ``other`` that
    they ask for another one ("use a smaller image and try again").
    """

    named: Topic | None = None
    by_type: bool = False
    explicit: bool = False
    topics: frozenset[Topic] = frozenset()
    passing: bool = False
    other: bool = False

    @property
    def topic(self) -> Topic | None:
        """The subject: by name, else the first in words."""
        return self.named or next((topic for topic in Topic if topic in self.topics), None)

    @property
    def party(self) -> Party:
        """The party at fault."""
        return Party.NOBODY if self.topic is None else _PARTIES[self.topic]

    @property
    def same_again(self) -> bool:
        """True if the words say that the same request may succeed later."""
        return self.passing and not self.other

    def is_about(self, topic: Topic) -> bool:
        """Return True if the answer is about this: by name, or in words that no name contradicts.

        A name of another party's contradicts words; a vague one ("rate limit", "server error",
        "bad request") does not contradict words that say what exactly is meant.
        """
        if self.named is topic:
            return True
        if topic is Topic.MONEY and self.explicit:
            return False
        return topic in self.topics and self.named in (None, *_VAGUE)


#: Subjects by name that leave room for words which say more.
_VAGUE: Final = frozenset({Topic.FIELD, Topic.RATE, Topic.SERVER, Topic.TIMEOUT, Topic.MODEL})

#: Codes, types, classes and statuses by their subject, without case and separators.
_NAMES: Final[Mapping[Topic, str]] = MappingProxyType(
    {
        Topic.CONTEXT: "context_length_exceeded context_window_exceeded context_too_long"
        " context_window_exceeded_error model_max_prompt_tokens_exceeded prompt_too_long"
        " input_too_long max_context_length_exceeded token_limit_exceeded tokens_limit_reached"
        " string_above_max_length context_overflow",
        Topic.SIZE: "request_too_large payload_too_large request_entity_too_large file_too_large"
        " image_too_large body_too_large content_too_large read_request_body_failed",
        Topic.CONTENT: "content_filter content_policy_violation content_policy_violation_error"
        " sensitive_words_detected prompt_blocked content_blocked moderation_blocked hooks_failed"
        " data_inspection_failed sensitive_content_detected responsible_ai_policy_violation"
        " guardrail_violation guardrail_intervened image_content_policy_violation safety_violation"
        " content_moderation_failed 1301 1026 1027",
        Topic.MONEY: "insufficient_quota insufficient_user_quota insufficient_balance 1113"
        " insufficient_credits insufficient_funds budget_exceeded budget_exceeded_error"
        " billing_not_active billing_hard_limit_reached billing_limit_reached payment_required"
        " pre_consume_token_quota_failed exceeded_current_quota_error arrearage account_overdue"
        " account_overdue_error credit_balance_too_low balance_insufficient account_deactivated"
        " exceeded_budget spending_limit_reached out_of_credits billing_error quota_exhausted"
        " allocation_quota_free_tier_only",
        Topic.CONCURRENCY: "token_concurrency_limit_reached max_parallel_requests"
        " concurrency_limit_exceeded concurrent_requests_limit concurrent_limit 1302",
        Topic.RATE: "rate_limit_exceeded rate_limit_error rate_limit too_many_requests requests"
        " tokens throttling_error throttling_exception throttling resource_exhausted 1303"
        " rate_limit_reached_error request_limit_exceeded rate_limited throttled"
        " too_many_requests_error throttling_rate_quota throttling_allocation_quota",
        Topic.LOAD: "overloaded overloaded_error server_overloaded engine_overloaded"
        " engine_overloaded_error server_busy model_overloaded service_busy at_capacity"
        " model_busy capacity_exceeded no_capacity 1305",
        Topic.EXPIRED: "expired_key key_expired token_expired expired_api_key api_key_expired",
        Topic.KEY: "invalid_api_key authentication_error invalid_authentication auth_error"
        " token_not_found_in_db unauthenticated invalid_authentication_error unauthorized"
        " incorrect_api_key 1004 2049",
        Topic.ACCESS: "permission_denied access_denied key_model_access_denied permission_error"
        " permission_denied_error access_denied_exception team_model_access_denied forbidden"
        " model_access_denied",
        Topic.MODEL: "model_not_found invalid_model model_not_supported model_not_exist"
        " model_does_not_exist deployment_not_found unknown_model not_found_error"
        " model_decommissioned model_not_available invalid_endpoint_or_model_not_found 1211",
        Topic.FIELD: "invalid_request invalid_request_error bad_request bad_request_error"
        " invalid_value invalid_type unknown_parameter unsupported_parameter unsupported_value"
        " missing_required_parameter invalid_argument validation_error validation_exception"
        " unprocessable_entity unprocessable_entity_error invalid_parameter invalid_input"
        " unsupported_params_error invalid_image invalid_prompt failed_precondition"
        " invalid_parameter_error invalid_image_format image_parse_error 2013",
        Topic.TIMEOUT: "timeout timeout_error api_timeout_error deadline_exceeded request_timeout"
        " gateway_timeout model_timeout_exception",
        Topic.SERVER: "server_error internal_error internal_server_error api_error"
        " api_connection_error service_unavailable_error service_unavailable bad_gateway_error"
        " bad_gateway internal internal_server_exception unavailable upstream_unavailable"
        " internal_failure service_unavailable_exception",
    }
)  # fmt: skip


def _plain(name: str) -> str:
    """Return a name as it is compared: no case, no separators."""
    return name.lower().replace("_", "").replace("-", "").replace(".", "").replace(" ", "")


_TOPIC_OF: Final[Mapping[str, Topic]] = MappingProxyType(
    {_plain(name): topic for topic, names in _NAMES.items() for name in names.split()}
)

#: Codes that say themselves that it is a rate: no words about a quota make it money.
_EXPLICIT: Final = frozenset(
    {
        "ratelimitexceeded", "toomanyrequests", "ratelimited", "ratelimitreached", "throttling",
        "throttlingratequota", "throttlingallocationquota",
    }
)  # fmt: skip

#: Times that a rate names: a quota of a minute is no account's balance.
_PERIOD: Final = (
    r"per (?:min|sec|hour|day)|\b(?:rpm|tpm|rpd|tpd|qps|qpm)\b|(?:this|each|a) (?:minute|second)"
    r"|rate.?limit|分钟|每秒|秒内"
)
_OVER: Final = (
    r"(?:exceed|beyond|too (?:long|large|many)|(?:longer|larger|greater) than|over\b|at most"
    r"|maximum|max\b|limit)"
)

_WORDS: Final[Mapping[Topic, re.Pattern[str]]] = MappingProxyType(
    {
        topic: re.compile(pattern, re.IGNORECASE)
        for topic, pattern in {
            Topic.CONTEXT: rf"context (?:length|window|size|limit)[^\n]{{0,80}}{_OVER}"
            rf"|{_OVER}[^\n]{{0,40}}context (?:length|window|size|limit)"
            r"|context (?:overflow|length exceeded)"
            r"|(?:prompt|input|messages?|conversation)(?: (?:is|are|was))? too long"
            r"|maximum (?:prompt|input|context) length"
            r"|(?:input|prompt) tokens? (?:count )?[^\n]{0,40}exceed"
            r"|model token limit|too many (?:input|prompt) tokens"
            r"|上下文[^\n]{0,20}(?:超|[过過]长|限制|窗口)|超(?:出|[过過])[^\n]{0,20}上下文"
            r"|(?:[输輸]入|提示[词詞])[^\n]{0,10}[过過][长長]|prompt 超长",
            Topic.SIZE: r"request too large|\btoo large for\b|(?:request|payload|body|file|image"
            r"|picture|audio|upload|entity|attachment)(?: \w{1,20}){0,3} "
            r"(?:is |was )?(?:too (?:large|big)|exceeds|larger than|over \d)"
            r"|exceeds? the (?:maximum|max|allowed)[^\n]{0,30}(?:size|bytes)|max(?:imum)? size"
            r"|(?:input or output )?tokens must be reduced|reduce your (?:message|request) size"
            r"|(?:[请請]求|文件|[图圖]片|[内內]容|音[频頻])[^\n]{0,6}(?:[过過]大|太大)|大小超(?:出|[过過])"
            r"|超(?:出|过)[^\n]{0,10}大小",
            Topic.CONTENT: r"sensitive.words.detected|violation_fee"
            r"|\bviolat\w{1,6} [^\n]{0,40}polic(?:y|ies)\b|content policy violation"
            r"|content management policy|\bour safety system|flagged (?:by|as|for)[^\n]{0,30}"
            r"(?:moderation|content|safety|sensitive|guardrail)|guardrail[^\n]{0,20}"
            r"(?:block|violat|fail|interven)|(?:input|prompt|content|request|output)"
            r" (?:was|is|were|has been|have been) flagged\b"
            r"|\b(?:input|output) (?:new_)?sensitive\b"
            r"|\bcontains? (?:sensitive|inappropriate|unsafe) (?:content|information|text)\b"
            r"|敏感(?:词|内容|信息)|[内內]容(?:[违違][规規]|[审審]核|安全)|不安全(?:的)?内容",
            Topic.MONEY: r"quota_not_enough"
            r"|(?:quota|balance|credits?|funds|budget|allowance)[^\n.]{0,30}"
            r"(?:insufficient|not enough|exceeded|exhausted|used up|too low|depleted|run out"
            r"|is (?:empty|negative|zero|0\b))|(?:insufficient|not enough|exceeded (?:your|the)"
            r"|out of|used up|no (?:more )?)[^\n.]{0,20}\b(?:quota|balance|credits?|funds|budget)"
            r"|spend(?:ing)? (?:cap|limit)|billing (?:hard )?limit|monthly (?:spend|budget)"
            r"|payment required|in arrears|overdue payment|(?:top up|recharge)[^\n]{0,20}"
            r"(?:account|balance|first|credit|to continue)"
            r"|(?:add|purchase|buy) (?:more )?credits|account is suspended"
            r"|\bapi usage limits?\b|\bkey limit (?:is )?(?:exceeded|reached)"
            r"|free tier[^\n.]{0,30} exhausted"
            r"|(?:quota|solde|cr[ée]dits?) (?:est )?(?:insuffisant|épuisé)|saldo insuficiente"
            r"|guthaben (?:ist )?(?:aufgebraucht|reicht nicht)|недостаточно (?:средств|квоты)"
            r"|số dư không đủ|yetersiz bakiye|잔액\S{0,2} 부족|残高(?:が)?不足"
            r"|[余餘][额額](?:不足|[为為])|[额額]度(?:不足|已?用[尽盡完]|已?耗[尽盡])|欠[费費]|充值|[储儲]值|[预預]扣[费費]",
            Topic.KEY: r"\bapi.?key (?:is )?not valid\b|\b(?:incorrect|invalid) api.?key\b"
            r"|\baccess token (?:is )?(?:invalid|not valid)\b|\blogin fail",
            Topic.EXPIRED: r"(?:key|token)\b[^\n.]{0,30} expired\b|expired (?:api )?(?:key|token)"
            r"|(?:令牌|密钥)已?过期",
            Topic.ACCESS: r"no access to model|not allowed to (?:access|use) (?:this |the )?model"
            r"|(?:key|token|team) (?:not allowed|has no access)|not available for this (?:api )?key"
            r"|无权(?:访问|使用)[^\n]{0,4}模型",
            Topic.ADDRESS: r"\bip\b[^\n]{0,30}(?:not (?:in|on|allowed)|denied|blocked)"
            r"|your ip|whitelist|allow.?list|IP[^\n]{0,10}(?:不在|不允许)",
            Topic.CONCURRENCY: r"parallel.requests?|concurren(?:t|cy)[^\n]{0,30}(?:limit|exceed|too"
            r"|maximum|reached)|(?:limit|too many|maximum)[^\n]{0,30}concurren(?:t|cy)|并发",
            Topic.LOAD: r"overload|\bat capacity\b|\bno capacity\b|(?:is|are) (?:currently )?busy"
            r"|^busy$|\bqueue is full\b|\bmaximum pending requests\b"
            r"|перегруж|混雑"
            r"|high (?:demand|load|traffic)|[负負][载載]|繁忙|[过過][载載]|[拥擁]堵"
            r"|[访訪][问問]量[过過]大",
            Topic.RATE: r"rate.?limit|too many requests|\brequest limit (?:reached|exceeded)"
            r"|requests? (?:come|came) too (?:fast|often)"
            r"|slow down|throttl|[请請]求(?:[过過]于|[過过]於|太)?[频頻]繁|限流|速率|最多[请請]求",
            Topic.PATH: r"\binvalid url \((?:get|post|put|patch|delete)\b"
            r"|no such (?:endpoint|route|path|method)"
            r"|(?:unknown|unrecognized) (?:request )?(?:url|path|endpoint|route)"
            r"|\bcannot (?:post|get|put|delete|patch) /|no (?:route|handler) (?:matched|found|for)"
            r"|(?:endpoint|route|path|url) (?:was |is )?(?:not found|does not exist)"
            r"|(?:无效|無效)的? ?url ?[(\uff08]",
        }.items()
    }
)

#: Words of a failure that passes: the same request may succeed later.
_PASSING: Final = re.compile(
    r"right now|at the moment|currently|temporar|try(?:ing)? again|retry|\blater\b|overload"
    r"|\bbusy\b|timed? ?out|unavailable|[负負][载載]|稍[后後]|繁忙|重[试試]",
    re.IGNORECASE,
)
#: Words that ask for another request first: "shorten it and try again".
_OTHER: Final = re.compile(
    r"\b(?:shorten|reduce|remove|change|fix|correct|shrink|compress|split|lower|trim|resize|crop"
    r"|decrease|use (?:a|an|another|fewer|less)|choose|select|pick|provide|send (?:a|less|fewer)"
    r"|check (?:your|the)|rephrase|modify|adjust|edit|replace|convert|re-?encode)\b[^\n]{0,80}?"
    r"\b(?:try(?:ing)?|retry|resubmit|send it)\b"
    r"|\b(?:try(?:ing)? again|retry) with\b[^\n]{0,20}\b(?:smaller|shorter|different|valid|fewer"
    r"|less|lower|another|other|supported)\b"
    r"|(?:[缩縮]短|[减減]少|修改|[压壓][缩縮]|更[换換]|[缩縮]小|[调調]整|[检檢]查)[^\n]{0,20}(?:重|再)[试試]",
    re.IGNORECASE,
)
#: A request's own size against what is ever allowed: waiting will not make it fit.
_ASKED: Final = re.compile(r"\brequest(?:ed)?\b[ :=]{0,3}(?:about )?(\d[\d,]{0,14})", re.IGNORECASE)
_ALLOWED: Final = re.compile(
    r"\b(?:limit|max(?:imum)?|allowed)\b(?: (?:is|of|to|size|tokens?)){0,2}[ :=]{0,3}"
    r"(\d[\d,]{0,14})\b",
    re.IGNORECASE,
)
#: Words that ask for less of a request; where a rate is named, less of it per time would do, too.
_SHORTEN: Final = re.compile(
    r"\b(?:reduce|shorten) (?:the length of )?(?:the|your) (?:messages|prompt|input)\b",
    re.IGNORECASE,
)
_ASKED_FIRST: Final = re.compile(
    r"(\d[\d,]{0,14}) (?:\w{1,12} )?(?:asked|requested|needed)\b[^\n]{0,40}?(\d[\d,]{0,14})"
    r" (?:\w{1,12} ){0,3}allowed",
    re.IGNORECASE,
)
#: Names of classes, whose parts are no words of a sentence.
_CLASSES: Final = re.compile(r"\b[A-Z][A-Za-z]{2,39}(?:Error|Exception)\b")
_PERIODIC: Final = re.compile(_PERIOD, re.IGNORECASE)


def read(observation: Observation) -> Reading:
    """Read an observation once, for all rows."""
    text = _CLASSES.sub("", observation.message[:MESSAGE_SEARCHED])
    by_code = _TOPIC_OF.get(_plain(observation.code))
    by_type = _TOPIC_OF.get(_plain(observation.type))
    return Reading(
        named=by_code or by_type,
        by_type=by_code is None and by_type is not None,
        explicit=_plain(observation.code) in _EXPLICIT,
        topics=_topics(text, observation.retry_after is not None),
        passing=_PASSING.search(text) is not None,
        other=_OTHER.search(text) is not None,
    )


def topic_named(name: str) -> Topic | None:
    """Return the subject that a code, a type or a class names, ``None`` if it is not known."""
    return _TOPIC_OF.get(_plain(name))


def _topics(text: str, has_hint: bool) -> frozenset[Topic]:
    if not text:
        return frozenset()
    found = {topic for topic, words in _WORDS.items() if words.search(text)}
    if has_hint or _PERIODIC.search(text):  # a quota that comes back by itself is no money
        found.discard(Topic.MONEY)
    elif _SHORTEN.search(text):
        found.add(Topic.CONTEXT)
    if _asks_too_much(text):
        found.add(Topic.SIZE)
    return frozenset(found)


def _asks_too_much(text: str) -> bool:
    """Return True if a text names a request's size and a smaller limit."""
    both = _ASKED_FIRST.search(text)
    if both is not None:
        return _number(both.group(1)) > _number(both.group(2))
    asked, allowed = _ASKED.search(text), _ALLOWED.search(text)
    if asked is None or allowed is None:
        return False
    return _number(asked.group(1)) > _number(allowed.group(1)) > 0


def _number(digits: str) -> int:
    return int(digits.replace(",", ""))
