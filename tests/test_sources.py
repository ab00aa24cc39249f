"""Published data: tiny files of each layout checked by hand, downloads from a local server, real counts."""

import functools
import gzip
import hashlib
import http.server
import io
import json
import os
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from foretaste import sources
from foretaste.dataset import Dataset, Needs
from foretaste.errors import DataError, UnknownName
from foretaste.ragged import PAD
from foretaste.run import silent
from foretaste.sources import Given, RemoteFile, Source, describe_sources, folder_of, load, load_given, present
from foretaste.sources.assemble import assembled
from foretaste.sources.download import fetch


def put(root: Path, files: Mapping[str, str | bytes], encoding: str = "utf-8") -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return root


class Told:
    """A log that remembers."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.numbers: dict[str, float] = {}

    def __call__(self, message: str, numbers: dict[str, float] | None = None) -> None:
        self.messages.append(message)
        self.numbers |= numbers or {}

    @property
    def text(self) -> str:
        return "\n".join(self.messages)


def events_of(data: Dataset) -> list[tuple[object, ...]]:
    """(user, item) of each event by outside id, in the order of the dataset."""
    return list(zip(data.users.lookup(data.user), data.items.lookup(data.item), strict=True))


def item_column(data: Dataset, name: str) -> dict[object, object]:
    assert data.catalog is not None
    return dict(zip(data.items.lists(), data.catalog.items[name].lists(), strict=True))


def user_column(data: Dataset, name: str) -> dict[object, object]:
    assert data.catalog is not None
    return dict(zip(data.users.lists(), data.catalog.users[name].lists(), strict=True))


def event_column(data: Dataset, name: str) -> list[object]:
    assert data.columns is not None
    return list(data.columns[name].lists())


ML_100K = {
    "ml-100k/u.data": "7\t2\t4\t874965758\n7\t1\t5\t874965700\n3\t2\t1\t881250949\n",
    "ml-100k/u.item": (
        "1|Toy Story (1995)|01-Jan-1995||http://x|" + "|".join("0001110000000000000") + "\n"
        "2|Café, Le (1992) (V)|01-Jan-1992||http://x|" + "|".join("1000000000000000000") + "\n"
    ),
    "ml-100k/u.user": "3|24|M|technician|85711\n7|53|F|other|T8H1N\n",
}


def test_ml_100k_has_ratings_genres_years_and_people(tmp_path: Path) -> None:
    put(tmp_path, ML_100K, "latin-1")
    data = load("ml-100k", tmp_path)
    assert data.name == "ml-100k"
    assert events_of(data) == [(3, 2), (7, 1), (7, 2)]
    assert data.time is not None and data.time.tolist() == [881250949000, 874965700000, 874965758000]
    assert data.value is not None and data.value.tolist() == [1.0, 5.0, 4.0]
    assert item_column(data, "title") == {1: "Toy Story (1995)", 2: "Café, Le (1992) (V)"}
    # The flag "unknown" is no genre.
    assert item_column(data, "genres") == {1: ["Animation", "Children's", "Comedy"], 2: []}
    assert item_column(data, "year") == {1: 1995.0, 2: 1992.0}
    assert user_column(data, "age") == {3: 24.0, 7: 53.0}
    assert user_column(data, "zip") == {3: "85711", 7: "T8H1N"}
    assert data.catalog is not None and "plot" not in data.catalog.items


def test_plots_are_read_where_they_are(tmp_path: Path) -> None:
    plots = 'movie_id\ttitle\tplot\n2\tCafé\t"A ""quoted"" plot."\n1\tToy\tN/A\n'
    put(put(tmp_path, ML_100K, "latin-1"), {"ml-100k/movies_omdb.tsv": plots})
    assert item_column(load("ml-100k", tmp_path), "plot") == {1: "", 2: 'A "quoted" plot.'}


def test_a_broken_film_row_is_named_with_its_line(tmp_path: Path) -> None:
    put(tmp_path, {**ML_100K, "ml-100k/u.item": ML_100K["ml-100k/u.item"] + "3|Short|1\n"}, "latin-1")
    with pytest.raises(DataError, match=r"u\.item, line 3: 3 fields where u\.item has 24"):
        load("ml-100k", tmp_path)


ML_1M = {
    "ml-1m/ratings.dat": "1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978300275\n",
    "ml-1m/movies.dat": (
        "661::James and the Giant Peach (1996)::Animation|Children's|Musical\n1193::Café: One Flew Over (1975)::Drama\n"
    ),
    "ml-1m/users.dat": "1::F::1::10::48067\n2::M::56::16::70072\n",
}


def test_ml_1m_has_names_instead_of_codes(tmp_path: Path) -> None:
    put(tmp_path, ML_1M, "latin-1")
    data = load("ml-1m", tmp_path)
    assert events_of(data) == [(1, 1193), (1, 661), (2, 1193)]
    assert data.time is not None and data.time.tolist() == [978300760000, 978302109000, 978300275000]
    assert data.value is not None and data.value.tolist() == [5.0, 3.0, 4.0]
    assert item_column(data, "title")[1193] == "Café: One Flew Over (1975)"
    assert item_column(data, "genres")[661] == ["Animation", "Children's", "Musical"]
    assert user_column(data, "age") == {1: "under 18", 2: "56+"}
    assert user_column(data, "gender") == {1: "F", 2: "M"}
    assert user_column(data, "occupation") == {1: "K-12 student", 2: "self-employed"}


def test_ml_1m_without_its_tables_is_plain_and_says_so(tmp_path: Path) -> None:
    put(tmp_path, {"ml-1m/ratings.dat": ML_1M["ml-1m/ratings.dat"]})
    told = Told()
    data = load("ml-1m", tmp_path, told)
    assert data.has == Needs.ORDER | Needs.TIMES | Needs.VALUES
    assert "movies.dat is not in" in told.text
    assert "users.dat is not in" in told.text


SASREC = {
    "ml-1m/ml-1m.txt": "1 2\n1 1\n1 3\n1 4\n2 1\n2 4\n2 3\n2 2\n",
    "ml-1m/sas_to_original_items.txt": "1 1193\n2 661\n3 5\n4 6\n",
    "ml-1m/sas_to_original_users.txt": "1 2\n2 1\n",
}


def test_ml_1m_sasrec_is_ordered_without_times_and_mapped(tmp_path: Path) -> None:
    put(tmp_path, {**ML_1M, **SASREC}, "latin-1")
    data = load("ml-1m-sasrec", tmp_path)
    assert data.time is None and data.ordered and data.value is None
    assert data.histories.lists() == [[1, 0, 2, 3], [0, 3, 2, 1]]
    assert item_column(data, "title") == {
        1: "Café: One Flew Over (1975)",
        2: "James and the Giant Peach (1996)",
        3: "",
        4: "",
    }
    assert item_column(data, "genres")[1] == ["Drama"]
    assert item_column(data, "year")[2] == 1996.0
    assert user_column(data, "gender") == {1: "M", 2: "F"}


def test_ml_1m_sasrec_without_mapping_is_plain(tmp_path: Path) -> None:
    put(tmp_path, {"ml-1m/ml-1m.txt": SASREC["ml-1m/ml-1m.txt"]})
    told = Told()
    assert load("ml-1m-sasrec", tmp_path, told).has == Needs.ORDER
    assert "sas_to_original_items.txt is not in" in told.text


def test_validation_users_are_those_who_lack_three_events(tmp_path: Path) -> None:
    put(tmp_path, SASREC)
    assert sources.validation_users("ml-1m-sasrec", tmp_path) is None
    put(tmp_path, {"ml-1m/gsasrec_split/train/input.txt": "2 1\n1\n"})
    found = sources.validation_users("ml-1m-sasrec", tmp_path)
    assert found is not None and found.tolist() == [2]
    assert sources.validation_users("ml-100k", tmp_path) is None


@pytest.mark.parametrize("lines", ["2 1\n", "2 1\n4\n", "2\n1\n1\n", "\n1\n"], ids=["few", "other", "many", "short"])
def test_a_validation_file_of_other_data_is_refused(tmp_path: Path, lines: str) -> None:
    put(tmp_path, {**SASREC, "ml-1m/gsasrec_split/train/input.txt": lines})
    with pytest.raises(DataError, match=r"input\.txt does not belong to ml-1m\.txt"):
        sources.validation_users("ml-1m-sasrec", tmp_path)


RETAILROCKET_EVENTS = (
    "timestamp,visitorid,event,itemid,transactionid\n"
    "1433221332117,9,view,355,\n"
    "1433221332100,9,addtocart,355,\n"
    "1433221999827,4,transaction,248,4000\n"
)


def test_retailrocket_takes_the_latest_property(tmp_path: Path) -> None:
    put(
        tmp_path / "retailrocket",
        {
            "events.csv": RETAILROCKET_EVENTS,
            "item_properties_part1.csv": (
                "timestamp,itemid,property,value\n"
                "1435460400000,355,categoryid,20\n"
                "1435460400000,355,888,1116713 960601 n277.200\n"
                "1435460400000,248,available,1\n"
            ),
            "item_properties_part2.csv": (
                "timestamp,itemid,property,value\n1431226800000,355,categoryid,10\n1442113200000,248,available,0\n"
            ),
            "category_tree.csv": "categoryid,parentid\n20,2\n10,1\n2,\n",
        },
    )
    data = load("retailrocket", tmp_path)
    assert data.kinds.names == ("view", "addtocart", "transaction")
    assert events_of(data) == [(4, 248), (9, 355), (9, 355)]
    assert data.kind is not None and data.kind.tolist() == [2, 1, 0]
    assert data.time is not None and data.time[1] == 1433221332100
    assert event_column(data, "transactionid") == [4000.0, None, None]
    assert item_column(data, "category") == {248: None, 355: "20"}
    assert item_column(data, "parent_category") == {248: None, 355: "2"}
    assert item_column(data, "available") == {248: 0.0, 355: None}


def test_retailrocket_columns_are_found_by_name_not_place(tmp_path: Path) -> None:
    shuffled = "event,itemid,timestamp,transactionid,visitorid\nview,355,1433221332117,,9\n"
    put(tmp_path, {"retailrocket/events.csv": shuffled})
    assert events_of(load("retailrocket", tmp_path)) == [(9, 355)]


def test_an_unknown_kind_of_event_is_refused(tmp_path: Path) -> None:
    put(tmp_path, {"retailrocket/events.csv": RETAILROCKET_EVENTS.replace("view", "stare")})
    with pytest.raises(DataError, match=r"events\.csv is not in the publisher's layout: .*stare"):
        load("retailrocket", tmp_path)


def test_given_purchases_share_the_vocabularies_and_have_no_times(tmp_path: Path) -> None:
    put(tmp_path, {"retailrocket-buyers/events.csv": RETAILROCKET_EVENTS})
    put(tmp_path, {"retailrocket-buyers/test_buy.csv": "user,item\n4,355\n9,700\n"})
    given = load_given("retailrocket-buyers", tmp_path)
    assert isinstance(given, Given)
    assert given.train.users.lists() == given.test.users.lists()
    assert given.train.items.lists() == given.test.items.lists() == [248, 355, 700]
    assert events_of(given.test) == [(4, 355), (9, 700)]
    assert given.test.time is None and not given.test.ordered
    assert given.test.kind is not None and given.test.kind.tolist() == [2, 2]
    assert given.test.kinds == given.train.kinds
    assert len(given.train) == 3 and given.train.name == "retailrocket-buyers"
    assert load("retailrocket-buyers", tmp_path).columns is None


def test_tmall_puts_favourites_below_carts_and_reads_seconds(tmp_path: Path) -> None:
    events = "user,item,event,timestamp\n5,1,fav,1511539200\n5,2,buy,1511539202\n5,2,cart,1511539201\n"
    put(tmp_path, {"tmall/events.csv": events, "tmall/test_buy.csv": "user,item\n5,1\n"})
    data = load("tmall", tmp_path)
    assert data.kinds.names == ("fav", "cart", "buy")
    assert data.kind is not None and data.kind.tolist() == [0, 1, 2]
    assert data.time is not None and data.time.tolist() == [1511539200000, 1511539201000, 1511539202000]
    test = load_given("tmall", tmp_path).test
    assert test.kind is not None and test.kinds.names[test.kind[0]] == "buy"


def test_lightgcn_parts_share_the_vocabularies(tmp_path: Path) -> None:
    # Published files have users without items, and blanks at the end of lines.
    put(tmp_path, {"gowalla/train.txt": "0 3 1 \n1 2\n2\n", "gowalla/test.txt": "0 2\n1 9 3\n"})
    data = load("gowalla", tmp_path)
    assert sorted(events_of(data)) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (1, 9)]
    assert not data.ordered and data.time is None
    given = load_given("gowalla", tmp_path)
    assert events_of(given.train) == [(0, 3), (0, 1), (1, 2)]
    assert events_of(given.test) == [(0, 2), (1, 9), (1, 3)]
    assert given.train.items.lists() == given.test.items.lists() == [1, 2, 3, 9]


def test_lightgcn_refuses_what_is_no_number(tmp_path: Path) -> None:
    put(tmp_path, {"gowalla/train.txt": "0 3 x\n", "gowalla/test.txt": "0 2\n"})
    with pytest.raises(DataError, match=r"train\.txt is not in the publisher's layout: .*'x'"):
        load("gowalla", tmp_path)
    put(tmp_path, {"gowalla/train.txt": "\n"})
    with pytest.raises(DataError, match=r"train\.txt has no line with a user"):
        load("gowalla", tmp_path)


def test_a_data_set_without_a_split_says_which_have_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ml-100k comes without a split .* retailrocket-buyers, gowalla"):
        load_given("ml-100k", tmp_path)


def test_amazon_sequences_join_their_items(tmp_path: Path) -> None:
    put(
        tmp_path / "amazon14-beauty",
        {
            "sequences.txt": "1 3 1\n2 1 2 3\n",
            "items.csv": (
                "asin,s3rec_id,attribute_ids,text_id,letter_id,semantic_id\n"
                'B1,2,4 5,nail lacquer,1,<a_1>\nB2,1,5,"wet, wild",0,<a_2>\nB3,3,,,2,<a_3>\n'
            ),
        },
    )
    data = load("amazon14-beauty", tmp_path)
    assert data.ordered and data.time is None
    assert events_of(data) == [(1, 3), (1, 1), (2, 1), (2, 2), (2, 3)]
    assert item_column(data, "asin") == {1: "B2", 2: "B1", 3: "B3"}
    assert item_column(data, "title") == {1: "wet, wild", 2: "nail lacquer", 3: ""}
    assert item_column(data, "attributes") == {1: ["5"], 2: ["4", "5"], 3: []}


REVIEWS_2014 = [
    {
        "reviewerID": "A2",
        "asin": "B1",
        "helpful": [13, 14],
        "reviewText": "Works.",
        "overall": 5.0,
        "summary": "good",
        "unixReviewTime": 1393545600,
        "reviewTime": "02 28, 2014",
        "reviewerName": "somebody",
    },
    {
        "reviewerID": "A1",
        "asin": "B2",
        "helpful": [0, 0],
        "reviewText": "",
        "overall": 2.0,
        "unixReviewTime": 1363392000,
    },
    {"asin": "B2", "overall": 2.0, "unixReviewTime": 1363392000},
]


def json_lines(records: list[dict[str, object]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_amazon_2014_reads_reviews_and_metadata_in_literals(tmp_path: Path, packed: bool) -> None:
    metadata = (
        "{'asin': 'B1', 'title': 'Pop \"Filter\"', 'price': 9.95, 'brand': 'Hosa', "
        "'categories': [['Musical Instruments', 'Cables'], ['Musical Instruments', 'Filters']], "
        "'salesRank': {'X': 1}}\n"
        "{'asin': 'ZZ', this line is never read}\n"
    )
    reviews = json_lines(REVIEWS_2014)  # type: ignore[arg-type]
    name = "amazon14-musical-instruments/{}Musical_Instruments{}.json" + (".gz" if packed else "")
    pack = gzip.compress if packed else bytes
    put(
        tmp_path,
        {name.format("reviews_", "_5"): pack(reviews.encode()), name.format("meta_", ""): pack(metadata.encode())},
    )
    told = Told()
    data = load("amazon14-musical-instruments", tmp_path, told)
    assert told.numbers["rows_without_user"] == 1
    assert told.numbers["items_without_metadata"] == 1
    assert events_of(data) == [("A1", "B2"), ("A2", "B1")]
    assert data.time is not None and data.time.tolist() == [1363392000000, 1393545600000]
    assert data.value is not None and data.value.tolist() == [2.0, 5.0]
    assert event_column(data, "review") == ["", "Works."]
    assert event_column(data, "summary") == ["", "good"]
    assert event_column(data, "helpful") == [0.0, 13.0]
    assert event_column(data, "votes") == [0.0, 14.0]
    assert item_column(data, "title") == {"B1": 'Pop "Filter"', "B2": ""}
    assert item_column(data, "categories") == {"B1": ["Musical Instruments", "Cables", "Filters"], "B2": []}
    assert item_column(data, "price") == {"B1": 9.95, "B2": None}
    assert item_column(data, "brand") == {"B1": "Hosa", "B2": None}


def test_amazon_metadata_are_read_and_never_run(tmp_path: Path) -> None:
    trap = "{'asin': 'B1', 'title': __import__('os').mkdir('" + str(tmp_path / "run") + "')}\n"
    put(
        tmp_path / "amazon14-musical-instruments",
        {"reviews_Musical_Instruments_5.json": json_lines(REVIEWS_2014[:1]), "meta_Musical_Instruments.json": trap},  # type: ignore[arg-type]
    )
    with pytest.raises(DataError, match=r"meta_Musical_Instruments\.json, line 1: neither JSON nor a Python literal"):
        load("amazon14-musical-instruments", tmp_path)
    assert not (tmp_path / "run").exists()


def test_amazon_2018_is_found_by_pattern(tmp_path: Path) -> None:
    review = {
        "overall": 4.0,
        "vote": "1,234",
        "verified": True,
        "reviewTime": "01 1, 2018",
        "reviewerID": "A1",
        "asin": "B1",
        "style": {"Format:": " Kindle"},
        "reviewText": "Fine.",
        "summary": "ok",
        "unixReviewTime": 1514764800,
    }
    product = {
        "asin": "B1",
        "title": "A game",
        "price": "$1,299.00 - $1,400",
        "category": ["Games", "PC"],
        "description": ["One.", "Two."],
    }
    put(
        tmp_path / "amazon18-video-games",
        {
            "Video_Games_5.json": json_lines([review, {**review, "vote": None, "verified": False, "reviewerID": "A2"}]),
            "meta_Video_Games.json": json_lines([product]),
        },
    )
    data = load("amazon18-video-games", tmp_path)
    assert data.name == "amazon18-video-games"
    assert event_column(data, "helpful") == [1234.0, 0.0]
    assert event_column(data, "verified") == [1.0, 0.0]
    assert item_column(data, "price") == {"B1": 1299.0}
    assert item_column(data, "description") == {"B1": "One. Two."}
    assert [each.name for each in describe_sources(tmp_path) if each.present] == ["amazon18-video-games"]


def test_amazon_2023_is_filed_under_the_parent_product(tmp_path: Path) -> None:
    review = {
        "rating": 5.0,
        "title": "Nice",
        "text": "Smells good.",
        "images": [],
        "asin": "B0child",
        "parent_asin": "B0parent",
        "user_id": "AG",
        "timestamp": 1588687728923,
        "helpful_vote": 3,
        "verified_purchase": True,
    }
    product = {
        "main_category": "All Beauty",
        "title": "Spray",
        "average_rating": 4.8,
        "store": "Howard",
        "price": 14.5,
        "categories": ["Hair"],
        "parent_asin": "B0parent",
    }
    put(tmp_path, {"amazon23-all-beauty/All_Beauty.jsonl": json_lines([review])})
    put(tmp_path, {"amazon23-all-beauty/meta_All_Beauty.json": json_lines([product])})
    data = load("amazon23-all-beauty", tmp_path)
    assert events_of(data) == [("AG", "B0parent")]
    assert data.time is not None and data.time.tolist() == [1588687728923]
    assert event_column(data, "summary") == ["Nice"]
    assert item_column(data, "brand") == {"B0parent": "Howard"}
    # Mean ratings were taken after the reviews: they would tell the future.
    assert data.catalog is not None and "average_rating" not in data.catalog.items


def test_torn_reviews_are_one_sentence(tmp_path: Path) -> None:
    torn = gzip.compress(json_lines(REVIEWS_2014).encode())[:-20]  # type: ignore[arg-type]
    put(tmp_path, {"amazon14-musical-instruments/reviews_Musical_Instruments_5.json.gz": torn})
    with pytest.raises(DataError, match=r"reviews_Musical_Instruments_5\.json\.gz is not in the publisher's layout"):
        load("amazon14-musical-instruments", tmp_path)


def test_frappe_keeps_the_context_beside_the_counts(tmp_path: Path) -> None:
    put(
        tmp_path / "frappe",
        {
            "frappe.csv": (
                "user\titem\tcnt\tdaytime\tweekday\tisweekend\thomework\tcost\tweather\tcountry\tcity\n"
                "1\t7\t28752\tmorning\tsunday\tweekend\tunknown\tfree\tsunny\tUnited States\t0\n"
                "0\t8\t2\tnight\tmonday\tworkday\thome\tpaid\tunknown\tSpain\t369\n"
            ),
            "meta.csv": (
                "item\tpackage\tcategory\tdownloads\tdeveloper\ticon\tlanguage\t"
                "description\tname\tprice\trating\tshort desc\n"
                '7\tcom.a\tTools\t1,000+\tAny\thttp://x\ten\t"Says ""hi""."\tAny\tFree\t4.5\t\n'
                "8\tcom.b\tunknown\tunknown\tunknown\tunknown\tunknown\tunknown\tunknown\t$3.95\tunknown\tunknown\n"
            ),
        },
    )
    data = load("frappe", tmp_path)
    assert events_of(data) == [(0, 8), (1, 7)]
    assert data.value is not None and data.value.tolist() == [2.0, 28752.0]
    assert not data.ordered
    assert event_column(data, "weather") == ["unknown", "sunny"]
    assert event_column(data, "city") == ["369", "0"]
    assert item_column(data, "description") == {7: 'Says "hi".', 8: ""}
    assert item_column(data, "category") == {7: "Tools", 8: None}
    assert item_column(data, "price") == {7: 0.0, 8: 3.95}
    assert item_column(data, "rating") == {7: 4.5, 8: None}


def online_retail(csv: bool) -> dict[str, bytes]:
    lines = pl.DataFrame(
        {
            "Description": ["LAMP", "MUG", "LAMP", "LAMP", None],
            "Quantity": [6, 2, -1, 3, 1],
            "InvoiceDate": ["12/1/2010 8:26", "12/1/2010 8:26", "12/3/2010 9:00", "12/1/2010 8:26", "12/1/2010 8:26"],
            "UnitPrice": [2.55, 1.0, 2.55, 2.5, 0.0],
            "CustomerID": [17850.0, 17850.0, 17850.0, 13047.0, None],
            "Country": ["France"] * 5,
        }
    )
    if csv:
        return {"online-retail/online_retail.csv": lines.write_csv().encode()}
    buffer = io.BytesIO()
    dates = pl.col("InvoiceDate").str.to_datetime("%m/%d/%Y %H:%M", time_unit="ns")
    lines.with_columns(dates).write_parquet(buffer)
    return {"online-retail/online_retail.parquet": buffer.getvalue()}


@pytest.mark.parametrize("csv", [True, False], ids=["csv", "parquet"])
def test_online_retail_counts_what_it_leaves_out(tmp_path: Path, csv: bool) -> None:
    put(tmp_path, online_retail(csv))
    told = Told()
    data = load("online-retail", tmp_path, told)
    assert told.numbers["rows_without_user"] == 1
    assert told.numbers["returns"] == 1
    assert events_of(data) == [(13047, "LAMP"), (17850, "LAMP"), (17850, "MUG"), (17850, "LAMP")]
    assert data.value is not None and data.value.tolist() == [3.0, 6.0, 2.0, -1.0]
    assert data.time is not None and data.time[0] == 1291191960000
    assert data.session is not None
    one, two, three, four = data.session.tolist()
    assert one != two and two == three and four not in (one, two)
    assert event_column(data, "price") == [2.5, 2.55, 1.0, 2.55]


def test_tmdb_is_a_catalogue_without_events(tmp_path: Path) -> None:
    films = pl.DataFrame(
        {
            "budget": [237000000, 0],
            "genres": ['[{"id": 28, "name": "Action"}, {"id": 12, "name": "Adventure"}]', "[]"],
            "id": [19995, 5],
            "keywords": ['[{"id": 1463, "name": "culture clash"}]', "[]"],
            "original_language": ["en", "fr"],
            "overview": ["A paraplegic Marine,\nfar away.", None],
            "popularity": [150.4, 0.1],
            "production_companies": ["[]", "[]"],
            "production_countries": ["[]", "[]"],
            "release_date": ["2009-12-10", None],
            "revenue": [1, 0],
            "runtime": [162.0, None],
            "spoken_languages": ["[]", "[]"],
            "tagline": ["Enter.", None],
            "title": ["Avatar", "Rien"],
            "vote_average": [7.2, 0.0],
            "vote_count": [11800, 0],
        }
    )
    put(tmp_path, {"tmdb-5000/tmdb_5000_movies.csv": films.write_csv()})
    data = load("tmdb-5000", tmp_path)
    assert len(data) == 0 and len(data.users) == 0 and data.items.lists() == [5, 19995]
    assert item_column(data, "genres") == {5: [], 19995: ["Action", "Adventure"]}
    assert item_column(data, "overview") == {5: "", 19995: "A paraplegic Marine,\nfar away."}
    assert item_column(data, "budget") == {5: None, 19995: 237000000.0}
    assert item_column(data, "release_date") == {5: None, 19995: 1260403200000}
    assert item_column(data, "year") == {5: None, 19995: 2009.0}


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Unknown data set 'ml-10k' - did you mean 'ml-100k'"):
        load("ml-10k")
    with pytest.raises(UnknownName, match="did you mean 'amazon23-video-games'"):
        load("amazon23-video-gams")
    with pytest.raises(UnknownName):
        load("../ml-100k")


def test_folders_are_found_by_argument_environment_and_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORETASTE_DATA", str(tmp_path / "named"))
    assert folder_of("ml-1m-sasrec", tmp_path) == tmp_path / "ml-1m"
    assert folder_of("ml-100k") == tmp_path / "named" / "ml-100k"
    monkeypatch.delenv("FORETASTE_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert folder_of("ml-100k") == tmp_path / "cache" / "foretaste" / "ml-100k"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert folder_of("ml-100k") == Path.home() / ".cache" / "foretaste" / "ml-100k"


def test_presence_needs_every_required_file(tmp_path: Path) -> None:
    assert not present("gowalla", tmp_path)
    put(tmp_path, {"gowalla/train.txt": "0 1\n"})
    assert not present("gowalla", tmp_path)
    put(tmp_path, {"gowalla/test.txt.gz": gzip.compress(b"0 2\n")})
    assert present("gowalla", tmp_path)
    assert len(load("gowalla", tmp_path)) == 2


def test_every_source_is_described(tmp_path: Path) -> None:
    described = describe_sources(tmp_path)
    assert [each.name for each in described] == list(sources.SOURCES)
    assert all(each.title and each.licence and each.counts and not each.present for each in described)


def test_without_a_download_the_error_says_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load("retailrocket", tmp_path)
    assert str(error.value) == (
        f"retailrocket: {tmp_path}/retailrocket lacks events.csv, and the publisher offers no direct download. "
        "Put there by hand: events.csv. See https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset."
    )


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a local server, and the folder that it serves."""
    root = tmp_path / "served"
    root.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root))) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}", root
        running.shutdown()
        thread.join()


