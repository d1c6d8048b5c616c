"""Verbs for the votes of people: votes and inspect."""

import argparse
import json
import sys
import warnings
from pathlib import Path

from astroclassify import tables
from astroclassify.exceptions import AstroclassifyWarning

from ._tools import add_overwrite, add_verb, add_workers, check_files, check_tables, executor_of, show

__all__ = ["add_inspect", "add_votes"]

# Columns of the consensus that are printed.
_SHOWN = ("source_id", "outcome", "vote_fraction", "n_votes", "n_complete", "tie", "no_majority")
_WORKFLOW = "questions: hunt, a class scheme or a JSON file (default: {})"


def add_votes(verbs):
    """Add the verb ``votes``."""
    parser = add_verb(verbs, "votes", _votes, "outcome of each subject from the votes of many volunteers")
    parser.add_argument(
        "votes", metavar="VOTES", help="classification export of Zooniverse (.csv, .csv.gz), or a table of votes"
    )
    parser.add_argument(
        "--workflow",
        default="hunt",
        help="questions: hunt, a class scheme, a JSON file, or a workflow export or the classification export itself "
        "(.csv, .csv.gz), from which they are made (default: %(default)s)",
    )
    parser.add_argument("--tasks", nargs="+", metavar="TASK", help="with a workflow from an export: the tasks to use")
    parser.add_argument("--save-workflow", metavar="FILE", help="also write the workflow as JSON, to be edited")
    parser.add_argument("--list", action="store_true", help="only list workflows, versions and tasks of the export")
    parser.add_argument("--workflow-id", metavar="NUMBER", help="the workflow, where an export has several")
    parser.add_argument(
        "--versions", nargs="+", metavar="VERSION", help="use only these versions, e.g. 16 or 16.53 (default: all)"
    )
    known = parser.add_mutually_exclusive_group()
    known.add_argument("--gold", metavar="TABLE", help="subjects whose outcome is known: source_id and outcome")
    known.add_argument(
        "--gold-standard", action="store_true", help="what the classifications marked as gold standard say is known"
    )
    parser.add_argument(
        "--method",
        choices=("majority", "weighted", "iterated", "dawid-skene"),
        default="weighted",
        help="how votes are combined (default: %(default)s, by how often a volunteer agrees with the majority)",
    )
    parser.add_argument("--report", metavar="TABLE", help="also write the faults found in the votes, one per row")
    parser.add_argument("--skill", metavar="TABLE", help="also write the skill of each volunteer")
    parser.add_argument("--out", help="table of outcomes (default: standard output)")
    add_overwrite(parser)


def _votes(arguments):
    from astroclassify.people import known_labels, list_workflows, read_votes, volunteer_consensus, volunteer_skill

    replace = arguments.overwrite
    check_tables(out=arguments.out, skill=arguments.skill, report=arguments.report, overwrite=replace)
    check_files(**{"save-workflow": arguments.save_workflow}, overwrite=replace)
    if arguments.list:
        return show(list_workflows(arguments.votes), arguments.out, overwrite=replace)
    gold = None if arguments.gold is None else tables.read(arguments.gold)
    workflow = _workflow(arguments)
    votes, report = read_votes(
        arguments.votes, workflow=workflow, versions=arguments.versions, workflow_id=arguments.workflow_id
    )
    if arguments.gold_standard:
        gold = known_labels(votes, workflow=workflow)
    settings = {"method": arguments.method, "gold": gold, "workflow": workflow}
    consensus = volunteer_consensus(votes, **settings)
    if arguments.report is not None:
        tables.write(report, arguments.report, overwrite=replace)
    if arguments.skill is not None:
        tables.write(volunteer_skill(votes, **settings), arguments.skill, overwrite=replace)
    decided, tied = (int(each.sum()) for each in (consensus["outcome"] != "", consensus["tie"]))
    print(
        f"{len(votes)} votes of {consensus.meta['n_voters']} voters on {len(consensus)} subjects: {decided} decided, "
        f"{tied} ties, {len(consensus) - decided - tied} open",
        file=sys.stderr,
    )
    return show(consensus, arguments.out, _SHOWN, overwrite=replace)


def _workflow(arguments):
    """The workflow that is asked for, written to --save-workflow."""
    from astroclassify.people import load_workflow, workflow_from_export

    if arguments.workflow.lower().endswith((".csv", ".csv.gz")):
        version = arguments.versions[0] if arguments.versions else None
        settings = {"workflow_id": arguments.workflow_id, "version": version, "tasks": arguments.tasks}
        workflow = workflow_from_export(arguments.workflow, **settings)
    elif arguments.tasks is not None:
        raise ValueError("--tasks is for a workflow from an export, .csv")
    else:
        workflow = load_workflow(arguments.workflow)
    if arguments.save_workflow is not None:
        text = json.dumps(workflow.to_dict(), indent=2, ensure_ascii=False)
        Path(arguments.save_workflow).write_text(text + "\n", encoding="utf-8")
    return workflow


