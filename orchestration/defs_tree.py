"""Which vendors the components in `orchestration/defs/` use, and so which variables have to be set.

A component class names what it requires in `vendor_settings: ClassVar[tuple[type[VendorSettings], ...]]`. Nothing is loaded to read it
but the class of each component: a YAML file that is taken away takes the requirement with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_type_hints

import dagster as dg
from dagster.components.core.component_tree import ComponentTree
from dagster.components.core.decl import ComponentDecl, ComponentLoaderDecl
from dagster.components.core.defs_module import ComponentPath, find_defs_or_component_yaml

from orchestration.settings import REPOSITORY, Need, VendorSettings


@dataclass(frozen=True)
class UsedComponent:
    """A component in `orchestration/defs/`: its class, and its YAML relative to the repository."""

    type: type[dg.Component]
    file: str

    @property
    def name(self) -> str:
        """The type as the YAML spells it."""
        return f"{self.type.__module__}.{self.type.__qualname__}"


def load_tree() -> ComponentTree:
    """Return the components of `orchestration/defs/`, none of which is loaded yet."""
    return dg.ComponentTree.for_project(REPOSITORY)


def read_components(tree: ComponentTree) -> tuple[UsedComponent, ...]:
    """Return the components that YAML files define, in the order of the tree. Raises what Dagster raises for a file it cannot read."""
    return tuple(_read_components(tree))


def read_needs(tree: ComponentTree) -> tuple[Need, ...]:
    """Return the vendors whose settings components require, with the component and its file."""
    return tuple(
        Need(settings, component.name, component.file)
        for component in read_components(tree)
        for settings in _required(component.type)
    )


def read_state_names(tree: ComponentTree) -> frozenset[str]:
    """Return the names of the saved states that components have, as `SavedState.state_name` has them."""
    names = (getattr(one.type, "state_name", None) for one in read_components(tree))
    return frozenset(name for name in names if isinstance(name, str))


def iterate_other_definitions(context: dg.ComponentLoadContext) -> Iterator[dg.Definitions]:
    """Yield the definitions of each folder of `orchestration/defs/` but the one that `context` is in. Dagster builds each once."""
    own = context.path
    for root in _children(context.component_tree.find_root_decl()):
        for folder in _children(root):
            if isinstance(folder.loc, ComponentPath) and not own.is_relative_to(folder.loc.file_path):
                yield context.build_defs(folder.loc)


def _read_components(tree: ComponentTree) -> Iterator[UsedComponent]:
    # The tree has no public way from a component to its file.
    for declaration in cast("Iterator[ComponentDecl[Any]]", tree.find_root_decl().iterate_all_component_decls()):
        component = _component_type(declaration)
        if component is None or not isinstance(declaration.loc, ComponentPath):
            continue
        path = declaration.loc.file_path
        yield UsedComponent(component, _relative(find_defs_or_component_yaml(path) or path))


def _children(declaration: ComponentDecl[Any]) -> Iterator[ComponentDecl[Any]]:
    return cast("Iterator[ComponentDecl[Any]]", declaration.iterate_child_component_decls())


def _component_type(declaration: ComponentDecl[Any]) -> type[dg.Component] | None:
    """Return the class of a component; None for what only holds components: a folder, or a file of several."""
    if isinstance(declaration, ComponentLoaderDecl):
        # Of a Python function that returns a component, the annotation alone says which.
        found = get_type_hints(declaration.component_node_fn).get("return")
    else:
        found = declaration.component_type
    if not isinstance(found, type) or not issubclass(found, dg.Component):
        return None
    return None if found.__module__.startswith("dagster.components.core.") else found


def _required(component: type[dg.Component]) -> tuple[type[VendorSettings], ...]:
    return cast("tuple[type[VendorSettings], ...]", getattr(component, "vendor_settings", ()))


def _relative(path: Path) -> str:
    resolved = path.resolve()
    return str(resolved.relative_to(REPOSITORY) if resolved.is_relative_to(REPOSITORY) else resolved)