def source_of_files(*files: RemoteFile) -> Source:
    nothing = pl.DataFrame(schema={"user": pl.Int64, "item": pl.Int64})
    return Source(
        "tiny", "Tiny", "none", "https://example.org", files, "nothing", lambda _folder, _log: assembled(nothing)
    )


def test_a_download_is_checked_and_told(server: tuple[str, Path], tmp_path: Path) -> None:
    address, root = server
    put(root, {"a.txt": "hello"})
    told: list[tuple[str, int, int, str]] = []
    source = source_of_files(RemoteFile("deep/a.txt", f"{address}/a.txt", hashlib.sha256(b"hello").hexdigest()))
    fetch(source, tmp_path / "tiny", silent, lambda *args: told.append(args))
    assert (tmp_path / "tiny/deep/a.txt").read_text() == "hello"
    assert told[-1] == ("deep/a.txt", 5, 5, "bytes")
    assert os.listdir(tmp_path / "tiny") == ["deep"]


def test_a_wrong_checksum_leaves_nothing_behind(server: tuple[str, Path], tmp_path: Path) -> None:
    address, root = server
    put(root, {"a.txt": "hello"})
    source = source_of_files(RemoteFile("a.txt", f"{address}/a.txt", "0" * 64))
    with pytest.raises(
        DataError, match=rf"a\.txt gave a file with SHA-256 2cf24d.* instead of 0000.*: a\.txt \({address}"
    ):
        fetch(source, tmp_path / "tiny", silent)
    assert os.listdir(tmp_path / "tiny") == []


