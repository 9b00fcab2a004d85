"""The letter and the cloze form of a question, as lm-eval's mmlu and mmlu_continuation have them.

The Jinja templates are what lm-eval renders; ``letter_prompt`` and ``cloze_prompt`` are the same
texts for the native scorer, and tests hold them equal string for string.
"""

from evals.exam.mmlu_items import LETTERS, MmluItem, MmluSubject

LETTER_TEMPLATE = (
    "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}"
    "\nD. {{choices[3]}}\nAnswer:"
)
CLOZE_TEMPLATE = "Question: {{question.strip()}}\nAnswer:"
CONTINUATIONS = tuple(f" {letter}" for letter in LETTERS)
"""What is scored after a letter prompt: the delimiter is one space."""


def letter_description(subject: str) -> str:
    """The line before the first example of the letter form."""
    spoken = subject.replace("_", " ")
    return f"The following are multiple choice questions (with answers) about {spoken}.\n\n"


def cloze_description(subject: str) -> str:
    """The line before the first example of the cloze form."""
    return f"The following are questions (with answers) about {subject.replace('_', ' ')}.\n\n"


def letter_prompt(subject: MmluSubject, item: MmluItem) -> str:
    """Description, worked examples, question: up to and with "Answer:"."""
    shots = "".join(f"{_question(shot)} {LETTERS[shot.answer]}\n\n" for shot in subject.shots)
    return letter_description(subject.name) + shots + _question(item)


def cloze_prompt(subject: MmluSubject, item: MmluItem) -> str:
    """Description, worked examples with the text of their answers, question: up to "Answer:"."""
    shots = "".join(f"{_bare(shot)} {shot.choices[shot.answer]}\n\n" for shot in subject.shots)
    return cloze_description(subject.name) + shots + _bare(item)


def _bare(item: MmluItem) -> str:
    return f"Question: {item.question.strip()}\nAnswer:"


def _question(item: MmluItem) -> str:
    # The question is stripped and the choices are not: 41 of MMLU's rows tell the difference.
    lines = [f"{letter}. {choice}" for letter, choice in zip(LETTERS, item.choices, strict=True)]
    return "\n".join([item.question.strip(), *lines, "Answer:"])
