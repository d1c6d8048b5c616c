"""From many votes to one outcome per subject, and the skill of each volunteer."""

import numpy as np
from astropy.table import QTable
from scipy.special import betaincinv

from astroclassify import tables
from astroclassify.exceptions import SchemaError
from astroclassify.schemes import Flag, get_scheme

from ._weights import EQUAL, divide, follow, shares_of, solve

__all__ = ["soft_labels", "volunteer_consensus", "volunteer_skill"]

# Bounds of the 95 % credible interval.
_TAILS = (0.025, 0.975)
# A posterior from fewer votes is flagged.
_FEW = 5


def volunteer_consensus(votes, *, method="weighted", gold=None, workflow="hunt", subjects=None, smoothing=4.0):
    """
    Outcome of each subject from the votes of many.

    Parameters
    ----------
    votes : `~astropy.table.QTable`
        A VOTES table, such as `read_votes` gives. Votes that do not count (`check_votes`) are left out and counted in
        the meta.
    method : {"weighted", "majority", "iterated", "dawid-skene"}, optional
        - ``"majority"``: every vote counts the same.
        - ``"weighted"``: a vote of volunteer v on question i counts G_i = C_i / Q_i, where C_i is how many of the
          volunteer's answers agree with the majority and Q_i how many there are.
        - ``"iterated"``: the same again with the majority of the weighted votes, until that changes no more.
        - ``"dawid-skene"``: the most probable outcome under the model of Dawid & Skene, in which every volunteer has a
          matrix of confusion between the outcomes, with priors for all that is not known.
    gold : mapping or `~astropy.table.Table`, optional
        Subjects whose outcome is known, source -> outcome or a table with ``source_id`` and ``outcome``. It stands
        in their rows, and takes the place of the majority in the weights and of the unknown label in Dawid & Skene.
    workflow : str, path-like, ClassScheme or Workflow, optional
        The questions, see `load_workflow`.
    subjects : sequence of str or `~astropy.table.Table`, optional
        Subjects (or a table with ``source_id``) that have a row whether anybody voted on them or not; they come first.
    smoothing : float, optional
        For Dawid & Skene, how many votes' worth the mean confusion of all volunteers is expected to count beside a
        volunteer's own votes on an outcome: the mean of an exponential prior; the votes decide. 0 is the original
        method of greatest likelihood, which has no priors, overrates few votes and knows no interval.

    Returns
    -------
    `~astropy.table.QTable`
        One row per subject, in order of ``subjects`` and then of the votes:

        - ``source_id``, ``outcome`` (empty where it is open),
        - ``vote_fraction`` of the outcome with ``vote_fraction_lo`` and ``vote_fraction_hi``, a 95 % credible interval,
        - ``n_votes``, volunteers who answered the first question, and ``n_complete``, those who reached an outcome,
        - ``tie`` (two outcomes, or two answers on the way, are equal), ``no_majority`` (the outcome has not more than
          half of the votes), ``gold``,
        - with ``"dawid-skene"`` the ``posterior`` of the outcome with ``posterior_lo`` and ``posterior_hi``, a 95 %
          credible interval: how far p itself is known, since the skill of the volunteers is not (NaN if
          ``smoothing`` is 0),
        - ``f_<outcome>``: share of the votes, weighted; ``p_<outcome>``: posterior, see the notes,
        - ``answer_<question>``, ``fraction_<question>`` (its share), ``n_<question>``,
        - ``flags`` and ``message``: ``FAILED`` without outcome, ``FEW_VOTES`` if fewer than five votes reached an
          outcome, ``NO_VOTES`` if none of them reached this one; known subjects have neither of the last two.

    Raises
    ------
    SchemaError
        If ``votes`` is no VOTES table, or ``gold``, ``workflow`` or ``subjects`` cannot be used.
    ValueError
        If ``method`` or ``smoothing`` is not allowed.

    Notes
    -----
    With the first three methods the winner of each question decides which is next, up to an outcome or a tie. f of an
    outcome is the product of the shares of the answers that lead there. p is the mean of the Dirichlet posterior of
    these shares, with one vote spread evenly over the outcomes as prior: what the crowd would answer; the interval is
    its marginal, a Beta distribution. With ``"dawid-skene"`` p is the probability of the outcome itself, from votes
    that reach an outcome: the mean over draws of all confusion matrices that the votes allow (Gibbs sampling, started
    from the outcomes of the weighted votes; the same votes give the same draws). ``meta["converged"]`` tells whether
    the p of both halves of the draws agree (0.02, root mean square). The model's volunteers err independently,
    so that p is too sure where a subject misleads all of them.

    In a tie nobody agrees with the majority. A volunteer's own vote is part of the majority.

    References
    ----------
    Kosiba et al. 2020, MNRAS 496, 4141, section on The Hunt for Galaxy Clusters (G_i). Dawid & Skene 1979, Applied
    Statistics 28, 20. Paun et al. 2018, Transactions of the ACL 6, 571 (a hierarchy of voters).

    Examples
    --------
    >>> from astroclassify.people import simulate_votes, volunteer_consensus
    >>> votes = simulate_votes({"a": "edge", "b": "point_source"}, n_voters=40, hesitation=0, rng=1)
    >>> print(volunteer_consensus(votes)["source_id", "outcome", "n_votes"])
    source_id   outcome    n_votes
    --------- ------------ -------
            a         edge      30
            b point_source      30
    """
    solution = solve(votes, method, gold, workflow, subjects, smoothing)
    ballots, names = solution.ballots, solution.ballots.workflow.outcome_names
    shares, reached = shares_of(solution.tallies, ballots.workflow)
    total = solution.tallies[0].sum(axis=1)
    if solution.fitted is None:
        # Unweighted: votes of volunteers who never agree with the majority have no weight, but exist.
        cast = [ballots.tally(number) for number in range(len(ballots.workflow.questions))]
        outcome, tie = follow(solution.winners, cast, ballots.workflow)
        posterior = (total[:, None] * shares + 1 / len(names)) / (total * reached + 1)[:, None]
    else:
        posterior = solution.fitted.posterior.copy()
        first = np.sort(posterior, axis=1)
        tie = first[:, -1] - first[:, -2] < EQUAL
        outcome = np.where(tie, -1, posterior.argmax(axis=1))
    asked = ballots.answers[:, 0] >= 0
    n_votes = np.bincount(ballots.subject[asked], minlength=len(ballots.subjects))
    n_complete = ballots.tally_outcomes().sum(axis=1)
    seen = n_votes > 0 if solution.fitted is None else n_complete > 0
    outcome[~seen], tie[~seen] = -1, False
    known = np.array(list(solution.gold), dtype=np.int64)
    is_gold = np.zeros(len(seen), bool)
    is_gold[known], outcome[known], tie[known] = True, list(solution.gold.values()), False
    posterior[~seen], posterior[known] = np.nan, np.eye(len(names))[outcome[known]]
    fraction, low, high = _interval(shares, reached, total, outcome)
    table = QTable({"source_id": ballots.subjects, "outcome": _names(names, outcome)})
    table["vote_fraction"], table["vote_fraction_lo"], table["vote_fraction_hi"] = fraction, low, high
    table["n_votes"], table["n_complete"] = n_votes, n_complete
    if solution.fitted is not None:
        _add_posterior(table, solution, outcome)
    table["tie"], table["no_majority"], table["gold"] = tie, (outcome >= 0) & ~(fraction > 0.5), is_gold
    for number, name in enumerate(names):
        table[f"f_{name}"], table[f"p_{name}"] = shares[:, number], posterior[:, number]
    _add_answers(table, solution, outcome)
    own = ballots.tally_outcomes()[np.arange(len(seen)), np.maximum(outcome, 0)]
    table["flags"] = (
        np.where(outcome < 0, Flag.FAILED.value, 0)
        | np.where((n_complete > 0) & (n_complete < _FEW) & ~is_gold, Flag.FEW_VOTES.value, 0)
        | np.where((outcome >= 0) & (own == 0) & ~is_gold, Flag.NO_VOTES.value, 0)
    )
    table["message"] = _messages(outcome, tie, seen, n_votes)
    table.meta = _meta(solution, method)
    return table