def test_a_member_goes_where_we_say_not_where_the_archive_says(server: tuple[str, Path], tmp_path: Path) -> None:
    address, root = server
    with zipfile.ZipFile(root / "a.zip", "w") as archive:
        archive.writestr("../../outside/u.data", "1\t2\t3\t4\n")
        archive.writestr("x/u.item", "film")
        archive.writestr("x/other", "not wanted")
    files = [RemoteFile(name, f"{address}/a.zip", member=name) for name in ("u.data", "u.item")]
    fetch(source_of_files(*files), tmp_path / "tiny", silent)
    assert sorted(os.listdir(tmp_path / "tiny")) == ["u.data", "u.item"]
    assert (tmp_path / "tiny/u.item").read_text() == "film"
    assert not (tmp_path / "outside").exists() and not (tmp_path.parent / "outside").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"no archive", "gave no readable zip archive"), (None, r"holds 0 files called u\.data instead of one")],
)
def test_a_bad_archive_is_refused(server: tuple[str, Path], tmp_path: Path, content: bytes | None, reason: str) -> None:
    address, root = server
    with zipfile.ZipFile(root / "a.zip", "w") as archive:
        archive.writestr("other", "")
    if content is not None:
        put(root, {"a.zip": content})
    with pytest.raises(DataError, match=reason):
        fetch(source_of_files(RemoteFile("u.data", f"{address}/a.zip", member="u.data")), tmp_path / "tiny", silent)
    assert os.listdir(tmp_path / "tiny") == []


