"""How the releases of Amazon reviews of 2014, 2018 and 2023 name their categories, files and fields."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

__all__ = ["RELEASES", "Release"]

SHARED = (
    *("Automotive", "Books", "CDs_and_Vinyl", "Cell_Phones_and_Accessories", "Clothing_Shoes_and_Jewelry"),
    *("Digital_Music", "Electronics", "Grocery_and_Gourmet_Food", "Home_and_Kitchen", "Kindle_Store"),
    *("Movies_and_TV", "Musical_Instruments", "Office_Products", "Patio_Lawn_and_Garden", "Pet_Supplies"),
    *("Sports_and_Outdoors", "Tools_and_Home_Improvement", "Toys_and_Games", "Video_Games"),
)


@dataclass(frozen=True)
class Release:
    """How one release of the reviews names its files and fields."""

    year: int
    categories: tuple[str, ...]
    reviews: str  # name of the file of reviews, {} stands for the category
    metadata: str
    reviews_at: str
    metadata_at: str
    homepage: str
    citation: str
    fields: Mapping[str, str]  # field of the file -> column of ours
    schema: dict[str, pl.DataType | type[pl.DataType]]  # field of the file -> type
    milliseconds: int  # in one unit of the file's times
    item: str = "asin"  # the field that names the product


FIELDS = {
    "reviewerID": "user",
    "asin": "item",
    "overall": "value",
    "unixReviewTime": "time",
    "reviewText": "review",
    "summary": "summary",
}
TYPES = {
    "reviewerID": pl.String,
    "asin": pl.String,
    "overall": pl.Float32,
    "unixReviewTime": pl.Int64,
    "reviewText": pl.String,
    "summary": pl.String,
}
AT_UCSD = "https://mcauleylab.ucsd.edu/public_datasets/data"

RELEASES = {
    "14": Release(
        2014,
        (
            *SHARED,
            *("Amazon_Instant_Video", "Apps_for_Android", "Baby", "Beauty", "Health_and_Personal_Care"),
        ),
        "reviews_{}_5.json.gz",
        "meta_{}.json.gz",
        "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles",
        "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles",
        "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
        "McAuley et al., 2015",
        {**FIELDS, "helpful": "helpful"},
        {**TYPES, "helpful": pl.List(pl.Int64)},
        1000,
    ),
    "18": Release(
        2018,
        (
            *SHARED,
            *("AMAZON_FASHION", "All_Beauty", "Appliances", "Arts_Crafts_and_Sewing", "Gift_Cards"),
            *("Industrial_and_Scientific", "Luxury_Beauty", "Magazine_Subscriptions", "Prime_Pantry", "Software"),
        ),
        "{}_5.json.gz",
        "meta_{}.json.gz",
        f"{AT_UCSD}/amazon_v2/categoryFilesSmall",
        f"{AT_UCSD}/amazon_v2/metaFiles2",
        "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon_v2/",
        "Ni et al., 2019",
        {**FIELDS, "vote": "helpful", "verified": "verified"},
        {**TYPES, "vote": pl.String, "verified": pl.Boolean},
        1000,
    ),
    "23": Release(
        2023,
        (
            *SHARED,
            *("All_Beauty", "Amazon_Fashion", "Appliances", "Arts_Crafts_and_Sewing", "Baby_Products"),
            *("Beauty_and_Personal_Care", "Gift_Cards", "Handmade_Products", "Health_and_Household"),
            *("Health_and_Personal_Care", "Industrial_and_Scientific", "Magazine_Subscriptions", "Software"),
            *("Subscription_Boxes", "Unknown"),
        ),
        "{}.jsonl.gz",
        "meta_{}.jsonl.gz",
        f"{AT_UCSD}/amazon_2023/raw/review_categories",
        f"{AT_UCSD}/amazon_2023/raw/meta_categories",
        "https://amazon-reviews-2023.github.io/",
        "Hou et al., 2024",
        {
            "user_id": "user",
            "parent_asin": "item",
            "rating": "value",
            "timestamp": "time",
            "text": "review",
            "title": "summary",
            "helpful_vote": "helpful",
            "verified_purchase": "verified",
        },
        {
            "user_id": pl.String,
            "parent_asin": pl.String,
            "rating": pl.Float32,
            "timestamp": pl.Int64,
            "text": pl.String,
            "title": pl.String,
            "helpful_vote": pl.Int64,
            "verified_purchase": pl.Boolean,
        },
        1,
        # The variants of a product share their metadata, and that is filed under the parent.
        "parent_asin",
    ),
}
