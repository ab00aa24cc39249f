import html
import json
import math
import re
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs

from foretaste.errors import ForetasteError
from foretaste.evaluation.report import Example, write_report
from foretaste.evaluation.report.board import Board
from foretaste.evaluation.report.figures import figures
from foretaste.evaluation.report.markup import Markup, joined, tag
from foretaste.evaluation.report.words import duration

# All numbers below are made up, to look at a page and to test it. They say nothing about any model.
QUALITY = {  # name: ndcg@10, coverage@10, seconds to fit, seconds to answer, parameters, MB
    "sasrec": (0.1832, 0.62, 412.0, 1.9, 312_064, 1210.0),
    "ease": (0.1571, 0.55, 6.3, 2.4, 3_290_112, 890.0),
    "als": (0.1503, 0.71, 11.8, 1.1, 401_536, 640.0),
    "itemknn": (0.1412, 0.66, 0.84, 1.6, 341_600, 410.0),
    "recentpopular": (0.0691, 0.04, 0.02, 0.4, 3_416, 260.0),
    "popular": (0.0588, 0.03, 0.01, 0.4, 3_416, 255.0),
}
QUERIES = 6_040
SLICES = {  # name: queries, how much better or worse than over all
    "history 1-4": (212, 0.55),
    "history 5-19": (1_420, 0.85),
    "history 20-99": (2_905, 1.06),
    "history 100+": (1_503, 1.09),
    "new user": (31, 0.4),
    "cold target": (18, 0.0),
    "warm target": (6_022, 1.003),
    "head target": (3_008, 1.62),
    "tail target": (3_032, 0.385),
}


def estimate(mean: float, n: int) -> dict[str, Any]:
    half = 1.96 * math.sqrt(max(mean * 0.35, 1e-6) / n)
    return {"mean": mean, "low": max(mean - half, 0.0), "high": mean + half, "n": n}


def ranking_metrics(ndcg: float, n: int) -> dict[str, Any]:
    found = {}
    for k, share in ((5, 0.85), (10, 1.0), (20, 1.16)):
        values = {"precision": 1.8 * ndcg / k, "recall": 1.8 * ndcg, "hit": 1.8 * ndcg, "ndcg": ndcg,
                  "mrr": 0.76 * ndcg, "map": 0.76 * ndcg}  # fmt: skip
        found |= {f"{name}@{k}": estimate(value * share, n) for name, value in values.items()}
    return found


def made_up_model(name: str, quality: tuple[float, float, float, float, int, float]) -> dict[str, Any]:
    ndcg, coverage, fit, answer, parameters, memory = quality
    whole = {"coverage@10": coverage, "gini@10": 1 - coverage / 2, "novelty@10": 9.5 + coverage, "arp@10": 900.5,
             "long_tail_recall@10": 0.9 * ndcg * (0.01 if name.endswith("popular") else 1)}  # fmt: skip
    tail = 0.1 if name.endswith("popular") else 1.0
    slices = {
        slice_: ranking_metrics(ndcg * factor * (tail if slice_ == "tail target" else 1), n)
        for slice_, (n, factor) in SLICES.items()
    }
    model: dict[str, Any] = {
        "name": name,
        "settings": {"k": 200, "weighting": "bm25"} if name == "itemknn" else {},
        "metrics": ranking_metrics(ndcg, QUERIES)
        | {metric: {"mean": value, "low": None, "high": None, "n": QUERIES} for metric, value in whole.items()},
        "metrics_known_targets": ranking_metrics(ndcg * 1.003, QUERIES - 18),
        "slices": slices,
        "fit_seconds": fit,
        "recommend_seconds": answer,
        "parameters": parameters,
        "peak_memory_mb": memory,
        "answers": None,
        "validation": {},
        "curve": [],
        "seed_spread": {},
        "why_absent": None,
    }
    if name == "sasrec":
        model["settings"] = {
            "dim": 64,
            "length": 200,
            "layers": 2,
            "dropout": 0.2,
            "plan": {"epochs": 100, "lr": 0.001},
        }
        model["curve"] = [
            {"epoch": float(epoch),
             "loss": 7.9 - 2.4 * (1 - math.exp(-epoch / 9)) + 0.02 * math.sin(3 * epoch),
             "validation": 0.192 * (1 - math.exp(-epoch / 6)) - 4e-4 * max(epoch - 22, 0) + 1e-3 * math.sin(5 * epoch),
             "seconds": 12.9, "events_per_second": 77_000.0}
            for epoch in range(1, 33)
        ]  # fmt: skip
        model["seed_spread"] = {"ndcg@10": {"sd": 0.0014, "n": 3}}
    return model