def test_an_unreachable_optional_file_is_logged_and_a_required_one_refused(
    server: tuple[str, Path], tmp_path: Path
) -> None:
    address, root = server
    put(root, {"a.txt": "hello"})
    here = RemoteFile("a.txt", f"{address}/a.txt")
    told = Told()
    fetch(source_of_files(here, RemoteFile("b.txt", f"{address}/b.txt", optional=True)), tmp_path / "one", told)
    assert "going on without b.txt" in told.text and "404" in told.text
    with pytest.raises(DataError) as error:
        fetch(source_of_files(here, RemoteFile("b.txt", f"{address}/b.txt")), tmp_path / "two", silent)
    assert str(error.value) == (
        f"tiny: {tmp_path}/two lacks b.txt, and {address}/b.txt could not be downloaded (404 File not found). "
        f"Put there by hand: b.txt ({address}/b.txt). See https://example.org."
    )


def test_no_network_is_one_sentence_and_makes_no_folder(tmp_path: Path) -> None:
    source = source_of_files(RemoteFile("a.txt", "http://127.0.0.1:9/a.txt"))
    with pytest.raises(
        DataError, match=r"a\.txt could not be downloaded \(Connection refused\)\. Put there by hand: a\.txt"
    ):
        fetch(source, tmp_path / "tiny", silent)
    assert not (tmp_path / "tiny").exists()


