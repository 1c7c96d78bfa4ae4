"""A kit to run verl's trainer without GPU, vLLM or network: a platform, a rollout server, a tiny model.

    python -m gym_adapters.verl.testing outputs/tiny_model
    export VERL_PLATFORM=cpu VERL_USE_EXTERNAL_MODULES=gym_adapters.verl.testing.registration
    python -m verl.trainer.main_ppo 'hydra.searchpath=[pkg://gym_adapters.verl.testing]' +kit=cpu \
        actor_rollout_ref.model.path=outputs/tiny_model ...

Nothing in verl is changed: the kit is in verl's registries of platforms, engines and rollout servers, where the second
variable asks for it, and nowhere else.
"""

from gym_adapters.verl.testing.models import char_tokenizer, save_model, tiny_model
from gym_adapters.verl.testing.training import TrainingError, main_ppo

__all__ = ["TrainingError", "char_tokenizer", "main_ppo", "save_model", "tiny_model"]
