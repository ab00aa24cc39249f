"""The models, one file each, and the table of their names."""

from foretaste.errors import UnknownName
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
from foretaste.models.twostage import TwoStage
from foretaste.models.twotower import TwoTower
from foretaste.recommender import Settings

__all__ = ["MODELS", "model_settings"]

FAMILIES = (
    (Popular, RecentPopular, CategoryPopular, TextSimilarity),
    (ItemKNN, EASE, ALS),
    (Item2Vec, LightGCN, GraphSAGE, TwoTower, SBERTTwoTower, T5Hybrid),
    (SASRec, GRU4Rec, HSTU, BERT4Rec, EnhancedBERT4Rec),
    (Hybrid, TwoStage),
)
MODELS: dict[str, type[Settings]] = {each.called(): each for family in FAMILIES for each in family}


def model_settings(name: str) -> type[Settings]:
    """The settings class of this name; capitals, '-' and '_' do not matter."""
    plain = name.lower().replace("-", "").replace("_", "")
    if plain not in MODELS:
        raise UnknownName("model", name, MODELS)
    return MODELS[plain]
