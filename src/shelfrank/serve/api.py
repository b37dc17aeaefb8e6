"""What requests and responses look like."""

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, field_validator

from shelfrank.core.values import IdSpelling
from shelfrank.logs.ubi.documents import KNOWN_ACTIONS

MOST_CANDIDATES = 1000
MOST_TEXT = 512
"""Characters of a query, a title or a feature's value."""
MOST_ID = 256
MOST_FEATURES = 100
MOST_EVENTS = 1000
MOST_EXPLAINED = 10
DOCUMENT_KEYS = ("id", "product_id", "text")
"""Keys of a document that may hold its product's id; the first with one counts."""
_INT64 = 2**63
_NONE = Field(default_factory=dict)
"""No features; a default of {} would be copied for each candidate, which takes as long as checking it."""


def _id_text(given: Any) -> Any:
    """An id that is a number, as an import spells it; anything else is left to the check that follows."""
    # Numerics: callers that keep numbers as floats round the ends of the range by up to 1,024.
    if isinstance(given, int | float) and not isinstance(given, bool) and abs(given) <= _INT64 + 1024:
        return IdSpelling().of(given) or given
    return given


Id = Annotated[
    str,
    Field(min_length=1, max_length=MOST_ID),
    BeforeValidator(_id_text),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1, "maxLength": MOST_ID},
                {"type": "integer", "minimum": -_INT64, "maximum": _INT64 - 1},
            ]
        }
    ),
]
Text = Annotated[str, Field(max_length=MOST_TEXT)]
Document = Annotated[
    Text,
    BeforeValidator(_id_text),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "maxLength": MOST_TEXT},
                {"type": "integer", "minimum": -_INT64, "maximum": _INT64 - 1},
            ]
        }
    ),
]
_DOCUMENT_ID = {
    "anyOf": [{"type": "string", "pattern": r"\S"}, {"type": "integer", "minimum": -_INT64, "maximum": _INT64 - 1}]
}
DocumentObject = Annotated[
    dict[str, Any],
    Field(max_length=MOST_FEATURES),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": MOST_FEATURES,
            "anyOf": [{"required": [key], "properties": {key: _DOCUMENT_ID}} for key in DOCUMENT_KEYS],
        }
    ),
]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Whole = Annotated[int, Field(strict=True, ge=-_INT64, lt=_INT64)]
Value = bool | Whole | Number | Text | None
Values = Annotated[dict[Annotated[str, Field(max_length=MOST_ID)], Value], Field(max_length=MOST_FEATURES)]
Task = Literal["click", "add_to_cart", "purchase"]
Weight = Annotated[float, Field(strict=True, ge=0, le=1)]
TaskWeights = Annotated[
    dict[Task, Annotated[float, Field(strict=True, ge=0, le=1e6)]], Field(min_length=1, max_length=3)
]
"""At least one must be above 0, which a schema cannot say."""
_MOST_SECONDS = 2e10
_START, _END = dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.datetime(2200, 1, 1, tzinfo=dt.UTC)


def _count(given: Any) -> Any:
    """JSON has one kind of number: 5.0 is 5."""
    return int(given) if isinstance(given, float) and given.is_integer() else given


AsWhole = BeforeValidator(_count)


def _moment(given: Any) -> Any:
    """What a schema calls a moment; digits in a text are none, although they could be taken for one."""
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if is_number and not abs(given) <= _MOST_SECONDS:
        raise ValueError(f"seconds since 1970 must be at most {_MOST_SECONDS:.0f} from it")
    if not is_number and not (isinstance(given, str) and "-" in given[1:]):
        raise ValueError("a moment must be a date and time, such as 2025-06-30T12:00:00Z, or seconds since 1970")
    return given


Moment = Annotated[
    dt.datetime,
    BeforeValidator(_moment),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "number", "minimum": -_MOST_SECONDS, "maximum": _MOST_SECONDS},
            ]
        }
    ),
]