def made_up_leaderboard(*, oracle: bool = True) -> dict[str, Any]:
    """A leaderboard as leaderboard.json holds it, with every optional part."""
    models = [made_up_model(name, quality) for name, quality in QUALITY.items()]
    if oracle:
        models.append(made_up_model("oracle", (0.2914, 0.83, 0.0, 8.2, 0, 300.0)) | {"fit_seconds": None})
    models.append({"name": "gru4rec", "settings": {}, "metrics": {}, "slices": {},
                   "why_absent": "The log has no sessions; name the column of sessions (--session-col)."})  # fmt: skip
    comparisons = []
    for a, b in list(combinations(QUALITY, 2))[:-1]:
        difference = QUALITY[a][0] - QUALITY[b][0]
        p = 0.31 if (a, b) == ("ease", "als") else 0.0001
        comparisons.append({"a": a, "b": b, "metric": "ndcg@10", "difference": difference, "low": difference - 0.0062,
                            "high": difference + 0.0062, "p": p / 14, "p_holm": p, "n": QUERIES})  # fmt: skip
    return {
        "dataset": {
            "name": "demo",
            "fingerprint": "3f9a1c0be7724dd1a2c09b11",
            "counts": {"events": 1_000_209, "users": 6_040, "items": 3_416, "kinds": {"view": 801_112, "buy": 199_097}},
            "span": ["2024-01-01T00:00:00+00:00", "2025-12-31T23:59:00+00:00"],
        },
        "protocol": {
            "kind": "leave_one_out",
            "settings": {"kind": "leave_one_out", "tell_time": False},
            "filter_seen": True,
            "k": [5, 10, 20],
            "primary_metric": "ndcg@10",
            "ranking": "full catalogue",
            "queries": QUERIES,
            "targets": QUERIES,
            "queries_given": QUERIES,
            "sentences": [
                "Test: the last event of each user; the history is everything before.",
                "Validation: the event before it, of each user; train ends before what is held out.",
                "Items already seen are hidden.",
            ],
        },
        "leak_report": {
            "train_events": 988_129,
            "test_queries": QUERIES,
            "queries_others_later": 5_980,
            "sentences": [
                "LEAK: 3 of 6,040 test targets (0.0%) are in train with the same user, item and time.",
                "For 5,980 of 6,040 test queries (99.0%) the training data holds events of others from after the "
                "target; life has no such hindsight.",
            ],
        },
        "models": models,
        "comparisons": comparisons,
        "checks": [
            {"code": "R004", "severity": "issue", "model": None,
             "text": "3 test targets stand in training with the same user, item and time"},
            {"code": "R005", "severity": "issue", "model": "als",
             "text": "als has ndcg@10 0.2010 on validation, but 0.1503 on test: the test is another task"},
            {"code": "R010", "severity": "tip", "model": None,
             "text": "the seen filter hides 92 of 6,040 targets, which stand in the history already"},
        ],
        "about": {
            "command": "foretaste run demo --seeds 3",
            "created": "2026-03-14T09:26:53+00:00",
            "versions": {"foretaste": "0.1.0", "python": "3.11.9", "torch": "2.13.0"},
            "machine": {"processor": "x86-64, 2 cores", "memory_gb": 16},
            "seeds": 3,
        },
    }  # fmt: skip


def made_up_examples() -> list[Example]:
    titles = ["Walnut Side Table", "Linen Curtain, Sand", "Copper Kettle 1.2 l", "Wool Throw “Fjord”",
              "Paper Lantern 🏮",
              "Oak Bookshelf, Five Boards", "Stoneware Bowl", "Brass Desk Lamp", "Cork Pinboard", "Rattan Chair",
              "Cast-iron Skillet 26 cm", "Beeswax Candle", "Enamel Mug, Blue", "Hemp Door Mat"]  # fmt: skip
    examples = []
    for user in range(4):
        shift = titles[user:] + titles[:user]
        target = shift[(3 * user + 2) % 14]
        lists = {
            name: [
                (title, "popularity" if name == "als" and place > 7 else name, title == target)
                for place, title in enumerate((shift[2 * at :] + shift[: 2 * at])[: 10 - 2 * user])
            ]
            for at, name in enumerate((*QUALITY, "oracle"))
        }
        examples.append(Example(f"u{1041 + 17 * user}", shift[: 12 - 4 * user], [target], lists))
    return examples