def add_inspect(verbs):
    """Add the verb ``inspect``."""
    parser = add_verb(
        verbs, "inspect", _inspect, "page in the browser, on this computer only, to look at a sample and vote on it"
    )
    parser.add_argument("sample", help="sample folder; the votes are kept in it, in votes-WORKFLOW.jsonl")
    parser.add_argument("--workflow", help=_WORKFLOW.format("the classes of the scheme"))
    parser.add_argument("--predictions", metavar="TABLE", help="table of predictions whose probabilities are shown")
    parser.add_argument("--show-predictions", action="store_true", help="show probabilities and maps before the vote")
    parser.add_argument("--model", help="packaged model or model folder whose activation maps can be shown")
    parser.add_argument(
        "--catalogues", nargs="+", default=[], metavar="FILE", help="catalogues whose entries near a source are listed"
    )
    parser.add_argument(
        "--hips",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="HiPS on disk whose images are shown as the optical ones; three are red, green and blue",
    )
    parser.add_argument(
        "--moderators", nargs="+", default=[], metavar="NAME", help="voters who see and resolve the conflicts of others"
    )
    parser.add_argument("--port", type=_port, default=0, help="port on 127.0.0.1 (default: a free one)")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--export", metavar="FILE", help="write the votes so far as a table and open no page")
    instead.add_argument("--report", metavar="FILE", help="write a report of the predictions, .html, and open no page")
    parser.add_argument(
        "--columns", nargs="+", metavar="NAME", help="columns of the tables that --report shows at first"
    )
    add_workers(parser, "--report")
    add_overwrite(parser)


def _port(text):
    value = int(text)
    if not 0 <= value < 2**16:
        raise argparse.ArgumentTypeError(f"must be from 0 to 65535, got {text}")
    return value


def _inspect(arguments):
    if arguments.report is not None:
        return _report(arguments)
    if arguments.columns is not None:
        raise ValueError("--columns needs --report")
    if arguments.export is not None:
        return _export(arguments)
    return _serve(arguments)


def _serve(arguments):
    from astroclassify.people import open_server

    classifier = None
    if arguments.model is not None:
        from astroclassify.nn import load_classifier

        classifier = load_classifier(arguments.model)
    server = open_server(
        arguments.sample,
        workflow=arguments.workflow,
        predictions=arguments.predictions,
        classifier=classifier,
        catalogues=_catalogues(arguments.catalogues),
        optical=_optical(arguments.hips),
        moderators=arguments.moderators,
        show_predictions=arguments.show_predictions,
        port=arguments.port,
    )
    with server:
        print(f"open {server.address} in a browser; Ctrl-C ends it", file=sys.stderr, flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print(f"votes are in {server.session.journal.path}", file=sys.stderr)


def _catalogues(paths):
    """Tables by the names of their files."""
    names = [Path(path).stem for path in paths]
    if len(set(names)) != len(names):
        raise ValueError(f"--catalogues must be files of different names, got {' '.join(paths)}")
    if not paths:
        return {}
    from astroclassify.survey import read_catalogue

    return {name: read_catalogue(path) for name, path in zip(names, paths, strict=True)}


def _optical(folders):
    """Functions that give optical images: of each HiPS one, of one with tiles in colour three."""
    if len(folders) not in (0, 1, 3):
        raise ValueError(f"--hips must be one folder or three (red, green, blue), got {len(folders)}")
    if not folders:
        return None
    from astroclassify.survey import LocalHips

    found = [LocalHips(folder) for folder in folders]
    if len(found) == 1 and found[0].coloured:
        return [LocalHips(folders[0], channel=channel) for channel in ("red", "green", "blue")]
    return found


def _export(arguments):
    from astroclassify.people import stored_votes

    check_tables(export=arguments.export, overwrite=arguments.overwrite)
    votes = stored_votes(arguments.sample, workflow=arguments.workflow)
    tables.write(votes, arguments.export, overwrite=arguments.overwrite)
    n_votes = int((votes["question"] != "").sum())
    print(f"{n_votes} votes in the workflow {votes.meta['workflow']!r} in {arguments.export}", file=sys.stderr)


def _report(arguments):
    from astroclassify.people import write_report

    if arguments.predictions is None:
        raise ValueError("--report needs --predictions")
    check_files(report=arguments.report, overwrite=arguments.overwrite)
    classifier = None
    if arguments.model is not None:
        from astroclassify.nn import load_classifier

        classifier = load_classifier(arguments.model)
    predictions = tables.read(arguments.predictions, tables.PREDICTIONS)
    sample = tables.read_sample(arguments.sample)
    with executor_of(arguments.workers) as executor, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AstroclassifyWarning)
        write_report(
            predictions,
            sample,
            arguments.report,
            columns=arguments.columns,
            classifier=classifier,
            executor=executor,
            overwrite=arguments.overwrite,
        )
    for each in caught:
        print(f"astroclassify: {each.message}", file=sys.stderr)
    # Rows without a picture or a map.
    return int(any(issubclass(each.category, AstroclassifyWarning) for each in caught))
