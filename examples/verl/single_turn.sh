# Questions of reasoning-gym, one reply each: bash examples/verl/single_turn.sh [--cpu] [more of verl's overrides]
source "$(dirname "$0")/machine.sh"
env=examples.verl.environments:chain_sum
data=outputs/verl_single_turn

python -m gym_adapters.verl data "$env" --train 900 --val 100 --out "$data"
python -m verl.trainer.main_ppo \
    $(python -m gym_adapters.verl overrides "$env" --data "$data") \
    "${machine[@]}" \
    data.max_prompt_length=1024 \
    trainer.experiment_name=single_turn \
    "$@"