def written(
    folder: Path, leaderboard: dict[str, Any], examples: list[Example] | None = None, title: str = "A title"
) -> str:
    write_report(folder / "report.html", leaderboard, examples=examples or [], title=title)
    return (folder / "report.html").read_text(encoding="utf-8")


def without_plotly(page: str) -> str:
    """The page without its scripts, of which plotly.js is 4.8 MB."""
    return re.sub(r"<script\b.*?</script>", "", page, flags=re.DOTALL)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("report"), made_up_leaderboard(), made_up_examples(), "Demo shop")


class Elements(HTMLParser):
    """Collects elements, and finds out whether they are nested well."""

    VOID = ("meta", "link", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_page_is_well_nested_and_no_id_comes_twice(page: str) -> None:
    elements = Elements(without_plotly(page))
    assert elements.open == []
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_page_loads_nothing(page: str) -> None:
    rest = without_plotly(page)
    for name, attributes in Elements(rest).found:
        assert "src" not in attributes, name
        assert (attributes.get("href") or "#").startswith(("#", "data:")), name
    assert "@import" not in rest
    assert "url(" not in rest
    assert re.findall(r"<script\b[^>]*\bsrc=", page) == []
    # And the browser is told to refuse whatever a script might try.
    assert "default-src 'none'" in rest
    assert "connect-src" not in rest


def test_plotly_is_inlined_once_and_only_for_plots(page: str, tmp_path: Path) -> None:
    assert page.count("plotly.js v") == 1
    nothing = made_up_leaderboard() | {"models": [], "comparisons": []}
    assert "plotly.js v" not in written(tmp_path, nothing)
    assert len(page.encode()) < 6_000_000


def test_everything_measured_is_on_the_page(page: str) -> None:
    board = made_up_leaderboard()
    text = " ".join(Elements(without_plotly(page)).text)
    for model in board["models"]:
        assert model["name"] in text
        for metric, estimate in model["metrics"].items():
            assert metric in text
            if estimate["mean"] <= 1:
                assert f"{estimate['mean']:.4f}" in text, (model["name"], metric)
    for check in board["checks"]:
        assert check["code"] in text
        assert check["text"] in text
    for sentence in board["protocol"]["sentences"] + board["leak_report"]["sentences"]:
        assert sentence.removeprefix("LEAK: ") in text
    for fact in ("1,000,209", "3f9a1c0be7724dd1a2c09b11", "foretaste run demo --seeds 3", "2.13.0", "x86-64, 2 cores",
                 "plan.lr", "14 March 2026, 09:26 UTC", "1 January 2024, 00:00 UTC to 31 December 2025, 23:59 UTC",
 "± 0.0014 over 3 seeds", "6 min 52 s"):  # fmt: skip
        assert fact in text
    for slice_ in SLICES:
        assert slice_ in text


def test_sections_stand_in_the_order_of_the_argument(page: str) -> None:
    names = [attributes["id"] for name, attributes in Elements(without_plotly(page)).found if name == "section"]
    assert names == ["measured", "leaderboard", "checks", "plots", "comparisons", "people", "reproduce"]


def test_every_plot_has_a_caption_and_words_for_those_who_cannot_see_it(page: str) -> None:
    drawn = figures(Board.of(made_up_leaderboard()))
    assert [figure.title for figure in drawn] == [
        "Accuracy by metric",
        "Accuracy against coverage",
        "Accuracy against training time",
        "By length of history",
        "By popularity of the target",
        "Learning curves",
    ]
    specs = json.loads(page.split('id="figures">')[1].split("</script>")[0])
    for figure in drawn:
        assert html.escape(figure.caption) in page
        assert figure.caption.count(". ") == 0
        for panel in figure.panels:
            assert "ndcg" in panel.label or "@10" in panel.label or "epoch" in panel.label
            assert f'id="{panel.name}"' in page
            assert specs[panel.name] == panel.spec


def test_plots_are_what_plotly_reads() -> None:
    def coloured(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: "#123456" if name.endswith("color") and str(each).startswith("--") else coloured(each)
                    for name, each in node.items()}  # fmt: skip
        return [coloured(each) for each in node] if isinstance(node, list) else node

    for figure in figures(Board.of(made_up_leaderboard())):
        for panel in figure.panels:
            go.Figure(coloured(panel.spec))  # refuses what it does not know


def test_a_model_has_one_colour_and_mark_in_all_plots_whatever_its_rank() -> None:
    def looks(leaderboard: dict[str, Any]) -> dict[str, set[tuple[str, str]]]:
        found: dict[str, set[tuple[str, str]]] = {}
        for figure in figures(Board.of(leaderboard)):
            for panel in figure.panels:
                for trace in panel.spec["data"]:
                    if "name" in trace:
                        look = (trace["marker"]["color"], trace["marker"]["symbol"])
                        found.setdefault(trace["name"], set()).add(look)
        return found

    board = made_up_leaderboard()
    first = looks(board)
    assert all(len(look) == 1 for look in first.values())
    assert len(set.union(*first.values())) == 7
    assert first["oracle"] == {("--oracle", "diamond-open")}
    next(each for each in board["models"] if each["name"] == "popular")["metrics"]["ndcg@10"]["mean"] = 0.25
    assert Board.of(board).rivals[0].name == "popular"
    assert looks(board) == first


def test_rating_errors_have_a_column_where_somebody_predicts_ratings(page: str, tmp_path: Path) -> None:
    assert "Rating RMSE" not in page
    board = made_up_leaderboard()
    board["models"][1]["rating_rmse"] = 1.01237
    found = written(tmp_path, board)
    assert found.count("Rating RMSE") == 2  # the column and the sentence that says which way is better
    assert "1.0124" in found


def test_what_a_model_costs_stands_in_one_table_alone(page: str) -> None:
    """A leaderboard with it was wider than a laptop's screen, and cut off its last column."""
    assert page.count("Time to fit") == 1


def test_best_is_marked_and_the_oracle_stands_apart(page: str) -> None:
    table = page.split('aria-label="Leaderboard"')[1].split("</table>")[0]
    rivals, oracle, absent = re.findall(r"<tbody>(.*?)</tbody>", table)
    assert re.findall(r"<bdi>(.*?)</bdi>", rivals) == list(QUALITY)
    assert rivals.index("best</span>") < rivals.index("<bdi>ease")
    assert "best possible" in oracle
    assert "best</span>" not in oracle
    assert "Absent: The log has no sessions" in absent
    assert "63%" in rivals  # 0.1832 of 0.2914


def test_a_model_that_cannot_be_told_from_the_best_is_called_so(tmp_path: Path) -> None:
    board = made_up_leaderboard()
    board["comparisons"][0]["p_holm"] = 0.2
    page = written(tmp_path, board)
    assert page.count('class="badge quiet">tied with the best') == 1
    assert "It cannot be told apart from ease." in page


def test_comparisons_are_mirrored_and_doubtful_ones_not_coloured(page: str) -> None:
    matrix = page.split('aria-label="Differences between models"')[1].split("</table>")[0]
    assert matrix.count("+0.0261") == matrix.count("−0.0261") == 1
    assert len(re.findall(r'class="number even"[^>]*>[+−]0\.0068<small>p = \.31', matrix)) == 2
    assert matrix.count("–</td>") == 2  # the pair that was not compared
    assert "als minus recentpopular is +0.0812, 95% interval +0.0750 to +0.0874, p &lt; .001." in page


def test_hits_and_fallback_are_marked_in_lists(page: str) -> None:
    first = page.split("User u1041")[1].split("User u1058")[0]
    als = first.split("<bdi>als</bdi>")[1].split("</ol>")[0]
    assert als.count('<li class="fallback">') == 2
    ease = first.split("<bdi>ease</bdi>")[1].split("</ol>")[0]
    assert re.findall(r'<li class="hit">.*?<bdi>(.*?)</bdi>', ease) == ["Copper Kettle 1.2 l"]
    assert "found by 5 of 7 models" in first


def test_popular_does_not_fall_back_on_itself(tmp_path: Path) -> None:
    example = Example("u", [], [], {"popular": [("A", "popular", False)], "ease": [("A", "segment popularity", False)]})
    page = written(tmp_path, made_up_leaderboard(), [example])
    assert page.count('<li class="fallback">') == 1
    assert "No history: nothing is known." in page


EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)> & </ScRiPt><!--'