def _within(moment: dt.datetime | None) -> dt.datetime | None:
    if moment is None:
        return None
    # A clock that is wrong is no reason to refuse a page.
    return min(max(moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC), _START), _END)


def microseconds(moment: dt.datetime) -> int:
    """Microseconds since 1970."""
    return (moment - _START) // dt.timedelta(microseconds=1)


class _Api(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Candidate(_Api):
    """A product to rank.

    Attributes:
        id: The product; an unknown one is cold, not an error.
        score: The engine's own score of it.
        features: Declared features that replace those of the catalogue, such as today's price.
    """

    id: Id
    score: Number | None = None
    features: Values = _NONE


_CANDIDATES = Annotated[list[Candidate | Id], Field(max_length=MOST_CANDIDATES)]


class RankRequest(_Api):
    """A page of candidates for a query.

    Attributes:
        query: What was typed.
        candidates: The engine's products: ids (texts or whole numbers), or objects with more. Their order is the
            engine's, unless scores are given.
        customer_id: Who asks; left out, an anonymous visitor.
        session_id: The visit.
        timestamp: When; now if left out. One outside 1970 to 2200 counts as the nearest moment within.
        customer: Declared features of the customer that replace those of the table.
        context: Declared features of the page, such as the device.
        weight: How much the model's order counts against the engine's; 0 keeps the engine's order.
        task_weights: What fuses the tasks' scores on this page; left out, what the bundle says.
        top_n: Most results; all if left out.
        explain: Results, from the first on, that are explained as far as the deadline allows.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "query": "red sofa",
                    "customer_id": "c00017",
                    "candidates": [
                        {"id": "p00012", "score": 7.1},
                        {"id": "p00845", "score": 6.8, "features": {"price": 349.0}},
                        {"id": "p00301", "score": 6.8},
                    ],
                    "context": {"device": "phone"},
                    "weight": 0.8,
                    "task_weights": {"click": 1, "purchase": 3},
                    "explain": 1,
                }
            ]
        },
    )

    query: Text
    candidates: _CANDIDATES
    customer_id: Id | None = None
    session_id: Id | None = None
    timestamp: Moment | None = None
    customer: Values = {}
    context: Values = {}
    weight: Weight = 1.0
    task_weights: TaskWeights | None = None
    top_n: Annotated[int, Field(strict=True, ge=1, le=MOST_CANDIDATES), AsWhole] | None = None
    explain: Annotated[int, Field(strict=True, ge=0, le=MOST_EXPLAINED), AsWhole] = 0

    _timestamp = field_validator("timestamp", mode="after")(_within)


class Reason(BaseModel):
    """What one feature did to one product.

    Attributes:
        feature: The feature.
        side: Whom it describes.
        logits: By task, how far the feature moves the logit from where its training mean would leave it; of a ranker
            without probabilities, the score.
        fused: The same for the fused score, by the page's task weights.
    """

    feature: str
    side: str
    fused: float
    logits: dict[str, float]


class Explanation(BaseModel):
    """Why a product has its score: one feature, or one side, replaced at a time.

    Attributes:
        features: The features that move it most, the strongest first.
        sides: The same for all features of a side together; `customer` is what personalization did.
        gates: By task, the weight of each expert; null where the ranker is no mixture of experts.
    """

    features: list[Reason]
    sides: list[Reason]
    gates: dict[str, list[float]] | None = None


class Ranked(BaseModel):
    """One product in its new place.

    Attributes:
        id: The product.
        index: Its place in the request, from 0.
        rank: Its new place, from 1.
        engine_rank: Its place by the engine's own order, from 1.
        score: What the page is sorted by; null in a degraded answer.
        tasks: The score of each task; empty in a degraded answer.
        explanation: Why, where it was asked for and there was time.
    """

    id: str
    index: int
    rank: int
    engine_rank: int
    score: float | None = None
    tasks: dict[str, float]
    explanation: Explanation | None = None


class RankResponse(BaseModel):
    """The page in its new order.

    Attributes:
        results: The products.
        degraded: Whether the engine's own order came back, because the model could not answer in time.
        reason: Why it is degraded.
        bundle: The version that answered.
        unknown: How much was cold: products, customer, query, categories.
        unknown_ids: The candidates that the catalogue lacks, each once.
        missing_features: Features that the bundle needs and the request left out, with the number of candidates that
            lack them; `GET /v1/bundle` lists them.
        unknown_features: Names that nothing reads where the request gave them, with how often it did.
        took_ms: Time in the service.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "results": [
                        {
                            "id": "p00845",
                            "index": 1,
                            "rank": 1,
                            "engine_rank": 2,
                            "score": 0.31,
                            "tasks": {"click": 0.4, "add_to_cart": 0.3, "purchase": 0.2},
                        }
                    ],
                    "degraded": False,
                    "reason": None,
                    "bundle": "000001-5f0c1a2b3c4d",
                    "unknown": {"products": 0, "customer": 0, "query": 0, "categories": 0},
                    "unknown_ids": [],
                    "missing_features": {"device": 3},
                    "unknown_features": {"Device": 1},
                    "took_ms": 6.2,
                }
            ]
        }
    )

    results: list[Ranked]
    degraded: bool
    reason: Literal["deadline", "model_error", "not_loaded"] | None = None
    bundle: str | None = None
    unknown: dict[str, int]
    unknown_ids: list[str]
    missing_features: dict[str, int]
    unknown_features: dict[str, int]
    took_ms: float