def test_a_file_that_is_there_is_not_downloaded_again(tmp_path: Path) -> None:
    put(tmp_path, {"tiny/a.txt": "mine"})
    fetch(source_of_files(RemoteFile("a.txt", "http://127.0.0.1:9/a.txt")), tmp_path / "tiny", silent)
    assert (tmp_path / "tiny/a.txt").read_text() == "mine"


@pytest.fixture(scope="module")
def real() -> Path:
    named = os.environ.get("FORETASTE_DATA")
    if not named:
        pytest.skip("FORETASTE_DATA is not set")
    return Path(named)


def load_real(name: str, real: Path) -> Dataset:
    if not present(name, real):
        pytest.skip(f"{name} is not in {real}")
    return load(name, real)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "users", "items", "events"),
    [
        ("ml-100k", 943, 1_682, 100_000),
        ("ml-1m-sasrec", 6_040, 3_416, 999_611),
        ("amazon14-beauty", 22_363, 12_101, 198_502),
        ("amazon14-sports", 35_598, 18_357, 296_337),
        ("amazon14-musical-instruments", 1_429, 900, 10_261),
        ("gowalla", 29_858, 40_981, 1_027_370),
        ("frappe", 957, 4_082, 96_203),
    ],
)
def test_real_counts_are_the_published_ones(real: Path, name: str, users: int, items: int, events: int) -> None:
    assert load_real(name, real).counts() == {"events": events, "users": users, "items": items}


