"""One session of the page: its requests and their answers, as plain types."""

import io
import math
from dataclasses import asdict

from astroclassify import tables
from astroclassify.exceptions import AstroclassifyError, SchemaError
from astroclassify.images._pictures import DRAWN, LAYERS, SCALES, SMOOTHING, STRETCHES, Scale
from astroclassify.schemes import ClassScheme

from .._experts import expert_decisions
from .._queue import voting_queue
from ._records import UNSURE, answer_names, follow, voter_name

__all__ = ["Session", "NotAllowedError", "NotFoundError"]

# Subjects on which experts differ, in the order in which moderators want to see them.
_CONFLICTS = ("conflict", "moderators_tied", "moderated")
_WIDEST = 60.0  # arcsec, widest smoothing


class NotAllowedError(AstroclassifyError):
    """A request for something that this voter may not see, or not yet."""


class NotFoundError(AstroclassifyError):
    """A source that is not in the sample."""


class Session:
    """
    Answers to the page, each a dict that JSON can hold, from a SAMPLE table, its VoteJournal, Sources and Facts.
    Probabilities and maps are hidden from a voter until the vote on the source is complete, unless
    ``show_predictions``.
    """

    def __init__(self, sample, journal, sources, facts, *, predictions=None, moderators=(), show_predictions=False):
        self.journal, self.sources, self.facts = journal, sources, facts
        self.moderators = tuple(sorted({voter_name(name) for name in moderators}))
        self.blind = not show_predictions
        self._names = [str(name) for name in sample["source_id"]]
        self._known = set(self._names)
        self._folder = str(sample.meta["folder"])
        self._probabilities, self._predicted, self._classes = {}, {}, ()
        self._predictions = predictions
        if predictions is not None:
            self._read_predictions(predictions)

    def start(self):
        """What the page shows to every voter."""
        workflow, classifier = self.journal.workflow, self.sources.classifier
        return {
            "sample": self._folder,
            "workflow": workflow.name,
            "questions": [{**_named(question), "answers": _answers(question)} for question in workflow.questions],
            "outcomes": {UNSURE: UNSURE, **{outcome.name: outcome.text for outcome in workflow.outcomes}},
            "unsure": UNSURE,
            "voters": self.journal.voters(),
            "moderators": list(self.moderators),
            "blind": self.blind,
            "classes": list(self._classes),
            "map_classes": [] if classifier is None else list(classifier.scheme.classes),
            "layers": list(LAYERS),
            "pictures": list(DRAWN),
            "stretches": list(STRETCHES),
            "scales": {band: asdict(scale) for band, scale in SCALES.items()},
            "smoothing": SMOOTHING,
            "notice": self._notice(),
        }

    def voter(self, voter_id):
        """Normalised name of a voter, and the outcomes of the sources that the voter has finished."""
        voter = voter_name(voter_id)
        done = {source: end for source, end in self.journal.outcomes(voter).items() if source in self._known}
        return {"voter_id": voter, "moderator": voter in self.moderators, "outcomes": done}

    def rows(self, voter_id):
        """What sources are sorted and filtered by, one row for each in the order of the sample."""
        voter = voter_name(voter_id)
        outcomes, notes = self.journal.outcomes(voter), self.journal.notes(voter)
        rows = []
        for source in self._names:
            row = {"source_id": source, "outcome": outcomes.get(source, ""), "note": notes.get(source, "")}
            row["x_class"] = self.facts.x_class[source]
            row |= {name: self.facts.number(source, name) for name in ("ext_like", "det_like")}
            hidden = self.blind and source not in outcomes
            row["predicted"] = "" if hidden else self._predicted.get(source, "")
            row["p"] = None if hidden else (self._probabilities.get(source) or {}).get(row["predicted"])
            rows.append(row)
        return {"rows": rows}

    def queue(self, voter_id):
        """Sources that need votes, those first on which a vote of this voter tells most (see `voting_queue`)."""
        table = voting_queue(
            self.journal.votes(),
            voter_id=voter_name(voter_id),
            subjects=self._names,
            predictions=self._predictions,
            workflow=self.journal.workflow,
        )
        return {"queue": table["source_id"][table["status"] == "open"].tolist()}

    def source(self, voter_id, source_id):
        """A source: what is known of it, where it is on its pictures, and the answers that the voter has given."""
        voter = voter_name(voter_id)
        self._check_source(source_id)
        try:
            known = self.sources.about(source_id, self.facts.of)
        except (AstroclassifyError, ValueError, OSError) as error:
            known = {"facts": {**self.facts.texts(source_id), "image": " ".join(str(error).split())}}
        return {"bands": [], "view": None, "position": None, "links": {}, "neighbours": [], **known,
                **self._ballot(voter, source_id)}  # fmt: skip

    def vote(self, voter_id, source_id, question, answer):
        """Record a vote; answers as `source` does, without the facts."""
        self._check_source(source_id)
        self.journal.vote(voter_id, source_id, question, answer)
        return self._ballot(voter_name(voter_id), source_id)

    def note(self, voter_id, source_id, note):
        """Keep a voter's note on a source."""
        self._check_source(source_id)
        self.journal.note(voter_id, source_id, note)
        return self._ballot(voter_name(voter_id), source_id)

    def undo(self, voter_id):
        """Withdraw the voter's last vote; answers with the state of its source, or a null source_id without a vote."""
        withdrawn = self.journal.undo(voter_id)
        if withdrawn is None:
            return {"source_id": None}
        source = withdrawn[0]
        # A source that is no longer in the sample cannot be shown.
        return self._ballot(voter_name(voter_id), source) if source in self._known else {"source_id": source}

    def conflicts(self, voter_id):
        """Sources on which the other voters differ, for a moderator: the undecided ones first."""
        voter = self._check_moderator(voter_id)
        decisions = expert_decisions(
            self.journal.votes(), moderators=self.moderators, workflow=self.journal.workflow, subjects=self._names
        )
        rows = [
            {name: str(row[name]) for name in ("source_id", "status", "decision", "reason")}
            for row in decisions
            if str(row["status"]) in _CONFLICTS and str(row["source_id"]) in self._known
        ]
        rows.sort(key=lambda row: _CONFLICTS.index(row["status"]))
        mine = self.journal.outcomes(voter)
        for row in rows:
            row["mine"] = mine.get(row["source_id"], "")
        return {"conflicts": rows}

    def picture(self, voter_id, source_id, picture, stretch, low, high, smoothing, class_name="", layer=LAYERS[0]):
        """One picture, as PNG; ``smoothing`` of X-rays in arcsec."""
        voter = voter_name(voter_id)
        self._check_source(source_id)
        if class_name and self._hidden(voter, source_id):
            raise NotAllowedError("the activation map is shown after the vote")
        width = float(smoothing)
        if not 0 <= width <= _WIDEST:
            raise ValueError(f"smoothing must be from 0 to {_WIDEST:g} arcsec, got {smoothing!r}")
        scale = Scale(stretch, float(low), float(high))
        return self.sources.png(source_id, picture, scale, width=width, class_name=class_name, layer=layer)

    def votes(self):
        """The votes as the text of an ECSV file."""
        file = io.StringIO()
        self.journal.votes().write(file, format="ascii.ecsv")
        return file.getvalue()

    def _ballot(self, voter, source):
        path = self.journal.answers(voter, source)
        _, question, outcome = follow(self.journal.workflow, path)
        hidden = self._hidden(voter, source)
        ballot = {
            "source_id": source,
            "answers": path,
            "question": None if question is None else question.name,
            "outcome": outcome,
            "note": self.journal.notes(voter).get(source, ""),
            "hidden": hidden,
            "probabilities": None if hidden else self._probabilities.get(source),
            "predicted": None if hidden else self._predicted.get(source),
        }
        if voter in self.moderators:
            others = {
                other: end
                for other in self.journal.voters()
                if other != voter and (end := self.journal.outcomes(other).get(source))
            }
            # A moderator who votes as one of two experts must not see the other expert's answer.
            ballot["others"] = others if len(set(others.values())) > 1 else {}
        return ballot

    def _hidden(self, voter, source):
        return self.blind and source not in self.journal.outcomes(voter)

    def _check_source(self, source_id):
        if source_id not in self._known:
            raise NotFoundError(f"source_id must be one of the sample's, got {source_id[:80]!r}")

    def _check_moderator(self, voter_id):
        voter = voter_name(voter_id)
        if voter not in self.moderators:
            raise NotAllowedError(f"conflicts are for moderators, {voter!r} is not one")
        return voter

    def _read_predictions(self, predictions):
        predictions = tables.validate(predictions, tables.PREDICTIONS)
        self._classes = ClassScheme.from_dict(dict(predictions.meta["scheme"])).classes
        columns = [tables.plain_column(predictions[f"p_{label}"]) for label in self._classes]
        names, labels = (predictions[name].tolist() for name in ("source_id", "label_pred"))
        for source, label, *values in zip(map(str, names), labels, *columns, strict=True):
            if source in self._known:
                self._predicted[source] = str(label)
                self._probabilities[source] = {
                    name: float(value) if math.isfinite(value) else None
                    for name, value in zip(self._classes, values, strict=True)
                }
        if not self._predicted and len(predictions):
            raise SchemaError(f"predictions must be of sources of the sample, got {str(names[0])[:80]!r} ...")

    def _notice(self):
        notes = []
        if self.journal.torn:
            notes.append("the last write was incomplete: it was moved to a file of its own and does not count")
        if self.journal.problems:
            notes.append(f"{len(self.journal.problems)} lines of the journal cannot be read and do not count")
        return "; ".join(notes)


def _answers(question):
    """Answers to a question; `UNSURE` is the last, unless the question has its own."""
    texts = {UNSURE: "unsure, cannot tell", **{answer.name: answer.text for answer in question.answers}}
    return [{"name": name, "text": texts[name]} for name in answer_names(question)]


def _named(thing):
    return {"name": thing.name, "text": thing.text}
