"""The bodies of requests and responses."""

import datetime as dt
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
    field_validator,
)

from shelfrank.core.values import IdSpelling
from shelfrank.logs.ubi.documents import KNOWN_ACTIONS

MAX_CANDIDATES = 1000
MAX_TEXT = 512
"""Characters of a query, a title or a feature's value."""
MAX_DOCUMENT = 10_000
"""Characters of a document to rerank."""
MAX_ID = 256
MAX_FEATURES = 100
MAX_EVENTS = 1000
MAX_EXPLAINED = 10
N_CANDIDATES = 40
"""Candidates that the page retrieves for a query."""
DOCUMENT_KEYS = ("id", "product_id", "text")
"""Keys of a document that may hold its product's id; the first that does is read."""
_INT64 = 2**63
MAX_NUMBER_ID = _INT64 + 1024
"""Largest id that is a number: callers that keep numbers as floats round the ends of 64 bits by up to 1,024."""
_NONE = Field(default_factory=dict)
"""No features; a default of {} would be copied for each candidate, which takes as long as validating it."""


def _id_text(given: Any) -> Any:
    """Spells an id that is a number as an import does; the next check refuses anything else."""
    if isinstance(given, int | float) and not isinstance(given, bool) and abs(given) <= MAX_NUMBER_ID:
        return IdSpelling().of(given) or given
    return given


Id = Annotated[
    str,
    Field(min_length=1, max_length=MAX_ID),
    BeforeValidator(_id_text),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1, "maxLength": MAX_ID},
                {"type": "integer", "minimum": -_INT64, "maximum": _INT64 - 1},
            ]
        }
    ),
]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Document = Annotated[
    Annotated[str, Field(max_length=MAX_DOCUMENT)],
    BeforeValidator(_id_text),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "maxLength": MAX_DOCUMENT},
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
    Field(max_length=MAX_FEATURES),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": MAX_FEATURES,
            "anyOf": [{"required": [key], "properties": {key: _DOCUMENT_ID}} for key in DOCUMENT_KEYS],
        }
    ),
]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Whole = Annotated[int, Field(strict=True, ge=-_INT64, lt=_INT64)]
Value = bool | Whole | Number | Text | None
Values = Annotated[dict[Annotated[str, Field(max_length=MAX_ID)], Value], Field(max_length=MAX_FEATURES)]
Task = Literal["click", "add_to_cart", "purchase"]
Weight = Annotated[float, Field(strict=True, ge=0, le=1)]
TaskWeights = Annotated[
    dict[Task, Annotated[float, Field(strict=True, ge=0, le=1e6)]], Field(min_length=1, max_length=3)
]
"""At least one must be above 0, which a schema cannot express."""
_MAX_SECONDS = 2e10
_START, _END = dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.datetime(2200, 1, 1, tzinfo=dt.UTC)


def _count(given: Any) -> Any:
    """Reads 5.0 as 5: JSON has one kind of number."""
    return int(given) if isinstance(given, float) and given.is_integer() else given


AsWhole = BeforeValidator(_count)


def _time(given: Any) -> Any:
    """Refuses what the schema does: a text of digits, which would otherwise be read as seconds."""
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if is_number and not abs(given) <= _MAX_SECONDS:
        raise ValueError(f"seconds since 1970 must be at most {_MAX_SECONDS:.0f} from it")
    if not is_number and not (isinstance(given, str) and "-" in given[1:]):
        raise ValueError("a time must be a date and time, such as 2025-06-30T12:00:00Z, or seconds since 1970")
    return given


Time = Annotated[
    dt.datetime,
    BeforeValidator(_time),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "number", "minimum": -_MAX_SECONDS, "maximum": _MAX_SECONDS},
            ]
        }
    ),
]


def _within(time: dt.datetime | None) -> dt.datetime | None:
    if time is None:
        return None
    # A wrong clock is no reason to refuse a page.
    return min(max(time if time.tzinfo else time.replace(tzinfo=dt.UTC), _START), _END)


def microseconds(time: dt.datetime) -> int:
    """Converts to microseconds since 1970."""
    return (time - _START) // dt.timedelta(microseconds=1)


