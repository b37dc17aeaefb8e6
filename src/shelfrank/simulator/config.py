"""Every parameter of the simulated shop with its reason; `docs/storefront.md` prints them as a table.

They were chosen by what is known of shops and checked only against aggregate rates (products per search,
shares of searches with a click, a cart, a purchase) and against bounds that need no ranker. No ranker's result
was used.
"""

from pydantic import BaseModel, ConfigDict, Field, model_validator

CATALOGUE_MINIMUM = 100
CUSTOMERS_MINIMUM = 10


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CatalogueParameters(_Parameters):
    """The products of the shop."""

    launched_during: float = Field(
        default=0.15, ge=0, le=1, description="share of products launched within the log: cold products must exist"
    )
    category_concentration: float = Field(
        default=0.5, ge=0, description="spread of the log of category sizes: shops are lopsided"
    )
    brand_concentration: float = Field(
        default=0.7, ge=0, description="Zipf exponent of brands within a department: a few brands fill the shelf"
    )
    tier_price_step: float = Field(
        default=0.45, ge=0, description="log price between brand tiers: premium costs about 1.6 times the middle"
    )
    price_spread: float = Field(
        default=0.35, ge=0, description="spread of log price within a tier: most of a kind lie within a factor of two"
    )
    missing_attribute: float = Field(
        default=0.05, ge=0, le=1, description="share of attributes that the shop did not fill in"
    )
    title_attribute: float = Field(
        default=0.6, ge=0, le=1, description="probability that a title names an attribute: sellers leave words out"
    )
    discounted: float = Field(
        default=0.12, ge=0, le=1, description="share of product weeks on offer: about one product in eight"
    )
    trend_step: float = Field(
        default=0.08, ge=0, description="weekly step of a brand's random walk of demand: fashions move over months"
    )


class TasteParameters(_Parameters):
    """Weight of each part of a customer's taste in the personal fit, in logits of a click."""

    brand: float = Field(default=0.7, ge=0, description="per unit of the match of latent brand styles")
    favorite_brand: float = Field(
        default=1.4, ge=0, description="the customer's own brand of the department: strong habit"
    )
    color: float = Field(default=0.9, ge=0, description="a favourite colour, or the one sought at this visit")
    price: float = Field(
        default=0.9, ge=0, description="per unit of distance between price and the customer's price level"
    )
    quality: float = Field(
        default=0.6, ge=0, description="per unit of quality times how much the customer minds quality"
    )
    age_group: float = Field(default=2.4, ge=0, description="loss when the product is made for another age group")
    kind: float = Field(
        default=1.9, ge=0, description="the product type sought at this visit where the query names none"
    )
    personal: float = Field(default=0.8, ge=0, description="lasting taste for a product that no attribute explains")


class TrafficParameters(_Parameters):
    """Visits: customers, times, frequency."""

    activity_spread: float = Field(
        default=1.3, ge=0, description="spread of the log of visits a customer pays: a few very active, most not"
    )
    anonymous: float = Field(default=0.25, ge=0, lt=1, description="share of visits that are not signed in")
    mean_searches: float = Field(default=1.7, ge=1, description="searches a visit: most hold one or two")
    favorite_category: float = Field(
        default=0.7, ge=0, le=1, description="share of visits to one of the customer's six favourite categories"
    )
    habit: float = Field(
        default=0.35, ge=0, le=1, description="share of visits that repeat an earlier need of the customer"
    )
    other_category: float = Field(
        default=0.15, ge=0, le=1, description="share of further searches of a visit that turn to another category"
    )
    weekend: float = Field(default=1.25, gt=0, description="traffic on Saturday and Sunday against a weekday")
    growth: float = Field(default=0.15, gt=-1, description="growth of traffic over a year, as a share")
    phone: float = Field(
        default=0.62, ge=0, le=1, description="share of visits by phone: most of a shop's traffic today"
    )
    demographics_missing: float = Field(
        default=0.12, ge=0, le=1, description="share of each demographic field that is unknown"
    )
    demographics_wrong: float = Field(
        default=0.1, ge=0, le=1, description="share of known demographic fields that are wrong or outdated"
    )


class QueryParameters(_Parameters):
    """Queries and their typing errors."""

    intents: int = Field(
        default=10_000, gt=0, description="distinct needs: enough for a long tail at a million impressions"
    )
    zipf: float = Field(
        default=0.9, ge=0, description="exponent of popularity over the intents of a category: head, torso, tail"
    )
    typo: float = Field(
        default=0.08, ge=0, le=1, description="share of searches with a typing error: shops report 5 to 15 %"
    )
    taste: float = Field(default=1.0, ge=0, description="how strongly a customer words the taste as part of the query")


