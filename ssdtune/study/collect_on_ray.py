"""Collecting experience on a Ray cluster: a task for each site's oracle, and one for each recipe, which has it.

Ray runs again what dies with its process or machine; a record is written here as soon as it is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssdtune.learning.collect import Gather, part_file, record_of
from ssdtune.learning.making import SiteData, make_site
from ssdtune.learning.recipes import MriRecipe, Recipe, Site
from ssdtune.prior.experience import Experience, Rejected, save_collection
from ssdtune.progress import Track
from ssdtune.study.cluster import Places, check_versions, next_result
from ssdtune.study.record import package_versions
from ssdtune.vision.forgetting import load_images


def gather_on(places: Places) -> Gather:
    """Collects on a cluster, within ``cluster.cluster``."""

    def gather(
        groups: Sequence[Sequence[Recipe]],
        parts: Path,
        images: Mapping[str, Path],
        methods: Sequence[str],
        track: Track,
    ) -> None:
        import ray

        site_task, record_task = (ray.remote(work).options(**places.needs, max_retries=3) for work in (_site, _record))
        pictures = {name: ray.put(load_images(path)) for name, path in images.items()}
        waiting: dict[Any, Recipe] = {}
        for group in groups:
            left = [recipe for recipe in group if not part_file(parts, recipe).exists()]
            sites = [recipe.site for recipe in left if isinstance(recipe, MriRecipe)]
            site = site_task.remote(places, sites[0]) if sites else None  # a group has one
            for recipe in left:
                data = site if isinstance(recipe, MriRecipe) else pictures[recipe.dataset]
                waiting[record_task.remote(places, recipe, data, methods)] = recipe
        try:
            for _ in track(range(len(waiting)), "collecting", len(waiting)):
                answer, (record, versions) = next_result(waiting, places)
                check_versions(versions)
                save_collection(part_file(parts, waiting.pop(answer)), [record])
        finally:
            for answer in waiting:
                ray.cancel(answer, force=True)

    return gather


def _site(places: Places, site: Site) -> SiteData:
    """In another process."""
    places.settle()
    return make_site(site)


def _record(
    places: Places, recipe: Recipe, data: Any, methods: Sequence[str]
) -> tuple[Experience | Rejected, dict[str, str]]:
    """In another process."""
    places.settle()
    return record_of(recipe, data, methods), package_versions()
