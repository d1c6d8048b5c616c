"""One session of the page: its requests and their answers, as plain types."""

import io
import math
from dataclasses import asdict

from astroclassify import tables
from astroclassify.exceptions import AstroclassifyError, SchemaError
from astroclassify.images._pictures import PICTURES, SCALES, STRETCHES, Scale
from astroclassify.schemes import ClassScheme, flag_names

from .._experts import expert_decisions
from ._journal import follow, voter_name

__all__ = ["Session", "NotAllowedError", "NotFoundError"]

# Subjects on which experts differ, in the order in which moderators want to see them.
_CONFLICTS = ("conflict", "moderators_tied", "moderated")


class NotAllowedError(AstroclassifyError):
    """A request for something that this voter may not see, or not yet."""


class NotFoundError(AstroclassifyError):
    """A source that is not in the sample."""


class Session:
    """
    Answers to the page, each a dict that JSON can hold, from a SAMPLE table, its VoteJournal and its Sources. With
    ``blind`` probabilities and maps are hidden from a voter until the vote on the source is complete.
    """

    def __init__(self, sample, journal, sources, *, predictions=None, moderators=(), blind=False):
        self.journal, self.sources, self.blind = journal, sources, bool(blind)
        self.moderators = tuple(sorted({voter_name(name) for name in moderators}))
        flags = tables.plain_column(sample["flags"], 0).tolist()
        self._flags = dict(zip(map(str, sample["source_id"]), flags, strict=True))
        self._folder = str(sample.meta["folder"])
        self._probabilities, self._predicted, self._classes = {}, {}, ()
        if predictions is not None:
            self._read_predictions(predictions)

    def start(self):
        """What the page shows to every voter."""
        workflow, classifier = self.journal.workflow, self.sources.classifier
        return {
            "sample": self._folder,
            "workflow": workflow.name,
            "questions": [
                {**_named(question), "answers": list(map(_named, question.answers))} for question in workflow.questions
            ],
            "outcomes": {outcome.name: outcome.text for outcome in workflow.outcomes},
            "sources": list(self._flags),
            "voters": self.journal.voters(),
            "moderators": list(self.moderators),
            "blind": self.blind,
            "classes": list(self._classes),
            "map_classes": [] if classifier is None else list(classifier.scheme.classes),
            "pictures": list(PICTURES),
            "stretches": list(STRETCHES),
            "scales": {band: asdict(scale) for band, scale in SCALES.items()},
            "notice": self._notice(),
        }

    def voter(self, voter_id):
        """Normalised name of a voter, and the outcomes of the sources that the voter has finished."""
        voter = voter_name(voter_id)
        done = {source: end for source, end in self.journal.outcomes(voter).items() if source in self._flags}
        return {"voter_id": voter, "moderator": voter in self.moderators, "outcomes": done}

    def source(self, voter_id, source_id):
        """A source, with the answers that the voter has given."""
        voter = voter_name(voter_id)
        self._check_source(source_id)
        facts = {"flags": ", ".join(flag_names(int(self._flags[source_id])))}
        try:
            facts |= self.sources.facts(source_id)
        except (AstroclassifyError, ValueError, OSError) as error:
            facts["image"] = " ".join(str(error).split())
        return {"facts": {name: text for name, text in facts.items() if text}, **self._ballot(voter, source_id)}

    def vote(self, voter_id, source_id, question, answer):
        """Record a vote; answers as `source` does, without the facts."""
        self._check_source(source_id)
        self.journal.vote(voter_id, source_id, question, answer)
        return self._ballot(voter_name(voter_id), source_id)

    def undo(self, voter_id):
        """Withdraw the voter's last vote; answers with the state of its source, or a null source_id without a vote."""
        withdrawn = self.journal.undo(voter_id)
        if withdrawn is None:
            return {"source_id": None}
        source = withdrawn[0]
        # A source that is no longer in the sample cannot be shown.
        return self._ballot(voter_name(voter_id), source) if source in self._flags else {"source_id": source}

    def conflicts(self, voter_id):
        """Sources on which the other voters differ, for a moderator: the undecided ones first."""
        voter = self._check_moderator(voter_id)
        decisions = expert_decisions(
            self.journal.votes(), moderators=self.moderators, workflow=self.journal.workflow, subjects=list(self._flags)
        )
        rows = [
            {name: str(row[name]) for name in ("source_id", "status", "decision", "reason")}
            for row in decisions
            if str(row["status"]) in _CONFLICTS and str(row["source_id"]) in self._flags
        ]
        rows.sort(key=lambda row: _CONFLICTS.index(row["status"]))
        mine = self.journal.outcomes(voter)
        for row in rows:
            row["mine"] = mine.get(row["source_id"], "")
        return {"conflicts": rows}

    def picture(self, voter_id, source_id, picture, stretch, low, high, class_name=""):
        """One picture, as PNG."""
        voter = voter_name(voter_id)
        self._check_source(source_id)
        if class_name and self._hidden(voter, source_id):
            raise NotAllowedError("the activation map is shown after the vote")
        return self.sources.png(source_id, picture, Scale(stretch, float(low), float(high)), class_name)

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
        if source_id not in self._flags:
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
            if source in self._flags:
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


def _named(thing):
    return {"name": thing.name, "text": thing.text}