def _add_posterior(table, solution, outcome):
    """Columns of the probability of the outcome; NaN without outcome, or without interval."""
    fitted, open_ = solution.fitted, outcome < 0
    place = np.maximum(outcome, 0)
    values = fitted.posterior[np.arange(len(place)), place]
    low, high = fitted.interval(place, _TAILS)
    for name, column in (("posterior", values), ("posterior_lo", low), ("posterior_hi", high)):
        table[name] = np.where(open_, np.nan, column)


def _messages(outcome, tie, seen, n_votes):
    text = np.full(len(outcome), "", dtype="U32")
    text[outcome < 0] = "the votes end before an outcome"
    text[tie] = "tie"
    text[~seen & (n_votes == 0) & (outcome < 0)] = "no votes"
    return text


def _meta(solution, method):
    ballots = solution.ballots
    return tables.provenance(
        method=method,
        workflow=ballots.workflow.name,
        outcomes=list(ballots.workflow.outcome_names),
        classes={
            scheme: list(ballots.workflow.classes(scheme))
            for scheme in ("cluster", "candidate")
            if _has_classes(ballots.workflow, scheme)
        },
        n_voters=len(ballots.voters),
        n_iterations=solution.n_iterations,
        converged=solution.converged,
        not_counted=dict(ballots.counts),
        n_incomplete=int(np.sum(ballots.outcome < 0)),
    )


