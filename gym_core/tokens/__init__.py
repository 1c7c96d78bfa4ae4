"""Messages and token ids: what is kept of a rollout, and how a chat template continues one."""

from gym_core.tokens.renderers import Renderer
from gym_core.tokens.templates import ChatTemplate
from gym_core.tokens.tracks import TokenTrack

__all__ = ["ChatTemplate", "Renderer", "TokenTrack"]
