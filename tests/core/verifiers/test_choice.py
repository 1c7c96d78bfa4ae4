import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gym_core.verifiers import choice_match

OPTIONS = "A) a cat\nB) a dog\nC) a cow\nD) a pig"


def final_choice(completion, choices="ABCD"):
    """The one choice that scores, or None."""
    scoring = [label for label in choices if choice_match(completion, label, choices=choices) == 1.0]
    assert len(scoring) <= 1
    return scoring[0] if scoring else None


@pytest.mark.parametrize(
    ("completion", "choice"),
    [
        # every answer listed
        ("A B C D", None),
        ("A, B, C, D", None),
        ("(A) (B) (C) (D)", None),
        ("(D) (C) (B) (A)", None),
        ("A\nB\nC\nD", None),
        ("A.\n\nB.\n\nC.\n\nD.", None),
        ("Answer: A, B, C or D", None),
        ("Answer: [A|B|C|D]", None),
        ("answer: a, b, c and d", None),
        ("The answer is b or c", None),
        ("The answer is either (A) or (B)", None),
        ("The answer is **A** and/or **B**", None),
        ("<answer>A, B</answer>", None),
        ("<answer>A</answer> <answer>B</answer>", None),
        (r"\boxed{A} \boxed{B} \boxed{C} \boxed{D}", None),
        (r"\boxed{A \text{ or } B}", None),
        ("Answer: A\nAnswer: B\nAnswer: C\nAnswer: D", None),
        ("**A** **B** **C** **D**", None),
        ("(A and B)", None),
        # the question repeated
        (f"Which one barks?\n{OPTIONS}", None),
        (f"{OPTIONS}\nAnswer with one letter, A, B, C or D.", None),
        (f"Select the correct answer:\n{OPTIONS}", None),
        (f"Which is it? {OPTIONS}".replace("\n", " "), None),
        ("Select the correct answer: (A) cat (B) dog (C) cow (D) pig", None),
        ("Select the correct option: A. cat B. dog C. cow D. pig", None),
        ("A. cat B. dog C. cow D. pig", None),
        ("A: cat\nB: dog\nC: cow\nD: pig", None),
        ("A\ncat\nB\ndog\nC\ncow\nD\npig", None),
        ("A) Vitamin C\nB) Vitamin D\nC) Vitamin B\nD) Vitamin A", None),
        # English words
        ("A dog is an animal", None),
        ("The answer is a dog", None),
        ("Answer: A dog", None),
        ("The answer is A because it barks", "A"),
        ("Answer: A", "A"),
        ("answer: a", "A"),
        ("A dog barks, so the answer is B", "B"),
        ("Plan A failed; vitamin C helps.", None),
        # the last statement decides
        ("The answer is A. Wait, it does not bark. The answer is B.", "B"),
        ("(A) is wrong, so it must be (B).", "B"),
        ("The answer is (B), because (A) and (C) do not bark.", "B"),
        ("The answer is B. C is wrong.", "B"),
        ("Answer: B\n(A) is wrong.", "B"),
        ("That rules out (A).\n\nAnswer: B", "B"),
        ("That rules out (A).\n\nB", "B"),
        (f"{OPTIONS}\n\nB", "B"),
        (f"{OPTIONS}\nAnswer: D", "D"),
        ("Answer: B\nAnswer: B", "B"),
        ("**Answer: B**\n\n$$\\boxed{B}$$", "B"),
        ("(A) no. (B) yes. (C) no. (D) no.", None),
        # forms
        ("The answer is (B)", "B"),
        ("The correct option is option (C).", "C"),
        ("The best choice would be: **C**", "C"),
        ("**Answer:** B", "B"),
        ("**Answer**: **B**", "B"),
        ("ANSWER = d", "D"),
        ("Answer: B) a dog", "B"),
        ("Answer: B. A dog barks.", "B"),
        (r"So $\boxed{B}$.", "B"),
        (r"\boxed{\text{(B)}}", "B"),
        (r"\boxed{b}", "B"),
        ("<answer>B</answer>", "B"),
        ("<answer>\n b \n</answer>", "B"),
        ("<answer>(B) a dog</answer>", "B"),
        ("**B**", "B"),
        ("**B.** A dog", "B"),
        ("(B)", "B"),
        ("B)", "B"),
        ("B.", "B"),
        ("B", "B"),
        ("b", None),
        ("B. a dog", "B"),
        ("_B_", "B"),
        ("Dogs bark.\nB\n", "B"),
        ("B\nDogs bark.", "B"),
        # nothing named
        ("", None),
        ("Answer:", None),
        ("Answer: E", None),
        ("Answer: AB", None),
        ("Answer: B2", None),
        ("Answer: D'Artagnan", None),
        ("The answer is not B", None),
        ("The answer isn't B", None),
        ("CABBAGE", None),
        ("\ud800\x00", None),
        ("answer: \u0432", None),  # Cyrillic
    ],
)
def test_choice_match_scores_the_choice_that_the_completion_settles_on(completion, choice):
    assert final_choice(completion) == choice