def test_whatever_comes_from_data_is_escaped(tmp_path: Path) -> None:
    board = made_up_leaderboard()
    board["dataset"]["name"] = board["about"]["command"] = EVIL
    board["dataset"]["counts"] = {EVIL: 3}
    board["protocol"]["sentences"] = board["leak_report"]["sentences"] = [EVIL]
    board["checks"] = [{"code": EVIL, "severity": EVIL, "text": EVIL}]
    board["models"][0] |= {"name": EVIL, "settings": {EVIL: EVIL}}
    board["models"][0]["slices"] = {EVIL: board["models"][0]["slices"]["history 1-4"]}
    board["models"][-1]["why_absent"] = EVIL
    board["about"]["versions"] = {EVIL: EVIL}
    page = written(tmp_path, board, [Example(EVIL, [EVIL], [EVIL], {EVIL: [(EVIL, EVIL, True)]})], EVIL)
    elements = Elements(without_plotly(page))
    assert elements.open == []
    assert not {name for name, _ in elements.found} & {"script", "img"}
    assert page.replace(get_plotlyjs(), "").count("<script") == 3
    assert EVIL in " ".join(elements.text)
    specs = json.loads(page.split('id="figures">')[1].split("</script>")[0])
    names = {trace["name"] for spec in specs.values() for trace in spec["data"] if "name" in trace}
    assert any(html.unescape(name) == EVIL for name in names)
    assert not any("<" in name for name in names)  # plotly would read tags


