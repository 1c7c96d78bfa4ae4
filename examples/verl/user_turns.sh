# A game in which the environment answers every guess: bash examples/verl/user_turns.sh [--cpu] [more of verl's overrides]
source "$(dirname "$0")/machine.sh"
env=examples.guess_number:GuessNumber
data=outputs/verl_user_turns

python -m gym_adapters.verl data "$env" --train 24 --val 8 --out "$data"
python -m verl.trainer.main_ppo \
    $(python -m gym_adapters.verl overrides "$env" --data "$data") \
    "${machine[@]}" \
    data.max_prompt_length=1024 \
    trainer.experiment_name=user_turns \
    "$@"
