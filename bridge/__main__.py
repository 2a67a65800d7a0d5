"""python -m bridge serve | generate | convert | bench | demo | doctor | token"""

import argparse
import contextlib
import dataclasses
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.config import DEFAULT_BUNDLE, METRICS_PORT, ServeConfig
from bridge.logs import configure

if TYPE_CHECKING:
    from bridge.client import Received
    from bridge.connection import Connection
    from bridge.server import Running
    from bridge.stubs.motion_pb2 import QualityReport, StreamMotionRequest

MEASURE_ROWS = {
    "foot_skate_m_s": "foot skate",
    "foot_skate_ratio": "foot skate",
    "contact_foot_speed_m_s": "feet in contact",
    "penetration_m": "penetration",
    "float_m": "float",
    "jerk_m_s3": "jerk",
    "joint_speed_m_s": "fastest joint",
}
"""Where a measure of the report stands in the table that `generate` prints."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 2 for what the user can mend, 1 for a doctor who found something."""
    options = _parser().parse_args(arguments)
    level = logging.DEBUG if options.verbose else logging.INFO if options.command == "serve" else logging.WARNING
    configure(level, getattr(options, "log_format", "text"))
    try:
        return options.run(options)
    except (ValueError, OSError, ImportError) as error:
        if options.verbose:
            raise
        hint = "; pip install '.[bridge]' brings what is missing" if isinstance(error, ImportError) else ""
        print(f"error: {error}{hint}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bridge", description="From sentences to motion that streams.")
    commands = parser.add_subparsers(dest="command", required=True)

    serve = commands.add_parser("serve", help="answer gRPC and gRPC-Web until SIGTERM or SIGINT")
    _add_bundle(serve, positional=True)
    _add_serving(serve)
    serve.set_defaults(run=_serve)

    bench = commands.add_parser("bench", help="measure first frames, gaps and streams in real time")
    _add_address(bench)
    bench.add_argument("--streams", default="1,4,8", help="clients at the same time (default %(default)s)")
    bench.add_argument("--rounds", type=int, default=5, help="requests of each client (default %(default)s)")
    bench.add_argument("--duration-s", type=float, default=4.0, help="longest motion (default %(default)s)")
    bench.add_argument("--reasoning", choices=("on", "off"), default="off", help="plan first (default %(default)s)")
    bench.add_argument("--pacing", choices=("burst", "realtime"), default="burst", help="(default %(default)s)")
    bench.add_argument("--json", type=Path, help="file for the numbers")
    bench.add_argument(
        "--compare-threads",
        action="store_true",
        help="only this, in some seconds: a code with 1, 2 and all threads, by --streams",
    )
    _add_bundle(bench, positional=False)
    bench.set_defaults(run=_bench)

    token = commands.add_parser("token", help="make a bearer token, and the line of the server's file that admits it")
    token.add_argument("name", help="who will call with it, one word; the server's log names it")
    token.set_defaults(run=_token)

    generate = commands.add_parser("generate", help="act out one sentence and write it to files")
    generate.add_argument("prompt", help="what the character does")
    _add_address(generate)
    _add_out(generate)
    generate.add_argument("--seed", type=int, default=0, help="same seed, same motion (default %(default)s)")
    generate.add_argument("--reasoning", choices=("on", "off"), default="on", help="plan first or move at once")
    generate.add_argument("--max-duration-s", type=float, help="longest motion (default: the server's limit)")
    _add_bundle(generate, positional=False)
    generate.set_defaults(run=_generate)

    convert = commands.add_parser("convert", help="turn a saved motion into other files")
    convert.add_argument("motion", type=Path, help="an .npz that generate wrote")
    _add_out(convert)
    convert.add_argument("--prompt", default="", help="caption of pictures")
    convert.set_defaults(run=_convert)

    demo = commands.add_parser("demo", help="three sentences through a server of its own, nine files")
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder (default %(default)s)")
    demo.add_argument("--seed", type=int, default=0, help="same seed, same motion (default %(default)s)")
    _add_bundle(demo, positional=False)
    demo.set_defaults(run=_demo)

    doctor = commands.add_parser("doctor", help="look at versions, providers, bundle and ports")
    _add_bundle(doctor, positional=True)
    doctor.add_argument("--port", type=int, default=ServeConfig.port, help="gRPC (default %(default)s)")
    doctor.add_argument("--web-port", type=int, default=ServeConfig.web_port, help="gRPC-Web (default %(default)s)")
    doctor.set_defaults(run=_doctor)

    for command in commands.choices.values():
        command.add_argument("--verbose", action="store_true", help="log more, and show where an error comes from")
    return parser