class _Api(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Candidate(_Api):
    """A product to rank.

    Attributes:
        id: The product; an unknown one is no error.
        score: The engine's own score.
        features: Declared features that replace those of the catalogue, such as today's price.
    """

    id: Id
    score: Number | None = None
    features: Values = _NONE


_CANDIDATES = Annotated[list[Candidate | Id], Field(max_length=MAX_CANDIDATES)]


class RankRequest(_Api):
    """A page of candidates for a query.

    Attributes:
        query: The query as typed.
        candidates: The engine's products: ids (texts or whole numbers), or objects with more. Their order is the
            engine's, unless scores are given.
        customer_id: The customer; an anonymous visitor if left out.
        session_id: The visit.
        timestamp: Time of the search; now if left out. A time outside 1970 to 2200 is moved to the nearest within.
        customer: Declared features of the customer that replace those of the table.
        context: Declared features of the page, such as the device.
        weight: Weight of the model's order against the engine's; 0 keeps the engine's order.
        task_weights: Weights that fuse the tasks' scores on this page; the bundle's if left out.
        top_n: Maximum number of results; all if left out.
        explain: Number of results, from the first on, to explain as far as the deadline allows.
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
    timestamp: Time | None = None
    customer: Values = {}
    context: Values = {}
    weight: Weight = 1.0
    task_weights: TaskWeights | None = None
    top_n: Annotated[int, Field(strict=True, ge=1, le=MAX_CANDIDATES), AsWhole] | None = None
    explain: Annotated[int, Field(strict=True, ge=0, le=MAX_EXPLAINED), AsWhole] = 0

    _timestamp = field_validator("timestamp", mode="after")(_within)


class Reason(BaseModel):
    """The contribution of one feature, or one side, to the score of one product.

    Attributes:
        feature: The feature or side.
        side: The side: `customer`, `query`, `product`, `interaction` or `context`.
        logits: By task, the change of the logit from its value with the feature at its training mean; for a ranker
            without probabilities, of the score.
        fused: The same for the fused score, by the page's task weights.
    """

    feature: str
    side: str
    fused: float
    logits: dict[str, float]


class Explanation(BaseModel):
    """The contributions to a product's score.

    Attributes:
        method: How they are computed: `occlusion` replaces one feature, or one side, at a time by its training mean.
        features: The features that move the score most, the strongest first.
        sides: The same for all features of a side together; `customer` is the effect of personalization.
        gates: By task, the weight of each expert; null for a ranker without experts.
    """

    method: Literal["occlusion"]
    features: list[Reason]
    sides: list[Reason]
    gates: dict[str, list[float]] | None = None


class Ranked(BaseModel):
    """One product in its new place.

    Attributes:
        id: The product.
        index: Its index in the request, from 0.
        rank: Its new rank, from 1.
        engine_rank: Its rank in the engine's own order, from 1.
        score: The sort key of the page; null in a degraded response.
        tasks: The score of each task; empty in a degraded response.
        explanation: The explanation, if requested and if there was time.
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
        degraded: Whether the engine's own order was returned because the model could not rank in time.
        reason: Why the response is degraded.
        bundle: The version that ranked.
        unknown: Counts of unknown products, customers, queries and categories.
        unknown_ids: The candidates that the catalogue lacks, each once.
        missing_features: Features that the bundle needs and the request left out, with the number of candidates that
            lack them; `GET /v1/bundle` lists them.
        unknown_features: Names that no feature is read from, with the number of times that the request gave them.
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
    reason: Literal["deadline", "overload", "model_error", "not_loaded"] | None = None
    bundle: str | None = None
    unknown: dict[str, int]
    unknown_ids: list[str]
    missing_features: dict[str, int]
    unknown_features: dict[str, int]
    took_ms: float


class _Rerank(_Api):
    """What every form of a rerank request has.

    Attributes:
        query: The query as typed.
        top_n: Maximum number of results; all if left out. Voyage's name is `top_k`.
        return_documents: Whether results repeat their document. The name of text-embeddings-inference is `return_text`.
        raw_scores: Whether scores are logits in place of numbers from 0 to 1.
        rank_fields: Keys of an object that may hold its product's id, read before `id`, `product_id` and `text`.
        customer_id: The customer; an anonymous visitor if left out.
        session_id: The visit.
        context: Declared features of the page.
        model: Ignored, as are all that follow: they choose a language model, or how much of a text it reads.
        priority: Ignored.
        user: Ignored.
        truncate: Ignored.
        truncation: Ignored.
        truncation_direction: Ignored.
        truncate_prompt_tokens: Ignored.
        max_chunks_per_doc: Ignored.
        max_tokens_per_doc: Ignored.
    """

    query: Text
    top_n: Annotated[int, Field(strict=True, ge=1), AsWhole] | None = Field(
        default=None, validation_alias=AliasChoices("top_n", "top_k")
    )
    return_documents: Annotated[bool, Field(strict=True)] | None = Field(
        default=False, validation_alias=AliasChoices("return_documents", "return_text")
    )
    raw_scores: Annotated[bool, Field(strict=True)] | None = False
    rank_fields: Annotated[list[Annotated[str, Field(max_length=MAX_ID)]], Field(max_length=MAX_FEATURES)] | None = None
    customer_id: Id | None = None
    session_id: Id | None = None
    context: Values = {}
    model: Any = None
    priority: Any = None
    user: Any = None
    truncate: Any = None
    truncation: Any = None
    truncation_direction: Any = None
    truncate_prompt_tokens: Any = None
    max_chunks_per_doc: Any = None
    max_tokens_per_doc: Any = None


class RerankRequest(_Rerank):
    """A page in the form of Cohere's, Jina's, vLLM's and Infinity's `rerank`, as search engines send it.

    Attributes:
        documents: Product ids, titles of products of the bundle, or objects that have either as one of `rank_fields`,
            `id`, `product_id` or `text`; no other key is read, and an object without one is refused. What the bundle
            does not know keeps its place. Elasticsearch names the list `input`.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "shelfrank", "query": "red sofa", "documents": ["p00012", "p00845"], "top_n": 2}]
        },
    )

    documents: Annotated[list[Document | DocumentObject], Field(max_length=MAX_CANDIDATES)] = Field(
        validation_alias=AliasChoices("documents", "input")
    )

    @property
    def given(self) -> Sequence[str | dict[str, Any]]:
        """The documents."""
        return self.documents


class RerankTextsRequest(_Rerank):
    """The same page in the form of text-embeddings-inference, whose answer is a list.

    Attributes:
        texts: Product ids, or titles of products of the bundle.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "red sofa", "texts": ["p00012", "p00845"]}]})

    texts: Annotated[list[Document], Field(max_length=MAX_CANDIDATES)]

    @property
    def given(self) -> Sequence[str | dict[str, Any]]:
        """The documents."""
        return self.texts


