from gym_core import Completion, ScriptedPolicy, assistant, tool_call, user


async def test_a_scripted_policy_plays_its_replies_and_then_says_nothing():
    policy = ScriptedPolicy(iter(["first", assistant("second")]))
    replies = [await policy([user("q")], []) for _ in range(4)]
    assert replies == [Completion(assistant(said)) for said in ("first", "second", "", "")]


async def test_a_scripted_tool_call_is_finished_as_one():
    call = assistant(tool_calls=[tool_call("look")])
    assert await ScriptedPolicy([call])([], []) == Completion(call, "tool_calls")