def _add_serving(serve: argparse.ArgumentParser) -> None:
    """Options of serve: fields of `ServeConfig`, whose docstrings say more."""
    serve.add_argument("--host", default=ServeConfig.host, help="address to listen on (default %(default)s)")
    serve.add_argument(
        "--port", type=int, default=ServeConfig.port, help="gRPC; 0 picks a free one (default %(default)s)"
    )
    serve.add_argument(
        "--web-port", type=int, default=ServeConfig.web_port, help="gRPC-Web; 0 picks one (default %(default)s)"
    )
    serve.add_argument("--cors-origin", action="append", default=[], help="origin whose pages may call; repeatable")
    serve.add_argument(
        "--metrics-host", default=ServeConfig.ops_host, help="of /metrics and /healthz (default %(default)s)"
    )
    serve.add_argument("--metrics-port", type=int, help=f"/metrics and /healthz, say {METRICS_PORT}; 0 picks one")
    serve.add_argument(
        "--max-streams", type=int, default=ServeConfig.max_streams, help="streams at once (default %(default)s)"
    )
    serve.add_argument(
        "--max-queue",
        type=int,
        default=ServeConfig.max_queue,
        help="calls that wait for a stream (default %(default)s)",
    )
    serve.add_argument(
        "--max-wait-s", type=float, default=ServeConfig.max_wait_s, help="longest wait (default %(default)s)"
    )
    serve.add_argument(
        "--max-duration-s", type=float, default=ServeConfig.max_duration_s, help="longest motion (default %(default)s)"
    )
    serve.add_argument(
        "--max-idle-s", type=float, default=ServeConfig.max_idle_s, help="end who stops reading (default %(default)s)"
    )
    serve.add_argument(
        "--grace-s", type=float, default=ServeConfig.grace_s, help="time to end after SIGTERM (default %(default)s)"
    )
    serve.add_argument("--tls-certificate", type=Path, help="PEM; read again when it changes")
    serve.add_argument("--tls-key", type=Path, help="PEM")
    serve.add_argument("--tls-client-ca", type=Path, help="PEM of the roots whose clients may connect (mutual TLS)")
    serve.add_argument("--tokens", type=Path, help="file of hashed bearer tokens; read again when it changes")
    serve.add_argument("--insecure", action="store_true", help="any --host without TLS and tokens: a proxy has them")
    serve.add_argument("--log-format", choices=("text", "json"), default="text", help="(default %(default)s)")
    serve.add_argument("--log-prompts", action="store_true", help="write prompts to the log")
    serve.add_argument("--ray", metavar="ADDRESS", help="let the replicas of a Ray cluster answer; see bridge.ray_app")
    serve.add_argument("--traces", action="store_true", help="OpenTelemetry spans of calls, sent where OTEL_* says")


def _add_bundle(parser: argparse.ArgumentParser, positional: bool) -> None:
    if positional:
        parser.add_argument("bundle", nargs="?", type=Path, help="folder that python -m export wrote")
    else:
        parser.add_argument("--bundle", type=Path, help="folder that python -m export wrote")
    parser.add_argument("--provider", default="auto", help="auto, cpu, cuda or tensorrt (default %(default)s)")
    if parser.prog.split()[-1] != "doctor":
        parser.add_argument("--threads", type=int, default=1, help="of one step; 0 is one a core (default %(default)s)")


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--address", help="HOST:PORT of a bridge; without it one is started for this call")
    parser.add_argument("--tls-ca", type=Path, help="PEM of the roots of its certificate; without it no TLS")
    parser.add_argument("--token-file", type=Path, help="file that holds nothing but the bearer token it asks for")


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, action="append", required=True, help=".bvh, .npz, .gif, .webp or .png; repeatable"
    )


def _serve(options: argparse.Namespace) -> int:
    import asyncio
    import signal

    from bridge.server import serve
    from bridge.traces import export

    config = _serve_config(options)
    scheme = "https" if options.tls_certificate else "http"

    def started(server: "Running") -> None:
        print(
            f"serving {server.model_id} on {server.provider}: "
            f"gRPC {server.grpc_address}, gRPC-Web {scheme}://{server.web_address}"
            + (f", metrics http://{server.ops_address}/metrics" if server.ops_address else ""),
            flush=True,
        )

    async def run() -> None:
        stopping, reloading, loop = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(stopping.set))
        if hasattr(signal, "SIGHUP"):  # Not on Windows.
            signal.signal(signal.SIGHUP, lambda *_: loop.call_soon_threadsafe(reloading.set))
        await serve(config, started, stopping, reloading)

    with contextlib.ExitStack() as stack:
        if config.traces:
            stack.callback(export())
        asyncio.run(run())
    return 0


