# Sourced by the runs: what depends on the machine. With --cpu it is a model of 89 thousand random weights for two steps.
set -euo pipefail
if [[ ${1:-} == --cpu ]]; then
    shift
    export VERL_PLATFORM=cpu TORCH_COMPILE_DISABLE=1
    export VERL_USE_EXTERNAL_MODULES=gym_adapters.verl.testing.registration
    python -m gym_adapters.verl.testing outputs/verl_tiny_model
    machine=(
        "hydra.searchpath=[pkg://gym_adapters.verl.testing]" +kit=cpu
        actor_rollout_ref.model.path=outputs/verl_tiny_model
        data.train_batch_size=2 actor_rollout_ref.rollout.n=2
        data.max_response_length=256
        actor_rollout_ref.actor.ppo_mini_batch_size=2
        actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4
        actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=4
        trainer.total_training_steps=2
    )
else
    machine=(
        actor_rollout_ref.model.path=Qwen/Qwen3-0.6B
        actor_rollout_ref.rollout.name=vllm
        actor_rollout_ref.rollout.tensor_model_parallel_size=1
        actor_rollout_ref.rollout.gpu_memory_utilization=0.5
        data.train_batch_size=32 actor_rollout_ref.rollout.n=8
        data.max_response_length=2048
        actor_rollout_ref.actor.ppo_mini_batch_size=32
        actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8
        actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=8
        actor_rollout_ref.actor.optim.lr=1e-6
        "trainer.n_gpus_per_node=${GPUS:-1}"
    )
fi