def _has_classes(workflow, scheme):
    try:
        return bool(workflow.classes(scheme))
    except SchemaError:
        return False


def _interval(shares, reached, total, outcome):
    """Share of the outcome with the bounds of its Beta posterior; NaN without outcome."""
    rows = np.arange(len(outcome))
    fraction = np.where(reached > 0, shares[rows, np.maximum(outcome, 0)], 0.0)
    fraction[outcome < 0] = np.nan
    prior = 1 / shares.shape[1]
    a = np.nan_to_num(fraction) * total + prior
    b = np.maximum(reached * total - np.nan_to_num(fraction) * total, 0) + 1 - prior
    low, high = (np.where(outcome < 0, np.nan, betaincinv(a, b, tail)) for tail in _TAILS)
    return fraction, low, high


def _names(names, numbers):
    return np.array([*names, ""])[numbers]


def _add_answers(table, solution, outcome):
    """Columns of the single questions."""
    workflow = solution.ballots.workflow
    paths = np.vstack([workflow.paths, np.full(len(workflow.questions), -1)])  # the last row is for no outcome, -1
    for number, question in enumerate(workflow.questions):
        tally = solution.tallies[number]
        on_path = table["gold"] if solution.fitted is None else True
        answer = np.where(on_path, paths[outcome, number], solution.winners[:, number])
        share = divide(tally[np.arange(len(tally)), np.maximum(answer, 0)], tally.sum(axis=1), np.nan)
        answers = solution.ballots.answers[:, number] >= 0
        table[f"answer_{question.name}"] = _names([each.name for each in question.answers], answer)
        table[f"fraction_{question.name}"] = np.where(answer < 0, np.nan, share)
        table[f"n_{question.name}"] = np.bincount(solution.ballots.subject[answers], minlength=len(tally))