def _bench(options: argparse.Namespace) -> int:
    import asyncio

    from rich.console import Console

    from bridge.bench import BenchConfig, measure, table, write_json
    from bridge.connection import Connection
    from bridge.server import running

    try:
        streams = tuple(int(number) for number in options.streams.split(","))
    except ValueError as error:
        raise ValueError(f"--streams must be numbers, for example 1,4,8, got {options.streams!r}") from error
    if min(streams) < 1 or options.rounds < 1:
        raise ValueError(f"--streams and --rounds must be 1 or more, got {options.streams} and {options.rounds}")
    if options.compare_threads:
        return _compare_threads(options, streams)
    config = BenchConfig(
        streams=streams,
        rounds=options.rounds,
        duration_s=options.duration_s,
        reasoning=options.reasoning == "on",
        pacing=options.pacing,
    )
    if (connection := _connection(options)) is not None:
        levels = asyncio.run(measure(connection, config))
    else:
        own = dataclasses.replace(_config(options, port=0, web_port=None), max_streams=max(streams))
        with running(own) as server:
            levels = asyncio.run(measure(Connection((server.grpc_address,)), config))
    Console().print(table(levels))
    if options.json:
        write_json(options.json, config, levels)
        print(f"wrote {options.json}")
    return 0


def _compare_threads(options: argparse.Namespace, streams: tuple[int, ...]) -> int:
    from rich.console import Console

    from bridge.thread_speed import compare_threads, table, write_json

    if options.address is not None:
        raise ValueError("--compare-threads opens the bundle in this process; leave out --address")
    speeds = compare_threads(options.bundle or DEFAULT_BUNDLE, options.provider, streams)
    Console().print(table(speeds))
    if options.json:
        write_json(options.json, speeds)
        print(f"wrote {options.json}")
    return 0


def _token(options: argparse.Namespace) -> int:
    from bridge.tokens import make_token

    token, line = make_token(options.name)
    print(f"give to the client, it is shown only now: {token}")
    print(f"add to the server's --tokens file:        {line}")
    return 0


def _generate(options: argparse.Namespace) -> int:
    from bridge.connection import Connection
    from bridge.server import running
    from bridge.stubs import motion_pb2
    from bridge.writers import check_paths, write_clip

    check_paths(options.out)
    connection = _connection(options)
    _check_seed(options.seed)
    request = motion_pb2.StreamMotionRequest(
        prompt=options.prompt,
        seed=options.seed,
        reasoning=motion_pb2.REASONING_ON if options.reasoning == "on" else motion_pb2.REASONING_OFF,
        max_duration_s=options.max_duration_s,
    )
    if connection is not None:
        received = _receive(connection, request)
    else:
        with running(_config(options, port=0, web_port=None)) as server:
            received = _receive(Connection((server.grpc_address,)), request)
    for path in options.out:
        write_clip(path, received.clip)
    _print_received(received, options.out)
    return 0


def _convert(options: argparse.Namespace) -> int:
    from bridge.clip import Clip
    from bridge.writers import check_paths, write_clip
    from python_core.contract.motion import read_motion

    check_paths(options.out)
    clip = Clip(motion=read_motion(options.motion), prompt=options.prompt)
    for path in options.out:
        write_clip(path, clip)
        print(f"wrote {path}")
    return 0


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**64:
        raise ValueError(f"--seed must be 0 to 2**64 - 1, got {seed}")


def _demo(options: argparse.Namespace) -> int:
    from bridge.demo import play

    _check_seed(options.seed)
    for scene in play(_config(options, port=0, web_port=None), options.out, options.seed):
        _print_received(scene.received, scene.files)
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from bridge.doctor import examine

    ports = {"--port": options.port, "--web-port": options.web_port}
    findings = examine(options.bundle or DEFAULT_BUNDLE, options.provider, ports)
    for finding in findings:
        mark = "ok  " if finding.ok else "FAIL" if finding.needed else "-   "
        print(f"{mark} {finding.name}: {finding.text}")
    return 0 if all(finding.ok or not finding.needed for finding in findings) else 1