@pytest.mark.data
def test_real_kinds_are_the_published_ones(real: Path) -> None:
    rocket = load_real("retailrocket-buyers", real)
    assert rocket.kind is not None and np.bincount(rocket.kind).tolist() == [75_374, 12_456, 9_551]
    assert rocket.counts()["users"] == 2_174
    tmall = load_real("tmall", real)
    assert tmall.counts()["users"] == 31_882
    assert len(load_given("tmall", real).test) == 10_000


@pytest.mark.data
def test_real_withheld_purchases_are_new_to_their_users(real: Path) -> None:
    load_real("retailrocket-buyers", real)
    given = load_given("retailrocket-buyers", real)
    assert len(given.test) == 2_174 and np.unique(given.test.user).size == 2_174
    known = given.train.matrix(binary=True)
    assert not known[given.test.user, given.test.item].any()


@pytest.mark.data
def test_real_gowalla_parts_do_not_overlap(real: Path) -> None:
    load_real("gowalla", real)
    given = load_given("gowalla", real)
    assert (len(given.train), len(given.test)) == (810_128, 217_242)
    assert not given.train.matrix(binary=True).multiply(given.test.matrix(binary=True)).nnz


@pytest.mark.data
def test_real_validation_users_are_512(real: Path) -> None:
    load_real("ml-1m-sasrec", real)
    found = sources.validation_users("ml-1m-sasrec", real)
    assert found is not None and np.unique(found).size == 512
    assert found[:3].tolist() == [14, 17, 23]


