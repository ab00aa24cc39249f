"""From an event log to what each person will want next, and what everybody will want soon.

Names are imported when they are first used, so that ``import foretaste`` is light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foretaste import sources, split
    from foretaste.bundle import load
    from foretaste.catalog import Catalog, Table
    from foretaste.dataset import Dataset, EventKinds, Impressions, Needs
    from foretaste.errors import ForetasteError
    from foretaste.evaluation import Leaderboard, evaluate
    from foretaste.events import Columns, read_events, read_impressions, validate_events
    from foretaste.models import MODELS
    from foretaste.models.als import ALS
    from foretaste.models.bert4rec import BERT4Rec
    from foretaste.models.categorypopular import CategoryPopular
    from foretaste.models.ease import EASE
    from foretaste.models.enhancedbert4rec import EnhancedBERT4Rec
    from foretaste.models.graphsage import GraphSAGE
    from foretaste.models.gru4rec import GRU4Rec
    from foretaste.models.hstu import HSTU
    from foretaste.models.hybrid import Hybrid
    from foretaste.models.item2vec import Item2Vec
    from foretaste.models.itemknn import ItemKNN
    from foretaste.models.lightgcn import LightGCN
    from foretaste.models.popular import Popular
    from foretaste.models.recentpopular import RecentPopular
    from foretaste.models.sasrec import SASRec
    from foretaste.models.sberttwotower import SBERTTwoTower
    from foretaste.models.t5hybrid import T5Hybrid
    from foretaste.models.textsimilarity import TextSimilarity
    from foretaste.models.twotower import TwoTower
    from foretaste.query import Holdout, Queries, TopK
    from foretaste.recommender import Model, Recommender, Settings
    from foretaste.run import Run
    from foretaste.sessions import sessions
    from foretaste.simulate import Shop, simulate
    from foretaste.train import TrainPlan

__version__ = "0.1.0"

_HOME = {
    "ALS": "models.als",
    "BERT4Rec": "models.bert4rec",
    "Catalog": "catalog",
    "CategoryPopular": "models.categorypopular",
    "Columns": "events",
    "Dataset": "dataset",
    "EASE": "models.ease",
    "EnhancedBERT4Rec": "models.enhancedbert4rec",
    "EventKinds": "dataset",
    "ForetasteError": "errors",
    "GRU4Rec": "models.gru4rec",
    "GraphSAGE": "models.graphsage",
    "HSTU": "models.hstu",
    "Holdout": "query",
    "Impressions": "dataset",
    "Hybrid": "models.hybrid",
    "Item2Vec": "models.item2vec",
    "ItemKNN": "models.itemknn",
    "LightGCN": "models.lightgcn",
    "Leaderboard": "evaluation",
    "MODELS": "models",
    "Model": "recommender",
    "Needs": "dataset",
    "Popular": "models.popular",
    "Queries": "query",
    "RecentPopular": "models.recentpopular",
    "Recommender": "recommender",
    "Run": "run",
    "SASRec": "models.sasrec",
    "SBERTTwoTower": "models.sberttwotower",
    "Settings": "recommender",
    "Shop": "simulate",
    "T5Hybrid": "models.t5hybrid",
    "Table": "catalog",
    "TextSimilarity": "models.textsimilarity",
    "TopK": "query",
    "TrainPlan": "train",
    "TwoTower": "models.twotower",
    "evaluate": "evaluation",
    "load": "bundle",
    "read_events": "events",
    "read_impressions": "events",
    "sessions": "sessions",
    "simulate": "simulate",
    "validate_events": "events",
}
_MODULES = ("sources", "split")

__all__ = [
    "ALS",
    "EASE",
    "HSTU",
    "MODELS",
    "BERT4Rec",
    "Catalog",
    "CategoryPopular",
    "Columns",
    "Dataset",
    "EnhancedBERT4Rec",
    "EventKinds",
    "ForetasteError",
    "GRU4Rec",
    "GraphSAGE",
    "Holdout",
    "Hybrid",
    "Impressions",
    "Item2Vec",
    "ItemKNN",
    "Leaderboard",
    "LightGCN",
    "Model",
    "Needs",
    "Popular",
    "Queries",
    "RecentPopular",
    "Recommender",
    "Run",
    "SASRec",
    "SBERTTwoTower",
    "Settings",
    "Shop",
    "T5Hybrid",
    "Table",
    "TextSimilarity",
    "TopK",
    "TrainPlan",
    "TwoTower",
    "evaluate",
    "load",
    "read_events",
    "read_impressions",
    "sessions",
    "simulate",
    "sources",
    "split",
    "validate_events",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"foretaste.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'foretaste' has no attribute {name!r}")
    found = getattr(import_module(f"foretaste.{_HOME[name]}"), name)
    globals()[name] = found  # a submodule of the same name must not stand in its place the next time
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