def _serve_config(options: argparse.Namespace) -> ServeConfig:
    return dataclasses.replace(
        _config(options, options.port, options.web_port),
        host=options.host,
        cors_origins=tuple(options.cors_origin),
        ops_host=options.metrics_host,
        ops_port=options.metrics_port,
        max_streams=options.max_streams,
        max_queue=options.max_queue,
        max_wait_s=options.max_wait_s,
        max_duration_s=options.max_duration_s,
        max_idle_s=options.max_idle_s,
        grace_s=options.grace_s,
        tls_certificate=options.tls_certificate,
        tls_key=options.tls_key,
        tls_client_ca=options.tls_client_ca,
        tokens=options.tokens,
        insecure=options.insecure,
        log_prompts=options.log_prompts,
        traces=options.traces,
        ray=options.ray,
    )


def _config(options: argparse.Namespace, port: int, web_port: int | None) -> ServeConfig:
    return ServeConfig(
        bundle=options.bundle or DEFAULT_BUNDLE,
        port=port,
        web_port=web_port,
        provider=options.provider,
        num_threads=options.threads,
    )


def _connection(options: argparse.Namespace) -> "Connection | None":
    """To the bridge that the user named; None where one is to be started."""
    from bridge.connection import Connection

    if options.address is None:
        if options.tls_ca or options.token_file:
            raise ValueError("--tls-ca and --token-file are for a bridge that runs already; name it by --address")
        return None
    if options.bundle or options.provider != "auto":
        raise ValueError("--address asks a bridge that runs already; --bundle and --provider are for one of your own")
    token = ""
    if options.token_file is not None:
        token = options.token_file.read_text(encoding="utf-8").strip()
        if not token:
            raise ValueError(f"{options.token_file}: holds no token; python -m bridge token NAME makes one")
    return Connection((options.address,), token=token, tls_ca=options.tls_ca)


def _receive(connection: "Connection", request: "StreamMotionRequest") -> "Received":
    from bridge.client import MotionClient

    with MotionClient(connection=connection) as client:
        return client.generate(request)


def _print_received(received: "Received", files: Sequence[Path]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from bridge.stubs import motion_pb2
    from python_core.contract.plan import format_plan

    clip, summary = received.clip, received.summary
    quality = summary.quality
    beats = format_plan(clip.plan) if clip.plan else "none, moved at once"
    stop = motion_pb2.StopReason.Name(summary.stop_reason).removeprefix("STOP_REASON_").lower().replace("_", " ")
    # Prompts, plans and file names are text: square brackets in them are no markup.
    table = Table(title=Text(clip.prompt), title_justify="left", title_style="bold", show_header=False)
    table.add_row("verdict", _verdict(quality))
    table.add_row("plan", Text(beats))
    table.add_row("first frame", f"{1000 * received.first_frame_s:.0f} ms")
    table.add_row("motion", f"{summary.num_frames} frames, {summary.duration_s:.1f} s, ended by {stop}")
    table.add_row("seed, revision", f"{received.header.seed}, {received.header.model.revision[:12]}")
    table.add_row("foot skate", f"{quality.foot_skate_m_s:.3f} m/s, in {quality.foot_skate_ratio:.0%} of frames")
    table.add_row("feet in contact", f"{quality.contact_foot_speed_m_s:.3f} m/s")
    table.add_row("penetration", f"{100 * quality.penetration_m:.1f} cm")
    table.add_row("float", f"{100 * quality.float_m:.1f} cm")
    table.add_row("jerk", f"{quality.jerk_m_s3:.0f} m/s3")
    table.add_row("fastest joint", f"{quality.joint_speed_m_s:.1f} m/s")
    table.add_row("loop gap", f"{100 * quality.loop_gap_m:.1f} cm")
    table.add_row("root speed", f"{quality.root_speed_m_s:.2f} m/s")
    table.add_row("files", Text("\n".join(str(path) for path in files)))
    Console().print(table)


def _verdict(quality: "QualityReport") -> str:
    """One line, with the reason where it is not good."""
    from bridge.stubs import motion_pb2

    verdict = motion_pb2.Verdict.Name(quality.verdict).removeprefix("VERDICT_").lower()
    row = MEASURE_ROWS.get(quality.weakest_measure, quality.weakest_measure)
    reason = f": {row}" if quality.verdict != motion_pb2.VERDICT_GOOD else ""
    return f"{verdict}, score {quality.score:.2f}{reason}"


if __name__ == "__main__":
    sys.exit(main())
