"""The initial catalogue of the sandbox's product service.

Half of the articles cannot be ordered, each for another reason.
"""

from dataclasses import dataclass

from common.api_docs.pages import LOCAL_USER
from infra.local.sandbox.store import Store

DEMO_USER = LOCAL_USER
POTTERY = "50000000-0000-4000-8000-000000000001"
WORKSHOP = "50000000-0000-4000-8000-000000000002"

MUG = "a0000000-0000-4000-8000-000000000001"
TEAPOT = "a0000000-0000-4000-8000-000000000002"
NAIL = "a0000000-0000-4000-8000-000000000003"
POSTER = "a0000000-0000-4000-8000-000000000004"
CANDLE = "a0000000-0000-4000-8000-000000000005"
CLOCK = "a0000000-0000-4000-8000-000000000006"
RUG = "a0000000-0000-4000-8000-000000000007"
VASE = "a0000000-0000-4000-8000-000000000008"
LAMP = "a0000000-0000-4000-8000-000000000009"
GIFT = "a0000000-0000-4000-8000-000000000010"
SAMPLE = "a0000000-0000-4000-8000-000000000011"
STICKER = "a0000000-0000-4000-8000-000000000012"
LEAFLET = "a0000000-0000-4000-8000-000000000013"
UNKNOWN = "a0000000-0000-4000-8000-999999999999"


@dataclass(frozen=True, kw_only=True)
class Article:
    """A product and its only variation. Prices are the decimal text on the wire."""

    id: str
    title: str | None = None
    amount: int = 0
    price: str | None = None
    base_price: str | None = None
    shop_id: str | None = POTTERY
    is_active: bool | None = True
    has_product: bool = True
    has_product_id: bool = True
    is_nested: bool = True

    @property
    def product_id(self) -> str:
        """The variation's id with another first digit."""
        return "b" + self.id[1:]


ARTICLES = (
    Article(id=MUG, title="Mug, blue", amount=1000, price="19.99", base_price="25.0"),
    Article(id=TEAPOT, title="Teapot", amount=5, price="34.5", base_price="34.5"),
    # 100.5 cents: half up is 101, a binary float makes it 100.
    Article(
        id=NAIL,
        title="Nail, by hand",
        amount=100_000,
        price="1.005",
        base_price="2.0",
        shop_id=WORKSHOP,
    ),
    # No price of its own: the base price counts.
    Article(id=POSTER, title="Poster", amount=40, base_price="12.0", shop_id=WORKSHOP),
    # "is_active" is missing from the response: counts as active.
    Article(id=CANDLE, title="Candle", amount=60, price="4", is_active=None),
    # The variation is returned without its product, which has to be read separately.
    Article(id=CLOCK, title="Clock", amount=30, price="89.9", is_nested=False),
    Article(id=RUG, title="Rug", amount=0, price="120.0"),
    # Oversold: stock below zero.
    Article(id=VASE, title="Vase", amount=-3, price="45.0"),
    Article(id=LAMP, title="Lamp", amount=10, price="60.0", is_active=False),
    Article(id=GIFT, title="Gift", amount=10, price="5.0", shop_id=None),
    Article(id=SAMPLE, title="Sample, not for sale", amount=10),
    Article(id=STICKER, amount=10, price="1.0", has_product_id=False),
    # Its product was deleted.
    Article(id=LEAFLET, amount=10, price="1.0", has_product=False),
)


def put_article(store: Store, article: Article) -> None:
    """Add the article to the catalogue, or replace the one with its id."""
    with store.transaction() as connection:
        connection.execute(
            "INSERT OR REPLACE INTO variation VALUES (?, ?, ?, ?, ?)",
            (
                article.id,
                article.product_id if article.has_product_id else None,
                article.amount,
                article.price,
                article.is_nested,
            ),
        )
        if article.has_product and article.has_product_id:
            connection.execute(
                "INSERT OR REPLACE INTO product VALUES (?, ?, ?, ?, ?)",
                (
                    article.product_id,
                    article.shop_id,
                    article.title,
                    article.is_active,
                    article.base_price,
                ),
            )


def fill_catalogue(store: Store) -> None:
    """Put the articles above into the catalogue if it is empty."""
    with store.transaction() as connection:
        if connection.execute("SELECT 1 FROM variation LIMIT 1").fetchone():
            return
    for article in ARTICLES:
        put_article(store, article)
