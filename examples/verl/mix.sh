# Two environments in one run, each with metrics of its own: bash examples/verl/mix.sh [--cpu] [more of verl's overrides]
source "$(dirname "$0")/machine.sh"
envs=(examples.meetings:Calendar examples.guess_number:GuessNumber)
data=outputs/verl_mix

python -m gym_adapters.verl data "${envs[@]}" --train 24 --val 8 --out "$data"
python -m verl.trainer.main_ppo \
    $(python -m gym_adapters.verl overrides "${envs[@]}" --data "$data") \
    "${machine[@]}" \
    data.max_prompt_length=1024 \
    trainer.experiment_name=mix \
    "$@"