@pytest.mark.data
def test_real_sasrec_films_have_titles(real: Path) -> None:
    data = load_real("ml-1m-sasrec", real)
    titles = item_column(data, "title")
    assert all(titles.values())
    assert titles[1] == "Raiders of the Lost Ark (1981)"
    assert data.catalog is not None and not (data.catalog.users["age"].codes == PAD).any()  # type: ignore[union-attr]


@pytest.mark.data
def test_real_amazon_items_are_those_of_the_reviews(real: Path) -> None:
    data = load_real("amazon14-beauty", real)
    reviews = real / "amazon14-beauty" / "interactions.csv"
    if not reviews.is_file():
        pytest.skip(f"{reviews} is not there")
    # Users stand in the same order in both files, and each user's reviews too.
    asin = data.catalog.items["asin"].take(data.item).lists()  # type: ignore[union-attr]
    assert asin == pl.read_csv(reviews)["asin"].to_list()


@pytest.mark.data
def test_real_invoices_without_a_customer_are_counted(real: Path) -> None:
    if not present("online-retail", real):
        pytest.skip(f"online-retail is not in {real}")
    told = Told()
    data = load("online-retail", real, told)
    assert data.counts()["users"] == 4_372
    assert told.numbers["rows_without_user"] + len(data) == 541_909


@pytest.mark.data
def test_real_tmdb_is_a_catalogue(real: Path) -> None:
    data = load_real("tmdb-5000", real)
    assert (len(data), len(data.items)) == (0, 4_803)
    assert sum(bool(each) for each in item_column(data, "overview").values()) == 4_800