def test_emoji_and_half_characters_make_a_valid_file(tmp_path: Path) -> None:
    example = Example("ü\ud83d", ["Lantern 🏮", "שלום"], ["\ud83d"], {"ease": [("🏮", "ease", True)]})
    page = written(tmp_path, made_up_leaderboard(), [example])
    assert "Lantern 🏮" in page
    assert "User ü?" in page


def test_one_model_alone_has_no_rival_and_no_comparison(tmp_path: Path) -> None:
    board = made_up_leaderboard() | {"comparisons": [], "checks": []}
    board["models"] = board["models"][3:4]
    page = without_plotly(written(tmp_path, board))
    assert "<strong>ndcg@10 0.1412</strong>" in page
    assert "The checks found nothing to doubt." in page
    assert "There are no two models to compare." in page
    assert ">best</span>" not in page
    assert "Learning curves" not in page


def test_a_leaderboard_of_bare_means_is_enough(tmp_path: Path) -> None:
    board = {"models": [{"name": "popular", "metrics": {"recall@20": {"mean": 0.1}, "ndcg@20": {"mean": 0.05}}}]}
    page = without_plotly(written(tmp_path, board))
    assert "ndcg@20 0.0500" in page
    assert "No leak report was made." in page
    assert "Accuracy against coverage" not in page
    assert "By length of history" not in page


def test_nothing_measured_is_said(tmp_path: Path) -> None:
    board = {"models": [{"name": "ease", "metrics": {}, "why_absent": "It would need 90 GB."}]}
    page = without_plotly(written(tmp_path, board))
    assert "No model has numbers" in page
    assert "Absent: It would need 90 GB." in page


def test_slices_may_hold_their_metrics_one_level_deeper() -> None:
    board = made_up_leaderboard()
    direct = Board.of(board).slices
    for model in board["models"]:
        model["slices"] = {name: {"n": SLICES[name][0], "metrics": each} for name, each in model["slices"].items()}
    assert Board.of(board).slices == direct == {name: n for name, (n, _) in SLICES.items()}


def test_epochs_without_validation_and_numbers_that_are_none_are_no_trouble(tmp_path: Path) -> None:
    board = made_up_leaderboard()
    for step in board["models"][0]["curve"][::2]:
        step["validation"] = None
    board["models"][1]["curve"] = [{"epoch": 1, "loss": float("inf")}, {"epoch": 2, "loss": 1.5}]
    board["models"][2] |= {"fit_seconds": None, "parameters": None, "peak_memory_mb": None}
    board["models"][3]["metrics"]["ndcg@10"] = {"mean": None, "low": None, "high": None, "n": 0}
    page = written(tmp_path, board)
    assert "itemknn" in page.split("<tbody>")[3]  # among the absent
    assert "Infinity" not in page.split('id="figures">')[1].split("</script>")[0]


def test_report_takes_its_place_only_when_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def torn(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", torn)
        with pytest.raises(ForetasteError, match=r"Cannot write .*report\.html: No space left on device"):
            write_report(path, made_up_leaderboard(), title="x")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_text_becomes_markup_only_by_tag() -> None:
    assert tag("b", {"title": '"&', "open": True, "id": None}, "<i>", Markup("<i></i>"), None, [1, "&"]) == (
        '<b title="&quot;&amp;" open>&lt;i&gt;<i></i>1&amp;</b>'
    )
    assert joined("<", ["<"]) == "&lt;&lt;"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (0.0, "< 0.01 s"), (0.21, "0.21 s"), (9.999, "10 s"), (59.7, "1 min 00 s"), (4330.0, "1 h 12 min")],
)
def test_durations_are_readable(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_epochs_are_whole_numbers_wherever_they_are_told(page: str) -> None:
    rest = without_plotly(page)
    assert re.search(r"epoch \d+", rest)
    assert not re.search(r"epoch \d+\.0", rest)