class RerankRequest(BaseModel):
    """A page in the shape of Cohere's `rerank`, as Elasticsearch and OpenSearch send it.

    Attributes:
        query: What was typed.
        documents: Product ids, or objects that have one as `id`, `product_id` or `text`; no other key of them is read,
            and an object without one is refused.
            Let the engine send the field that holds the product's id. Elasticsearch names the list `input`.
        top_n: Most results; all if left out.
        return_documents: Whether results repeat their document.
        customer_id: Who asks; left out, an anonymous visitor.
        session_id: The visit.
        context: Declared features of the page.
        model: Passed over.
    """

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra={
            "examples": [{"model": "shelfrank", "query": "red sofa", "documents": ["p00012", "p00845"], "top_n": 2}]
        },
    )

    query: Text
    documents: Annotated[list[Document | DocumentObject], Field(max_length=MOST_CANDIDATES)] = Field(
        validation_alias=AliasChoices("documents", "input")
    )
    top_n: Annotated[int, Field(strict=True, ge=1), AsWhole] | None = None
    return_documents: Annotated[bool, Field(strict=True)] | None = False
    customer_id: Id | None = None
    session_id: Id | None = None
    context: Values = {}
    model: Any = None


class RerankResult(BaseModel):
    """One document in its new place.

    Attributes:
        index: Its place in the request, from 0.
        relevance_score: What results are sorted by, from 0 to 1.
        document: The document, where it was asked for.
    """

    index: int
    relevance_score: float
    document: Any = None


class RerankResponse(BaseModel):
    """The page in its new order.

    Attributes:
        id: Of this answer.
        results: The documents.
        meta: The bundle, whether the engine's own order came back, and `unknown`, `unknown_ids`, `missing_features`
            and `unknown_features` as in `RankResponse`.
    """

    id: str
    results: list[RerankResult]
    meta: dict[str, Any]


