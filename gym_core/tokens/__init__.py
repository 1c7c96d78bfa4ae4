"""Messages as token ids: the tokens of a rollout, and how a chat template continues them."""

from gym_core.tokens.renderers import Renderer
from gym_core.tokens.templates import ChatTemplate
from gym_core.tokens.tracks import TokenTrack

__all__ = ["ChatTemplate", "Renderer", "TokenTrack"]