@pytest.mark.parametrize(
    ("completion", "choices", "choice"),
    [
        ("Answer: AA", ["A", "AA"], "AA"),
        ("Answer: 10", ["1", "10"], "10"),
        ("1) cat\n2) dog", ["1", "2"], None),
        ("The answer is YES", ["yes", "no"], "yes"),
        ("The answer is no doubt yes", ["Yes", "No"], "No"),  # labels that are words are read as labels
        ("I think (J)", "ABCDEFGHIJ", "J"),
        ("The answer is I think J", "ABCDEFGHIJ", None),
        ("answer: \u0131", "ABCDEFGHI", None),  # a dotless i, which re.IGNORECASE takes for one
        ("Answer: C++", ["C", "C++"], "C++"),
        ("Answer: б", "абв", "б"),
        ("(A), not (B)", "AB", None),
        ("The answer is (A), not (B)", "AB", "A"),
    ],
)
def test_choices_may_be_any_labels(completion, choices, choice):
    assert final_choice(completion, choices) == choice


@pytest.mark.parametrize(
    "text", ["A", "A ", "A,", "(A) ", "\nA", "\n", " ", "(", "*", "answer: ", r"\boxed{", "<answer>", "and ", "A\\a"]
)
def test_long_completions_take_linear_time(text):
    assert choice_match(text * 30_000 + "\nAnswer: B or C", "B") == 0.0


@pytest.mark.parametrize(
    ("answer", "choices", "error", "sentence"),
    [
        ("E", "ABCD", ValueError, "a choice_match answer must be one of A, B, C, D, not 'E'"),
        ("b", "ABCD", ValueError, "a choice_match answer must be one of A, B, C, D, not 'b'"),
        ("A", "A", ValueError, "choices must be two or more different labels, not 'A'"),
        ("A", "Aa", ValueError, "choices must be two or more different labels, not 'Aa'"),
        ("A", ["A", " "], ValueError, "choices must be two or more different labels, not ['A', ' ']"),
        ("A", "", ValueError, "choices must be two or more different labels, not ''"),
        ("1", [1, 2], TypeError, "choices must be strings, not [1, 2]"),
    ],
)
def test_a_mistake_of_the_author_is_one_sentence(answer, choices, error, sentence):
    with pytest.raises(error) as raised:
        choice_match("Answer: A", answer, choices=choices)
    assert str(raised.value) == sentence


FRAGMENTS = st.sampled_from(
    [
        "A",
        "B",
        "c",
        "(",
        ")",
        "**",
        ".",
        ":",
        " ",
        "\n",
        "answer",
        " is ",
        "answer: ",
        "\\boxed{",
        "}",
        "and",
        "ı",
        "İ",
        "ſ",
    ]
)


@settings(deadline=None)
@given(st.text(st.characters(), max_size=200) | st.lists(FRAGMENTS).map("".join))
def test_at_most_one_choice_scores_for_any_text(completion):
    final_choice(completion)
    final_choice(completion, "ABCDEFGHIJKLMNOPQRS")


@settings(deadline=None)
@given(st.sampled_from("ABCD"), st.text(st.characters(), max_size=100))
def test_a_statement_on_the_last_line_decides(label, text):
    completion = f"{text}\nIt barks.\nThe answer is ({label})."
    assert final_choice(completion) == label
