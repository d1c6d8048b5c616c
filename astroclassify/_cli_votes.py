"""Verb of the command line that turns votes into outcomes: votes."""

import sys

from . import tables
from ._cli_tools import add_verb, check_tables, show

__all__ = ["add_votes"]


def add_votes(verbs):
    """Add the verb ``votes``."""
    parser = add_verb(verbs, "votes", _votes, "outcome of each subject from the votes of many volunteers")
    parser.add_argument(
        "votes", metavar="VOTES", help="classification export of Zooniverse (.csv), or a table of votes"
    )
    parser.add_argument(
        "--workflow", default="hunt", help="questions: hunt, a class scheme or a JSON file (default: %(default)s)"
    )
    parser.add_argument(
        "--workflow-id", metavar="NUMBER", help="workflow of an export that counts (default: all of them)"
    )
    parser.add_argument(
        "--versions", nargs="+", metavar="VERSION", help="versions of it that count, e.g. 16 or 16.53 (default: all)"
    )
    parser.add_argument("--gold", metavar="TABLE", help="subjects whose outcome is known: source_id and outcome")
    parser.add_argument(
        "--method",
        choices=("majority", "weighted", "iterated", "dawid-skene"),
        default="weighted",
        help="how votes are counted (default: %(default)s, by how often a volunteer agrees with the majority)",
    )
    parser.add_argument("--report", metavar="TABLE", help="also write what is wrong with the votes, fault by fault")
    parser.add_argument("--skill", metavar="TABLE", help="also write how good each volunteer is")
    parser.add_argument("--out", help="table of outcomes (default: standard output)")


def _votes(arguments):
    from .survey import read_votes, volunteer_consensus, volunteer_skill

    check_tables(out=arguments.out, skill=arguments.skill, report=arguments.report)
    gold = None if arguments.gold is None else tables.read(arguments.gold)
    votes, report = read_votes(
        arguments.votes,
        workflow=arguments.workflow,
        versions=arguments.versions,
        workflow_id=arguments.workflow_id,
    )
    settings = {"method": arguments.method, "gold": gold, "workflow": arguments.workflow}
    consensus = volunteer_consensus(votes, **settings)
    if arguments.report is not None:
        tables.write(report, arguments.report)
    if arguments.skill is not None:
        tables.write(volunteer_skill(votes, **settings), arguments.skill)
    decided, tied = (int(each.sum()) for each in (consensus["outcome"] != "", consensus["tie"]))
    print(
        f"{len(votes)} votes of {consensus.meta['n_voters']} voters on {len(consensus)} subjects: {decided} decided, "
        f"{tied} ties, {len(consensus) - decided - tied} open",
        file=sys.stderr,
    )
    show(consensus, arguments.out)
