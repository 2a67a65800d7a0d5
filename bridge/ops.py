"""What operators ask over HTTP, on a port of its own: /metrics for Prometheus, /healthz for balancers without gRPC."""

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from bridge.metrics import Metrics


def ops_application(metrics: Metrics) -> web.Application:
    """An aiohttp application; nothing that it tells comes from a request."""

    async def healthz(_: web.Request) -> web.Response:
        ready = metrics.registry.get_sample_value("motion_ready") == 1
        return web.Response(status=200 if ready else 503, text="serving\n" if ready else "not serving\n")

    async def scrape(_: web.Request) -> web.Response:
        body = generate_latest(metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/metrics", scrape)
    return app
