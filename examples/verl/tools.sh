# A calendar that is filled in by tools: bash examples/verl/tools.sh [--cpu] [more of verl's overrides]
source "$(dirname "$0")/machine.sh"
env=examples.meetings:Calendar
data=outputs/verl_tools

python -m gym_adapters.verl data "$env" --train 24 --val 8 --out "$data"
python -m verl.trainer.main_ppo \
    $(python -m gym_adapters.verl overrides "$env" --data "$data") \
    "${machine[@]}" \
    data.max_prompt_length=1024 \
    trainer.experiment_name=tools \
    "$@"