def volunteer_skill(votes, *, method="weighted", gold=None, workflow="hunt", smoothing=4.0):
    """
    Skill of each volunteer.

    Parameters
    ----------
    votes : `~astropy.table.QTable`
        A VOTES table.
    method, gold, workflow, smoothing
        As in `volunteer_consensus`.

    Returns
    -------
    `~astropy.table.QTable`
        One row per volunteer, in order of the votes: ``voter_id``, ``n_subjects``; for each question ``q_<question>``
        (Q_i), ``c_<question>`` (C_i) and ``g_<question>`` (G_i = C_i / Q_i, NaN where nothing was answered): agreement
        with the majority, or with the winners of the last iteration of ``"iterated"``; ``agreement``, all C_i over
        all Q_i; ``n_gold`` and ``gold_right``, the share of the known subjects that the volunteer got right. With
        ``"dawid-skene"`` also ``confusion``, shape (n_outcomes, n_outcomes): probability to give the second where the
        first is true, and ``skill``, the probability to be right on a subject like those voted on.

    Raises
    ------
    SchemaError, ValueError
        As in `volunteer_consensus`.

    Examples
    --------
    >>> from astroclassify.people import simulate_votes, volunteer_skill
    >>> votes = simulate_votes({"a": "edge", "b": "point_source"}, votes_per_subject=3, n_voters=3, rng=1)
    >>> volunteer_skill(votes)["q_emission"].tolist()
    [2, 2, 2]
    """
    solution = solve(votes, method, gold, workflow, None, smoothing)
    ballots = solution.ballots
    n = len(ballots.voters)
    table = QTable({"voter_id": ballots.voters, "n_subjects": np.bincount(ballots.voter, minlength=n)})
    for number, name in enumerate(ballots.workflow.question_names):
        agreed, given = solution.agreed[:, number], solution.given[:, number]
        table[f"q_{name}"], table[f"c_{name}"] = given.astype(np.int64), agreed.astype(np.int64)
        table[f"g_{name}"] = divide(agreed, given, np.nan)
    table["agreement"] = divide(solution.agreed.sum(axis=1), solution.given.sum(axis=1), np.nan)
    truth = np.full(len(ballots.subjects), -1)
    truth[list(solution.gold)] = list(solution.gold.values())
    judged = (truth[ballots.subject] >= 0) & (ballots.outcome >= 0)
    table["n_gold"] = np.bincount(ballots.voter[judged], minlength=n)
    right = judged & (ballots.outcome == truth[ballots.subject])
    table["gold_right"] = divide(np.bincount(ballots.voter[right], minlength=n), table["n_gold"], np.nan)
    if solution.fitted is not None:
        table["confusion"] = solution.fitted.confusion
        table["skill"] = np.einsum("vkk,k->v", solution.fitted.confusion, solution.fitted.prior)
    table.meta = _meta(solution, method)
    return table


def soft_labels(consensus, scheme="cluster"):
    """
    Posteriors of a consensus as labels for training a classifier.

    Parameters
    ----------
    consensus : `~astropy.table.QTable`
        What `volunteer_consensus` gives.
    scheme : ClassScheme or str, optional
        The classes; the workflow defines the class of each outcome.

    Returns
    -------
    labels : `~numpy.ndarray`
        Shape (n, n_classes): probability of each class, in scheme order; NaN for a subject without votes, which
        `~astroclassify.nn.CutoutClassifier.fit` takes as no label.
    weights : `~numpy.ndarray`
        Shape (n,): (p - 1/k) / (1 - 1/k) for the largest p of k classes, from 0 (nothing known, no votes) to 1 (sure).

    Raises
    ------
    SchemaError
        If ``consensus`` is something else or its outcomes are not classes of the scheme.

    Notes
    -----
    The labels already express the doubt; the weights are for hard labels. Rows are in the order of the consensus, which
    ``volunteer_consensus(votes, subjects=sample)`` makes the order of the sample.

    Examples
    --------
    >>> from astroclassify.people import simulate_votes, soft_labels, volunteer_consensus
    >>> votes = simulate_votes({"a": "edge", "b": "nearby_cluster"}, n_voters=40, hesitation=0, rng=2)
    >>> labels, weights = soft_labels(volunteer_consensus(votes, subjects=["a", "b"]), "cluster")
    >>> labels.argmax(axis=1).tolist()
    [1, 0]
    """
    scheme = get_scheme(scheme)
    outcomes = consensus.meta.get("outcomes")
    if not outcomes:
        raise SchemaError("consensus must be a table that volunteer_consensus made (meta has no outcomes)")
    classes = dict(consensus.meta.get("classes") or {}).get(scheme.name, outcomes)
    wrong = sorted(set(classes) - set(scheme.classes))
    if wrong:
        raise SchemaError(f"outcomes {wrong} of the consensus are no classes of the scheme {scheme.name!r}")
    missing = [name for name in (f"p_{outcome}" for outcome in outcomes) if name not in consensus.colnames]
    if missing:
        raise SchemaError(f"consensus lacks the columns {missing}")
    labels = np.zeros((len(consensus), scheme.n_classes))
    for outcome, label in zip(outcomes, classes, strict=True):
        labels[:, scheme.index(label)] += np.asarray(consensus[f"p_{outcome}"], dtype=float)
    labels /= labels.sum(axis=1, keepdims=True)
    least = 1 / scheme.n_classes
    known = ~np.isnan(labels).any(axis=1)
    weights = np.zeros(len(labels))
    weights[known] = np.clip((labels[known].max(axis=1) - least) / (1 - least), 0, 1)
    return labels, weights
