"""Images."""

from __future__ import annotations

from aegis_daemon.bodies import ExactImage, Import, OneImage, Prune, Pull
from aegis_daemon.calls import Call
from aegis_daemon.operations import Operations, Pace
from aegis_sdk.model import ImageInfo, Pruned

operations = Operations()


@operations.serve("GET", "/v1/images", pace=Pace.SLOW)
def list_(call: Call) -> tuple[ImageInfo, ...]:
    """The images of the cache, in the order of their references."""
    return call.engine.images()


@operations.serve("DELETE", "/v1/images", pace=Pace.SLOW)
def remove(call: Call, query: ExactImage) -> None:
    """Remove an image from the cache, with what no other needs."""
    call.engine.remove_image(query.reference, digest=query.digest)


@operations.serve("GET", "/v1/images/info", pace=Pace.SLOW)
def get(call: Call, query: OneImage) -> ImageInfo:
    """An image of the cache."""
    return call.engine.image(query.reference)


@operations.serve("POST", "/v1/images/pull", pace=Pace.REPORTS)
def pull(call: Call, body: Pull) -> ImageInfo:
    """Have an image in the cache."""
    return call.engine.pull_image(body.reference, pull=body.pull, report=call.report)


@operations.serve("POST", "/v1/images/import", pace=Pace.REPORTS)
def import_(call: Call, body: Import) -> ImageInfo:
    """Keep an image of the daemon's machine under a name."""
    return call.engine.import_image(body.reference, name=body.name, replace=body.replace, report=call.report)


@operations.serve("POST", "/v1/images/prune", pace=Pace.SLOW)
def prune(call: Call, body: Prune) -> Pruned:
    """Remove what no image needs, and the images that are asked for."""
    return call.engine.prune_images(older_than=body.older_than, unused=body.unused)
