"""Safety: what classifiers find, what a policy makes of it, and the verdict that comes of both.

Every domain speaks of these: a verdict goes with a finished picture, a policy with the work
that it governs into the device's worker.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Annotated

from msgspec import Meta

from domains.codec import Count, Moment, Name, Text, Value
from domains.limits import default_of
from domains.values import PictureMarks

Score = Annotated[float, Meta(ge=0.0, le=1.0)]
Category = Annotated[str, Meta(min_length=1, max_length=64)]
WORDS = "words"
"""The category of prompts that hold words of a policy."""


class SafetyAction(Enum):
    """What is done with what is flagged; each is harsher than the one before."""

    ALLOW = "allow"
    WARN = "warn"
    BLUR = "blur"
    BLOCK = "block"

    @property
    def severity(self) -> int:
        """How harsh it is, from 0."""
        return list(SafetyAction).index(self)


class SafetySubject(Enum):
    """What was judged."""

    PROMPT = "prompt"
    INPUT_IMAGE = "input-image"
    RESULT = "result"


class ClassifierFailure(Enum):
    """What is done when a classifier fails."""

    BLOCK = "block"
    ALLOW = "allow"


class SafetyRule(Value, frozen=True):
    """Scores of a category from `threshold` on are flagged, and that is done with them. It is
    about what `subject` says; None means everything."""

    category: Category
    threshold: Score = default_of("SafetyRule.threshold")
    action: SafetyAction = SafetyAction.ALLOW
    subject: SafetySubject | None = None

    def applies(self, category: str, subject: SafetySubject | None) -> bool:
        """Whether it is about such scores; a `subject` of None is about everything too."""
        return self.category == category and (
            None in (subject, self.subject) or self.subject is subject
        )


class SafetyPolicy(Value, frozen=True):
    """Rules under a name, in one version that never changes.

    `classifiers` are the ids of those that score; none means all that are installed. Whose it
    is (`owner`) and since when (`create_time`) is known once it is kept; then `version` is 1
    or more. `public` is one that an operator made: every client may use it. `marks` are those
    that pictures under it bear at least, whatever a request says.
    """

    policy_id: Annotated[str, Meta(max_length=127)]
    version: Count = 0
    description: Annotated[str, Meta(max_length=1024)] = ""
    rules: Annotated[tuple[SafetyRule, ...], Meta(max_length=32)] = ()
    classifiers: Annotated[tuple[Name, ...], Meta(max_length=8)] = ()
    on_classifier_failure: ClassifierFailure = ClassifierFailure.BLOCK
    prompt_words: Annotated[
        tuple[Annotated[str, Meta(max_length=64)], ...], Meta(max_length=1000)
    ] = ()
    owner: Text = ""
    create_time: Moment | None = None
    public: bool = False
    marks: PictureMarks = PictureMarks()

    def judges(self, subject: SafetySubject) -> bool:
        """Whether a rule needs scores of such pictures."""
        return any(
            rule.category != WORDS and rule.subject in (None, subject) for rule in self.rules
        )

    @property
    def judges_pictures(self) -> bool:
        """Whether a rule needs scores of any picture."""
        return any(map(self.judges, (SafetySubject.RESULT, SafetySubject.INPUT_IMAGE)))

    @property
    def key(self) -> str:
        """Names it among all clients' policies, in every version."""
        return f"{self.owner}/{self.policy_id}"


NO_POLICY = SafetyPolicy("", on_classifier_failure=ClassifierFailure.ALLOW)
"""Of a check that no policy governs: everything is reported and nothing is done."""


class CategoryScore(Value, frozen=True):
    """What a classifier says of one category, from 0 (certainly not) to 1 (certainly)."""

    category: Category
    score: Score
    classifier: Name


class Findings(Value, frozen=True):
    """What classifiers say of one picture; `failed` are those that did not say anything."""

    scores: Annotated[tuple[CategoryScore, ...], Meta(max_length=32)]
    failed: Annotated[tuple[Name, ...], Meta(max_length=8)] = ()


class SafetyScore(Value, frozen=True):
    """A score beside the threshold that the policy has for it; 0 and not `flagged` where it has
    none. `classifier` is empty for scores that were given."""

    category: Category
    score: Score
    threshold: Score
    flagged: bool
    classifier: Text = ""


class SafetyVerdict(Value, frozen=True):
    """What a policy makes of a picture or prompt, and what was done.

    `subject` is None where scores were given and nothing was looked at. `classifier_failed`
    says that a classifier failed and the policy's rule for that counted.
    """

    scores: Annotated[tuple[SafetyScore, ...], Meta(max_length=32)]
    action: SafetyAction
    policy_id: Text
    policy_version: Count
    subject: SafetySubject | None
    classifier_failed: bool = False
    advice: Annotated[str, Meta(max_length=256)] = ""

    @property
    def flagged(self) -> bool:
        """Whether anything was."""
        return self.classifier_failed or any(each.flagged for each in self.scores)


Decided = Callable[[str, SafetyVerdict], None]
"""Hears of every decision, with the id of its session."""


class SafetyReport(Value, frozen=True):
    """What a check came to, in the order of the pictures, then the prompts."""

    verdicts: Annotated[tuple[SafetyVerdict, ...], Meta(max_length=32)]