class RankingParameters(_Parameters):
    """The shop's own retrieval and order: text match, then sales, with randomisation."""

    type_known: float = Field(
        default=0.5, ge=0, le=1, description="share of queries whose product type the engine recognises"
    )
    type_mistaken: float = Field(
        default=0.08, ge=0, le=1, description="share of queries for which it takes the wrong type"
    )
    speller: float = Field(default=0.55, ge=0, le=1, description="share of misspelt words that the engine corrects")
    text: float = Field(default=1.6, ge=0, description="weight of the text match, which is between 0 and 1")
    popularity: float = Field(
        default=0.35, ge=0, description="weight of past sales, which a new product has yet to make"
    )
    rating: float = Field(default=0.15, ge=0, description="weight of the shown rating")
    merchandising: float = Field(
        default=0.3, ge=0, description="weight of margins and deals, unrelated to customers' tastes"
    )
    randomisation: float = Field(
        default=0.35, ge=0, description="spread of the noise that each request adds to each product"
    )
    popularity_days: float = Field(
        default=45.0, gt=0, description="days in which a new product gains most of its sales rank"
    )
    block: int = Field(default=8, gt=0, description="products loaded at once while scrolling")
    scroll_on: float = Field(
        default=0.72,
        ge=0,
        le=1,
        description="probability of loading the next block; 0.04 less by phone, 0.04 more elsewhere",
    )

    @model_validator(mode="after")
    def _check(self) -> "RankingParameters":
        if self.type_known + self.type_mistaken > 1:
            given = f"{self.type_known} and {self.type_mistaken}"
            raise ValueError(f"type_known and type_mistaken must add up to at most 1, not {given}; lower one of them")
        return self


class BehaviourParameters(_Parameters):
    """Examination and actions on shown products; all probabilities are logistic."""

    examine_first: float = Field(default=0.96, gt=0, le=1, description="probability that the first product is examined")
    examine_decay: float = Field(
        default=0.4, ge=0, description="examination falls with position to this power: published 0.3 to 1"
    )
    examine_decay_phone: float = Field(default=0.5, ge=0, description="the same by phone, where a screen shows less")
    click: tuple[float, float, float, float] = Field(
        default=(-6.0, -4.6, -3.1, -1.6),
        description="logit of a click given examination at grades 0 to 3, at a fit of 0",
    )
    appeal: float = Field(default=1.0, ge=0, description="per unit of a product's appeal, the same for all customers")
    trend: float = Field(default=0.6, ge=0, description="per unit of a brand's trend, the same for all customers")
    cart: float = Field(
        default=-2.4,
        description="logit of a cart given a click, at a fit of 0: about one click in twelve, more where it fits",
    )
    cart_fit: float = Field(default=0.7, ge=0, description="increase of the logit of a cart per unit of fit")
    cart_grade: float = Field(default=0.25, ge=0, description="decrease of the logit of a cart per grade below 3")
    purchase: float = Field(default=-0.4, description="logit of a purchase given a cart: most carts are abandoned")
    purchase_price: float = Field(default=0.8, ge=0, description="loss per unit of price above the customer's level")
    purchase_discount: float = Field(
        default=2.0, ge=0, description="gain per unit of discount share: 20 % off adds 0.4"
    )
    click_discount: float = Field(default=1.0, ge=0, description="the same for a click, where the badge is seen")
    eagerness: float = Field(default=0.6, ge=0, description="spread between visits of the will to click and to buy")
    panel: int = Field(
        default=96, gt=1, description="customers over whom the non-personalized truth is averaged, per category"
    )


class StorefrontConfig(_Parameters):
    """Size and parameters of one simulated shop."""

    searches: int = Field(default=45_000, gt=0, description="searches to simulate: about a million impressions")
    products: int = Field(default=12_000, ge=CATALOGUE_MINIMUM, description="products: about fifty of each type")
    customers: int = Field(default=6_000, ge=CUSTOMERS_MINIMUM, description="customers: the mean one comes a few times")
    days: int = Field(default=60, ge=2, le=3650, description="days of the log, the last being 2025-06-30 (UTC)")
    seed: int = Field(default=1, ge=0, description="the same seed gives the same bits")
    candidates: int = Field(default=40, ge=2, le=200, description="most products on one page")
    catalogue: CatalogueParameters = CatalogueParameters()
    taste: TasteParameters = TasteParameters()
    traffic: TrafficParameters = TrafficParameters()
    queries: QueryParameters = QueryParameters()
    ranking: RankingParameters = RankingParameters()
    behaviour: BehaviourParameters = BehaviourParameters()