_UBI_EVENT = {
    "title": "UbiEvent",
    "type": "object",
    "description": "An event of User Behavior Insights 1.3 or earlier. Each is read by itself, as `shelfrank import "
    "ubi` reads it from a file: what it lacks or misspells costs that event alone, and the answer counts it by reason.",
    "properties": {
        "action_name": {
            "description": f"What happened, as a text: {', '.join(f'`{action}`' for action in KNOWN_ACTIONS)}. Any "
            "other action is passed over."
        },
        "timestamp": {
            "description": "When: a date and time of ISO 8601, UTC where it names no zone, or milliseconds since 1970, "
            "from 1990 on and before 2100; now if left out or null. Of an outcome, best the time of its results page.",
            "examples": ["2025-06-30T12:00:00Z", 1751284800000],
        },
        "user_id": {"description": f"Whose doing: a text or a whole number, at most {MOST_ID} characters."},
        "client_id": {"description": "The client, which stands for the user where that is left out."},
        "session_id": {"description": "The visit: a text or a whole number."},
        "user_query": {
            "description": f"The query of the results page, a text of at most {MOST_TEXT} characters; left out, the "
            "event is an engagement elsewhere. A `view` or `watch` is one in either case."
        },
        "event_attributes": {
            "description": "What it is about.",
            "properties": {
                "object": {
                    "description": "The product.",
                    "properties": {
                        "object_id": {"description": "Its id: a text or a whole number."},
                        "object_id_field": {"description": "The key beside it that holds the id instead."},
                    },
                },
                "position": {
                    "description": "Where that was shown.",
                    "properties": {
                        "ordinal": {
                            "description": "From 1, or from 0 as in the log; an impression needs it. Before UBI 1.3 an "
                            "object that holds it as `index`."
                        }
                    },
                },
            },
        },
    },
}
"""Types of the properties are prose: a schema that demanded them would refuse a batch for one odd event."""

UbiEvent = Annotated[dict[Any, Any], WithJsonSchema(_UBI_EVENT)]


class EventsRequest(BaseModel):
    """Events, in any order.

    Attributes:
        events: The events.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "events": [
                        {
                            "action_name": "click",
                            "user_id": "c00017",
                            "session_id": "s-1",
                            "user_query": "red sofa",
                            "event_attributes": {"object": {"object_id": "p00845"}, "position": {"ordinal": 2}},
                        }
                    ]
                }
            ]
        },
    )

    events: Annotated[list[UbiEvent], Field(max_length=MOST_EVENTS)]


class EventsResponse(BaseModel):
    """What became of the events.

    Attributes:
        accepted: Events of the batch; those that some bundle may use were taken down, and later bundles read them too.
        passed_over: By reason, those among them that change no feature of the bundle that serves.
    """

    accepted: int
    passed_over: dict[str, int]


class RequestedFeature(BaseModel):
    """A declared feature that requests bring.

    Attributes:
        name: The feature, as requests must spell it.
        kind: A number, or a text that names a category.
        side: Whom it describes.
        place: Where it goes: `features` of each of the `candidates`, `customer` or `context`.
        needed: When the bundle has no value of its own.
    """

    name: str
    kind: Literal["numerical", "categorical"]
    side: str
    place: Literal["candidates", "customer", "context"]
    needed: Literal["always", "unknown product", "unknown customer"]


class BundleResponse(BaseModel):
    """The bundle that serves.

    Attributes:
        bundle: The version.
        ranker: The ranker's name.
        label: Its name in tables.
        tasks: The tasks that it scores.
        task_weights: What fuses their scores, unless a request says otherwise.
        gives_probabilities: Whether the tasks' scores are probabilities.
        precision: In which precision its graphs compute.
        request_features: The features that a request must bring.
    """

    bundle: str
    ranker: str
    label: str
    tasks: list[str]
    task_weights: dict[str, float]
    gives_probabilities: bool
    precision: str
    request_features: list[RequestedFeature]


class ReloadResponse(BaseModel):
    """What serves now.

    Attributes:
        bundle: The version.
        changed: Whether it is another than before.
        precision: In which its graphs compute.
        fallback: Why that is float32 where 8-bit graphs were asked for; null where it is what was asked for.
    """

    bundle: str
    changed: bool
    precision: str
    fallback: str | None = None


class Problem(BaseModel):
    """Why a request was refused.

    Attributes:
        detail: What must hold and where it does not.
    """

    detail: str