OF_DOCUMENTS, OF_TEXTS = "a request with documents", "a request with texts"
"""The forms of a rerank request; no key goes by these names."""


def _form(given: Any) -> str:
    has_texts = "texts" in given if isinstance(given, dict) else isinstance(given, RerankTextsRequest)
    return OF_TEXTS if has_texts else OF_DOCUMENTS


AnyRerankRequest = Annotated[
    Annotated[RerankRequest, Tag(OF_DOCUMENTS)] | Annotated[RerankTextsRequest, Tag(OF_TEXTS)], Discriminator(_form)
]


class RerankResult(BaseModel):
    """One document in its new place.

    Attributes:
        index: Its index in the request, from 0.
        relevance_score: The sort key of the results, from 0 to 1. A document that keeps its place has the key of
            the result before it.
        document: The document, if requested; `/rerank` has it as `text`.
        text: The document, if requested of `/rerank`.
    """

    index: int
    relevance_score: float
    document: Any = None
    text: Any = None


class RerankResponse(BaseModel):
    """The page in its new order.

    Attributes:
        id: Id of this response.
        object: What this is.
        created: When, in seconds since 1970.
        model: The version that ranked.
        results: The documents.
        usage: Tokens of a language model: none.
        meta: The bundle, whether the engine's own order was returned, and `unknown`, `unknown_ids`, `missing_features`
            and `unknown_features` as in `RankResponse`.
    """

    id: str
    object: Literal["rerank"]
    created: int
    model: str
    results: list[RerankResult]
    usage: dict[str, int]
    meta: dict[str, Any]


class RerankedText(BaseModel):
    """One text in its new place.

    Attributes:
        index: Its index in the request, from 0.
        score: The sort key of the results.
        text: The text, if requested.
    """

    index: int
    score: float
    text: str | None = None


