"""Verb of the command line that people look at candidates with: inspect."""

import argparse
import sys

from . import tables
from ._cli_tools import add_verb, check_tables, count, executor_of

__all__ = ["add_inspect"]


def add_inspect(verbs):
    """Add the verb ``inspect``."""
    parser = add_verb(
        verbs, "inspect", _inspect, "page in the browser, on this computer alone, to look at a sample and vote on it"
    )
    parser.add_argument("sample", help="sample folder; the votes are kept in it, in votes-WORKFLOW.jsonl")
    parser.add_argument(
        "--workflow", help="questions: hunt, a class scheme or a JSON file (default: which class of the scheme it is)"
    )
    parser.add_argument("--predictions", metavar="TABLE", help="table of predictions whose probabilities are shown")
    parser.add_argument("--blind", action="store_true", help="hide probabilities and maps until the vote is complete")
    parser.add_argument("--model", help="packaged model or model folder whose activation maps can be shown")
    parser.add_argument(
        "--moderators", nargs="+", default=[], metavar="NAME", help="voters who see and settle where the others differ"
    )
    parser.add_argument("--port", type=_port, default=0, help="port on 127.0.0.1 (default: a free one)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--export", metavar="FILE", help="write the votes so far as a table, without a page")
    instead.add_argument("--report", metavar="FILE", help="write a page of the predictions, .html, without voting")
    parser.add_argument("--workers", type=count, default=1, help="processes for --report (default: %(default)s)")


def _port(text):
    value = int(text)
    if not 0 <= value < 2**16:
        raise argparse.ArgumentTypeError(f"must be from 0 to 65535, got {text}")
    return value


def _inspect(arguments):
    if arguments.report is not None:
        return _report(arguments)
    if arguments.export is not None:
        return _export(arguments)
    from ._inspect._server import open_server

    server = open_server(
        arguments.sample,
        workflow=arguments.workflow,
        predictions=arguments.predictions,
        model=arguments.model,
        moderators=arguments.moderators,
        blind=arguments.blind,
        port=arguments.port,
    )
    with server:
        print(f"open {server.address} in a browser; Ctrl-C ends it", file=sys.stderr, flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print(f"votes are in {server.desk.store.path}", file=sys.stderr)


def _export(arguments):
    from ._inspect._server import stored_votes

    check_tables(export=arguments.export)
    votes = stored_votes(
        arguments.sample, workflow=arguments.workflow, predictions=arguments.predictions, model=arguments.model
    )
    tables.write(votes, arguments.export)
    print(f"{len(votes)} votes in {arguments.export}", file=sys.stderr)


def _report(arguments):
    from ._inspect._report import write_report

    if arguments.predictions is None:
        raise ValueError("--report needs --predictions")
    predictions = tables.read(arguments.predictions, tables.PREDICTIONS)
    with executor_of(arguments.workers) as executor:
        write_report(predictions, tables.read_sample(arguments.sample), arguments.report, executor=executor)
