from hypothesis import given, settings
from hypothesis import strategies as st

from gym_core import TokenTrack

IDS = st.lists(st.integers(0, 99), max_size=5)


def test_a_track_masks_everything_that_was_not_sampled():
    track = TokenTrack(prompt_ids=[1, 2])
    track.sample([3, 4], [-0.1, -0.2])
    track.append([5])
    track.sample([6], [-0.3])
    assert track.ids == [1, 2, 3, 4, 5, 6]
    assert track.mask == [1, 1, 0, 1]
    assert track.logprobs == [-0.1, -0.2, 0.0, -0.3]
    assert track.broken is None


@settings(deadline=None, derandomize=True)
@given(IDS, st.lists(st.tuples(st.booleans(), IDS)))
def test_a_track_only_grows_and_its_columns_stay_as_long_as_each_other(prompt_ids, steps):
    track = TokenTrack(prompt_ids=prompt_ids)
    for is_sampled, ids in steps:
        before = track.ids
        if is_sampled:
            track.sample(ids, [-1.0] * len(ids), given=before)
        else:
            track.append(ids)
        assert track.ids == before + ids
        assert track.mask[len(track.mask) - len(ids) :] == [int(is_sampled)] * len(ids)
        assert len(track.completion_ids) == len(track.mask) == len(track.logprobs)
        assert [p != 0.0 for p in track.logprobs] == [m == 1 for m in track.mask]
    assert track.broken is None


def test_an_engine_that_continued_other_tokens_breaks_the_track_and_nothing_is_patched():
    track = TokenTrack(prompt_ids=[1, 2])
    track.sample([3], given=[1, 9])
    assert track.broken == "the engine continued 2 tokens that are not the 2 it was sent"
    assert track.ids == [1, 2, 3]


def test_tokens_the_engine_left_out_at_the_start_break_the_track_too():
    track = TokenTrack(prompt_ids=[1, 2])
    track.sample([3], given=(2,))
    assert "continued 1 tokens" in track.broken


def test_an_engine_that_does_not_report_its_prompt_is_believed():
    track = TokenTrack(prompt_ids=[1])
    track.sample([2])
    assert (track.broken, track.logprobs) == (None, [0.0])


def test_a_wrong_number_of_log_probabilities_breaks_the_track():
    for logprobs in ([-0.1], [-0.1, -0.2, -0.3], []):
        track = TokenTrack()
        track.sample([1, 2], logprobs)
        assert track.broken == f"the engine gave {len(logprobs)} log-probabilities for 2 tokens"
        assert track.logprobs == [0.0, 0.0]


def test_the_first_break_is_reported_and_the_track_goes_on():
    track = TokenTrack()
    track.sample([1], [-0.1, -0.2])
    track.sample([2], [-0.1], given=[7, 7, 7])
    assert track.broken.startswith("the engine gave 2")
    assert (track.completion_ids, track.mask) == ([1, 2], [1, 1])


def test_the_tokens_an_engine_is_given_are_a_copy():
    track = TokenTrack(prompt_ids=[1])
    track.ids.append(9)
    assert track.ids == [1]
