import pytest

from gym_core import ChatTemplate, Environment, EnvironmentSpecError, EpisodeError, Task, driving, mix, tool, user
from gym_core.driving import Needs, Player, needs, opened_episode, playable


class Plain(Environment):
    tasks = [Task([user("?")])]

    def verify(self, rollout):
        return 1.0


class Shop(Plain):
    @tool
    def buy(self) -> str:
        """Buy it."""
        return "bought"


class Talk(Plain):
    def respond(self, message):
        return None


class Opens(Plain):
    tasks = [Task([])]

    def setup(self):
        return [user("What is 2+2?")]


class Ranks(Plain):
    @classmethod
    def verify_group(cls, rollouts):
        return [1.0 for _ in rollouts]


NOTHING = Player("a reward function", gives=Needs(), instead="use the loop")
LOOP = Player("the loop")


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (Shop, "has tools"),
        (Talk, "answers as the user (`respond`)"),
        (Opens, "makes its own opening (`setup`)"),
        (Ranks, "judges the rollouts of a task together (`verify_group`)"),
    ],
)
def test_an_unmet_need_is_one_sentence_with_an_alternative(env, words):
    sentence = f"environment {env.name!r} {words}, which is not supported by a reward function; use the loop"
    for asked in (env, env(env.tasks[0]), mix([Plain, env]), opened_episode(env)):
        assert playable(asked, by=NOTHING) == sentence
        assert playable(asked, by=LOOP) is None
    assert playable(Plain, by=NOTHING) is None


def test_a_player_without_an_alternative_ends_its_sentence_there():
    sentence = "environment 'Shop' has tools, which is not supported by a reward function"
    assert playable(Shop, by=Player("a reward function", gives=Needs())) == sentence


class Tokenizer:
    """What a chat template needs of one; it shows no roles, so no turn has an end."""

    eos_token_id = 0
    all_special_tokens = ()

    def get_added_vocab(self):
        return {}

    def encode(self, text, add_special_tokens=False):
        return list(text.encode())

    def decode(self, ids):
        return bytes(ids).decode()

    def apply_chat_template(self, messages, **options):
        return "".join(str(message["content"]) for message in messages)


def test_a_template_that_cannot_be_continued_is_a_problem_if_it_is_needed():
    template = ChatTemplate(Tokenizer())
    told = "environment {!r} can't be played with this tokenizer: {}"
    unparsed = "the tokenizer has no response_template and none is known for its chat template, so no tool call is seen"
    parser = Player("a loop with a parser", parses_calls=True)
    assert playable(Plain, by=LOOP, template=template) is None
    assert playable(Talk, by=LOOP, template=template) == told.format("Talk", template.user_problem)
    assert playable(Shop, by=LOOP, template=template) == told.format("Shop", unparsed)
    assert playable(Shop, by=parser, template=template) == told.format("Shop", template.tool_problem)


def test_an_environment_that_cannot_be_opened_is_named():
    class Down(Plain):
        def setup(self):
            raise ConnectionError("refused")

    with pytest.raises(EpisodeError, match="environment 'Down' can't be opened: ConnectionError: refused"):
        opened_episode(Down)
    with pytest.raises(EnvironmentSpecError, match="environment 'Empty' has no tasks"):
        opened_episode(type("Empty", (Plain,), {"tasks": ()}))


def test_an_environment_that_cannot_be_closed_has_been_opened():
    class Stuck(Shop):
        def close(self):
            raise ConnectionError("refused")

    assert [schema["function"]["name"] for schema in opened_episode(Stuck).tools] == ["buy"]


def test_an_opened_episode_is_closed_again():
    closed = []

    class Closes(Plain):
        def close(self):
            closed.append(self.task)

    assert needs(opened_episode(Closes)) == Needs()
    assert closed == Closes.tasks


def test_its_names_are_sorted_and_all_there():
    assert driving.__all__ == sorted(driving.__all__)
    for name in driving.__all__:
        assert getattr(driving, name) is not None
