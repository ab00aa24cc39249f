"""The YAML of a run: which data, which split, which models with which settings, and how they are judged."""

import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from foretaste.errors import ConfigError, UnknownName, nearest
from foretaste.policies.aims import Aim
from foretaste.recommender import Settings
from foretaste.simulate import Shop
from foretaste.split import SplitSettings
from foretaste.storage import check_exists

__all__ = [
    "BASELINES",
    "DataSettings",
    "EvaluationSettings",
    "LogColumns",
    "Recipe",
    "model_of",
    "read_recipe",
    "read_yaml",
    "recipe_names",
    "validated",
    "with_overrides",
]

BASELINES = ("popular", "recentpopular", "itemknn")  # stand in every table without being asked
RECIPES = Path(__file__).parent / "recipes"
AnyModel = TypeVar("AnyModel", bound=BaseModel)
GROUP_WANTED = ("dict_type", "model_type", "model_attributes_type", "mapping_type")  # as pydantic calls these errors


class PlainLoader(yaml.SafeLoader):
    """YAML in which dates stay text, as the settings have them: YAML itself would refuse 2024-02-30 by a crash."""


PlainLoader.yaml_implicit_resolvers = {
    first: [each for each in resolvers if each[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class LogColumns(BaseModel):
    """The columns of an event log; None: guess."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str | None = None
    item: str | None = None
    time: str | None = None
    kind: str | None = None
    value: str | None = None
    session: str | None = None


class DataSettings(BaseModel):
    """Where the events come from: exactly one of ``source``, ``shop`` and ``events``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str | None = None
    """The name of a published data set, as ``foretaste datasets`` lists them."""
    shop: Shop | None = None
    """A simulated shop; {} takes its defaults."""
    events: str | None = None
    """A log of one's own: file, folder or glob. Relative paths are seen from the working directory."""
    items: str | None = None
    users: str | None = None
    impressions: str | None = None
    """Lists that were shown, and what came of them, beside ``events``."""
    columns: LogColumns = LogColumns()
    kinds: str | None = None
    """Event kinds, weakest first: 'view < addtocart < transaction', with weights 'view=1 < transaction=5'."""
    keep_kinds: tuple[str, ...] | None = None
    """Only events of these kinds. None: all."""
    min_value: float | None = None
    """Only events with at least this value. None: all."""
    ordered: bool = False

    @model_validator(mode="after")
    def _exactly_one(self) -> "DataSettings":
        given = [name for name in ("source", "shop", "events") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of source, shop and events; given: {', '.join(given) or 'none'}")
        return self


class EvaluationSettings(BaseModel):
    """How the models are judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    k: tuple[PositiveInt, ...] = (5, 10, 20)
    filter_seen: bool | None = None
    """Hide what is in the history? None: as the protocol of the split has it."""
    exclude_kinds: tuple[str, ...] = ()
    """With the filter on, hide only what was met by events of these kinds."""
    max_queries: PositiveInt | None = None
    """Judge by a seeded sample of so many queries. None: all."""
    seeds: PositiveInt = 1
    """Fit each model with so many seeds."""
    policies: tuple[Aim, ...] = ()
    """Aims of list policies to try on the best row, at several strengths: what each gives, and what it costs."""


class Recipe(BaseModel):
    """A whole run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = "run"
    data: DataSettings
    split: Annotated[SplitSettings, Field(discriminator="kind")]
    models: dict[str, dict[str, Any]] = {}
    """Row of the leaderboard -> settings. The key is the model, unless ``model:`` names another."""
    evaluation: EvaluationSettings = EvaluationSettings()

    def settings(self) -> dict[str, Settings]:
        """The settings of each row, baselines first where they were not asked for.

        Raises:
            ConfigError: A model, a setting or its value is wrong.
        """
        from foretaste.models import model_settings

        rows = {name: dict(given) for name, given in self.models.items()}
        for name, given in rows.items():
            _check_row(name, given.get("model", name))
        # A baseline that was given another name stands beside the plain one: checks look for it by its own name.
        rows = {name: {} for name in BASELINES if name not in rows} | rows
        return {
            name: validated(model_settings(given.pop("model", name)), given, f"models.{name}")
            for name, given in rows.items()
        }

    def narrowed(self, names: Sequence[str]) -> "Recipe":
        """Only the named rows, in the given order; a model that the recipe lacks comes with its defaults."""
        from foretaste.models import MODELS, model_settings

        rows = {}
        for name in names:
            if name in self.models:
                rows[name] = self.models[name]
                continue
            try:
                called = model_settings(name).called()
            except UnknownName as error:
                raise UnknownName("model", name, dict.fromkeys([*self.models, *MODELS])) from error
            rows[called] = self.models.get(called, {})
        return self.model_copy(update={"models": rows})

    def to_yaml(self) -> str:
        """The recipe with every setting spelt out; it repeats the run."""
        content = self.model_dump(mode="json", exclude_none=True)
        content["models"] = {
            name: {"model": settings.called(), **settings.model_dump(mode="json")}
            for name, settings in self.settings().items()
        }
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _check_row(name: str, model: Any) -> None:
    """Raises ConfigError where a row could not be told from another, or its name is no name for a folder."""
    from foretaste.models import MODELS

    if not isinstance(model, str):
        raise ConfigError(f"models.{name}.model: the name of a model is text; this is {model!r}.")
    if name == "oracle" or (name in MODELS and MODELS.get(model) is not MODELS[name]):
        raise ConfigError(f"models.{name}: another row is always called {name!r}. Give this one another name.")
    if not name.strip() or name.startswith(".") or set(name) & set("/\\"):
        raise ConfigError(f"models.{name}: a row also names a folder, so it must not be empty, hidden or hold slashes.")


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def read_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe that comes with the package, or one from a YAML file.

    Args:
        overrides: ``key=value`` with dotted keys, as in ``models.sasrec.dim=128``.

    Raises:
        ConfigError: There is no such recipe, or something in it is wrong.
    """
    path = RECIPES / f"{name}.yaml"
    if name not in recipe_names():
        path = Path(name)
        if not path.exists() and path.suffix not in (".yaml", ".yml"):
            raise UnknownName("recipe", name, recipe_names())
    content = read_yaml(path)
    content = {"name": path.stem, **content}
    models = content.get("models") or {}
    if not isinstance(models, dict):
        raise ConfigError(
            f"{path}: models: must be names with settings, as in 'sasrec: {{dim: 64}}'; this is {models!r}."
        )
    content["models"] = {name: {} if given is None else given for name, given in models.items()}
    recipe = validated(Recipe, with_overrides(content, overrides), str(path))
    recipe.settings()  # a misspelt setting shows now, not after an hour
    return recipe


def model_of(name: str, overrides: Sequence[str] = ()) -> Settings:
    """The settings of one model, by its name or from a YAML file with a key ``model``.

    Args:
        overrides: ``key=value`` with dotted keys, as in ``plan.epochs=20``.

    Raises:
        ConfigError: The model, a key or a value is wrong.
    """
    from foretaste.models import model_settings

    content: dict[str, Any] = {"model": name}
    if name.endswith((".yaml", ".yml")):
        content = read_yaml(Path(name))
        if "model" not in content:
            raise ConfigError(f"{name} does not say which model it is for; add a line such as 'model: sasrec'.")
    content = with_overrides(content, overrides)
    return validated(model_settings(str(content.pop("model"))), content, name)


def with_overrides(content: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The content with ``key=value`` pairs set, values read as YAML; another ``kind`` drops what belonged to the old.

    Raises:
        ConfigError: A pair has no '=', or its key leads into a plain value.
    """
    result: dict[str, Any] = _copied(content)
    for pair in overrides:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set takes key=value, as in models.sasrec.dim=128; this is {pair!r}.")
        *path, last = key.strip().split(".")
        place = result
        for step in path:
            place[step] = {} if place.get(step) is None else place[step]  # a key without a value is an empty group
            place = place[step]
            if not isinstance(place, dict):
                raise ConfigError(f"--set {pair}: {step} is a value, not a group of settings.")
        try:
            value = yaml.load(text, PlainLoader)
        except (ValueError, yaml.YAMLError) as error:
            raise ConfigError(f"--set {pair}: {text!r} cannot be read as YAML: {_yaml_error(error)}.") from error
        if last == "kind" and place.get("kind") != value:
            place.clear()
        place[last] = value
    return result


def validated(schema: type[AnyModel], content: Mapping[str, Any], where: str) -> AnyModel:
    """Settings from plain values.

    Raises:
        ConfigError: One line that names each wrong key or value, and for a misspelt key the nearest one.
    """
    try:
        return schema(**content)
    except ValidationError as error:
        wrong = "; ".join(_in_words(schema, each) for each in error.errors())
        raise ConfigError(f"{where}: {wrong}.") from error
    except TypeError as error:
        raise ConfigError(f"{where}: {error}.") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings in a file.

    Raises:
        ConfigError: It is not there, is no YAML, or holds no settings.
    """
    check_exists(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), PlainLoader)
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: no UTF-8, or thousands of digits
        raise ConfigError(f"{path} cannot be read as YAML: {_yaml_error(error)}.") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path} holds no settings: it must be YAML of the form 'key: value'.")
    return content


def _yaml_error(error: Exception) -> str:
    """What is wrong and where, in one line."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {getattr(error, 'problem', None) or 'it breaks off'}"


def _in_words(schema: type[BaseModel], error: Any) -> str:
    place = _without_tags(schema, [str(step) for step in error["loc"]])
    key = ".".join(place)
    kind, given = error["type"], error.get("input")
    if kind == "extra_forbidden":
        known = _keys_at(schema, [str(step) for step in error["loc"][:-1]])
        return f"unknown key {key!r}{nearest(place[-1], known)} Known keys: {', '.join(known)}"
    if kind == "missing":
        return f"{key} is missing"
    if kind == "union_tag_not_found":
        return f"{key}.kind is missing; it is one of {', '.join(_tags(schema, place))}"
    if kind == "union_tag_invalid":
        tag, kinds = error["ctx"]["tag"], _tags(schema, place)
        return f"unknown {key}.kind {tag!r}{nearest(tag, kinds)} There are: {', '.join(kinds)}"
    if kind in GROUP_WANTED:
        return f"{key} must be a group of settings, as in '{key.split('.')[-1]}: {{key: value}}'; it is {given!r:.80}"
    message = error["msg"].removeprefix("Value error, ").replace("valid tuple", "list, as in [5, 10]")
    message = f"{key}: {message[:1].lower()}{message[1:]}" if key else message
    # A group that contradicts itself is not repeated; its message says what and why.
    return message if isinstance(given, Mapping) else f"{message} (given: {given!r:.80})"


def _without_tags(schema: type[BaseModel], place: Sequence[str]) -> list[str]:
    """The keys as they are written: the tag of a union, as in split.leave_one_out.seed, is no key."""
    return [step for at, step in enumerate(place) if step not in _tags(schema, place[:at])]


def _tags(schema: type[BaseModel], place: Sequence[str]) -> list[str]:
    """The kinds from which the group of settings at this place picks one; none where it is of one kind."""
    found = _schemas_at(schema, place)
    return [str(each.model_fields["kind"].default) for each in found if "kind" in each.model_fields]


def _keys_at(schema: type[BaseModel], place: Sequence[str]) -> list[str]:
    """The keys that a group of settings knows."""
    return sorted({name for each in _schemas_at(schema, place) for name in each.model_fields})


def _schemas_at(schema: type[BaseModel], place: Sequence[str]) -> list[type[BaseModel]]:
    """What may stand at a place; with the tag of a union as its last step, the schema of that tag."""
    schemas = [schema]
    for step in place:
        tagged = [each for each in schemas if "kind" in each.model_fields and each.model_fields["kind"].default == step]
        fields = [each.model_fields[step].annotation for each in schemas if step in each.model_fields]
        schemas = tagged or [inner for annotation in fields for inner in _schemas(annotation)]
    return schemas


def _schemas(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return [found for each in get_args(annotation) for found in _schemas(each)]
    return []


def _copied(content: Any) -> Any:
    return {key: _copied(value) for key, value in content.items()} if isinstance(content, Mapping) else content