_UBI_EVENT = {
    "title": "UbiEvent",
    "type": "object",
    "description": "An event of User Behavior Insights 1.3 or earlier. Each is read by itself, as `shelfrank import "
    "ubi` reads it from a file: an invalid event affects no other, and the response counts it by reason.",
    "properties": {
        "action_name": {
            "description": f"The action, as a text: {', '.join(f'`{action}`' for action in KNOWN_ACTIONS)}. Any "
            "other action is ignored."
        },
        "timestamp": {
            "description": "A date and time of ISO 8601, UTC if it names no zone, or milliseconds since 1970, "
            "from 1990 on and before 2100; now if left out or null. For an outcome, best the time of its results page.",
            "examples": ["2025-06-30T12:00:00Z", 1751284800000],
        },
        "user_id": {"description": f"The customer: a text or a whole number, at most {MAX_ID} characters."},
        "client_id": {"description": "The client, which identifies the visitor if the user is left out."},
        "session_id": {"description": "The visit: a text or a whole number."},
        "user_query": {
            "description": f"The query of the results page, a text of at most {MAX_TEXT} characters; left out, the "
            "event is an engagement elsewhere. A `view` or `watch` is one in either case."
        },
        "event_attributes": {
            "description": "The product and its position.",
            "properties": {
                "object": {
                    "description": "The product.",
                    "properties": {
                        "object_id": {"description": "Its id: a text or a whole number."},
                        "object_id_field": {"description": "The key beside it that holds the id instead."},
                    },
                },
                "position": {
                    "description": "The position of the product.",
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
"""Types of the properties are prose: a schema that required them would refuse a batch for one invalid event."""

UbiEvent = Annotated[dict[Any, Any], WithJsonSchema(_UBI_EVENT)]


class SearchRequest(BaseModel):
    """A search on the page.

    Attributes:
        query: The query as typed.
        customer_id: The shopper; an anonymous visitor if left out.
        session_id: The visit.
        task_weights: Weights that fuse the tasks' scores; the bundle's if left out.
        top_n: Products that each order lists.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"query": "red sofa", "customer_id": "c00017", "task_weights": {"purchase": 1}}]
        },
    )

    query: Text
    customer_id: Id | None = None
    session_id: Id | None = None
    task_weights: TaskWeights | None = None
    top_n: Annotated[int, Field(strict=True, ge=1, le=N_CANDIDATES), AsWhole] = 20


class ExplainRequest(SearchRequest):
    """A product of a search to explain.

    Attributes:
        product_id: The product.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"query": "red sofa", "customer_id": "c00017", "product_id": "p00845"}]},
    )

    product_id: Id


class ActionRequest(BaseModel):
    """An action of the page's shopper.

    Attributes:
        query: The query of the results.
        product_id: The product.
        action: The last action: a purchase includes a click and adding to the cart.
        position: Position of the product, from 1.
        customer_id: The shopper; an anonymous visitor if left out.
        session_id: The visit.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"query": "red sofa", "product_id": "p00845", "action": "click", "customer_id": "c00017"}]
        },
    )

    query: Text
    product_id: Id
    action: Task
    position: Annotated[int, Field(strict=True, ge=1, le=N_CANDIDATES), AsWhole] = 1
    customer_id: Id | None = None
    session_id: Id | None = None


class ShopResponse(BaseModel):
    """A response to the page; `serve/shop.py` describes its fields."""

    model_config = ConfigDict(extra="allow")


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

    events: Annotated[list[UbiEvent], Field(max_length=MAX_EVENTS)]


class EventsResponse(BaseModel):
    """Counts of the events of a request.

    Attributes:
        accepted: Events of the request; those that a bundle may use are stored, and later bundles read them too.
        passed_over: By reason, the events among them that change no feature of the serving bundle.
    """

    accepted: int
    passed_over: dict[str, int]


class RequestedFeature(BaseModel):
    """A declared feature that requests bring.

    Attributes:
        name: The feature, as requests must spell it.
        kind: A number, or a text that names a category.
        side: The side: `customer`, `query`, `product`, `interaction` or `context`.
        place: The part of the request: `features` of each of the `candidates`, `customer` or `context`.
        needed: When the bundle has no value of its own.
    """

    name: str
    kind: Literal["numerical", "categorical"]
    side: str
    place: Literal["candidates", "customer", "context"]
    needed: Literal["always", "unknown product", "unknown customer"]


class BundleResponse(BaseModel):
    """The serving bundle.

    Attributes:
        bundle: The version.
        ranker: The ranker's name.
        label: Its name in tables.
        tasks: The tasks that it scores.
        task_weights: Weights that fuse their scores, unless the request has others.
        gives_probabilities: Whether the tasks' scores are probabilities.
        precision: The precision of its graphs.
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
    """The serving version after a reload.

    Attributes:
        bundle: The version.
        changed: Whether it differs from the one before.
        precision: The precision of its graphs.
        fallback: Why that is float32 in place of the requested 8 bits; null if it is the requested one.
    """

    bundle: str
    changed: bool
    precision: str
    fallback: str | None = None


class Problem(BaseModel):
    """Why a request was refused.

    Attributes:
        detail: What must hold, and which part of the request does not.
    """

    detail: str
