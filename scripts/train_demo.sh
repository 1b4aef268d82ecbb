#!/usr/bin/env bash
# Trains the demo from nothing, and measures it: a world of actors, the autoencoder, the text
# encoder, the audio adapter's hearing, stages 1 and 2, and the three of distillation.
#
#   bash scripts/train_demo.sh output=outputs/demo minutes=180 [clips=800] [launch=cpu2] [autoencoder=DIR]
#   bash scripts/train_demo.sh output=outputs/demo minutes=60 weights=flowact/assets/demo
#
# minutes  of training, on this machine; the world, its encoding, previews and scores come on top.
#          Each stage is timed on a few steps first, and then has as many as fit its share, but for
#          that of hearing, which always has 2,400; 0 gives two steps to each, to see that all of it
#          works.
# clips    of 10 seconds, each of an actor of its own, in the world that the stages 1 and 2 see.
# launch   a file of configs/accelerate; without it gpu1 where there is a GPU, else cpu2. On GPUs the
#          backbone's batches are of 64 instead of 16 samples, and other cores load the data.
# autoencoder   a folder of a trained one, such as flowact/assets/demo/vae, instead of training it.
# weights  a folder of a trained demo to go on from: it makes new memory for itself, and stage 2 goes
#          on with that.
# data     folders that scripts/preprocess.py wrote, DIR,DIR, instead of a world that is made; memory
#          that was generated in them before is made anew.
# scored   actors that the scores at the end are over, of `seconds` each.
#
# Stopped at any point, by Ctrl-C or SIGTERM, what trains saves first, and the same command goes on
# from there. OUTPUT/stage2.weights is the teacher and OUTPUT/stage3c.weights the model of one call a
# tick; OUTPUT/scores.json and scores-teacher.json say how good they are.
set -euo pipefail
here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."

declare -A word=(
    [output]= [minutes]= [clips]=800 [launch]= [autoencoder]= [weights]= [data]= [scored]=20 [seconds]=20
)
for given in "$@"; do
    name=${given%%=*}
    if [[ $given != *=* || ! -v word[$name] ]]; then
        echo "error: $given is none of ${!word[*]}, each as name=value" >&2
        exit 2
    fi
    word[$name]=${given#*=}
done
if [[ -z ${word[output]} || ! ${word[minutes]} =~ ^[0-9]+$ ]]; then
    echo "error: give output=DIR and minutes=N: bash scripts/train_demo.sh output=outputs/demo minutes=180" >&2
    exit 2
fi
there() { (cd "$here" && realpath --canonicalize-missing "$1"); } # a path of the user's
output=$(there "${word[output]}")
# Of what is trained: the shares of all stages that are not begun with.
whole=100
[[ -z ${word[autoencoder]} ]] || whole=63
[[ -z ${word[weights]} ]] || whole=34
gpu=$(python -c "import torch; print(int(torch.cuda.is_available()))")
launch=${word[launch]:-$([[ $gpu == 1 ]] && echo gpu1 || echo cpu2)}
loading=() batches=() # of GPUs, which two cores' settings would leave waiting
if [[ $launch != cpu* ]]; then
    processes=$(sed -n 's/^num_processes: //p' "configs/accelerate/$launch.yaml")
    loading=("workers=$(($(nproc) / processes < 8 ? $(nproc) / processes : 8))")
    batches=(global_batch=64 "micro_batch=$((64 / processes))")
fi
note="it has seen drawn actors alone: of anybody else expect a patched face and the looks of an actor"
[[ -z ${word[data]} ]] || note="it was trained on ${word[data]} and has seen nobody else"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
mkdir -p "$output"

running= stopped=no
stop() {
    [[ -n $running ]] || exit 143
    stopped=yes
    kill -TERM "$running"
}
trap stop INT TERM

launched() { # launched SCRIPT WORDS...: on all processes, which are told of a signal and waited for
    scripts/launch.sh --config_file "configs/accelerate/$launch.yaml" "scripts/$@" &
    running=$!
    while kill -0 "$running" 2>/dev/null; do wait "$running" || true; done
    wait "$running"
    running=
    [[ $stopped == no ]] || exit 143 # what was stopped has saved, and ends well
}

train() { # train NAME EXPERIMENT SHARE WORDS...: in SHARE of the minutes' whole, then exported
    local stage=$1 experiment=$2 share=$3 steps warmup alone=() sized=("${loading[@]}")
    shift 3
    [[ $experiment =~ ^(vae|text|speech)$ ]] || sized+=("${batches[@]}")
    [[ ! -d $output/$stage.weights ]] || return 0
    if [[ ! -e $output/$stage.steps && ${word[minutes]} == 0 ]]; then
        echo 2 >"$output/$stage.steps"
    elif [[ ! -e $output/$stage.steps ]]; then
        rm -rf "$output/pilot"
        [[ $experiment != dmd ]] || alone=(dmd.alone=0)
        launched train.py "experiment=$experiment" "output=$output/pilot" steps=12 "${sized[@]}" "$@" \
            "${alone[@]}" optimiser.decay_steps=1000000 log.every=4 log.preview_every=null
        python - "$output/pilot/log.jsonl" "$((60 * share * word[minutes] / whole))" >"$output/steps.aside" <<'PYTHON'
import json, sys

line = json.loads(open(sys.argv[1]).readlines()[-1])
per_second = line["samples_per_second"] * line["step"] / line["samples"]
print(max(2, round(per_second * float(sys.argv[2]))))
PYTHON
        mv "$output/steps.aside" "$output/$stage.steps"
        rm -rf "$output/pilot"
    fi
    steps=$(<"$output/$stage.steps")
    warmup=$((steps < 1000 ? steps / 10 : 100))
    [[ $experiment != dmd ]] || alone=("dmd.alone=$((steps / 10))")
    echo "$stage: $steps steps"
    launched train.py "experiment=$experiment" "output=$output/$stage" "steps=$steps" "${sized[@]}" "$@" \
        "${alone[@]}" "optimiser.decay_steps=$steps" "optimiser.warmup_steps=$warmup"
    rm -rf "$output/aside"
    python scripts/export.py "run=$output/$stage" "step=$steps" "output=$output/aside" "note=$note"
    mv "$output/aside" "$output/$stage.weights"
}

generate() { # generate WEIGHTS WORDS...: what training remembers, anew, by the model of WEIGHTS
    local made=$output/generated.$1
    [[ ! -e $made ]] || return 0
    if [[ ! -e $made.begun ]]; then
        for folder in "${folders[@]}"; do rm -rf "$folder"/generated-*; done
        touch "$made.begun"
    fi
    launched make_generated_latents.py "weights=$output/$1.weights" "$data" "${@:2}"
    mv "$made.begun" "$made"
}

take_autoencoder() { # take_autoencoder DIR: stage 0 is the one in DIR
    [[ ! -d $output/stage0.weights ]] || return 0
    rm -rf "$output/aside"
    python - "$1" "$output/aside" <<'PYTHON'
import sys

from diffusers import AutoencoderKLWan

from flowact.config import load_preset
from flowact.models.vae import wrap_autoencoder
from flowact.pipeline import FlowActPipeline

pipeline = FlowActPipeline.untrained(load_preset("demo"))
pipeline.autoencoder = wrap_autoencoder(AutoencoderKLWan.from_pretrained(sys.argv[1]))
pipeline.save_pretrained(sys.argv[2])
PYTHON
    mv "$output/aside" "$output/stage0.weights"
}

take_demo() { # take_demo DIR: stage 2a is the demo in DIR, without what distillation has added
    [[ ! -d $output/stage2a.weights ]] || return 0
    rm -rf "$output/aside"
    python - "$1" "$output/aside" <<'PYTHON'
import sys

from flowact.pipeline import FlowActPipeline
from flowact.training.window_start import undistilled

undistilled(FlowActPipeline.from_pretrained(sys.argv[1])).save_pretrained(sys.argv[2])
PYTHON
    mv "$output/aside" "$output/stage2a.weights"
}

folders=() # of data
data=      # the same as a word of training
make_data() { # make_data STAGE: the world as the autoencoder of STAGE sees it
    # Voices of both synthesisers, where there are both: each has what the other's lack.
    local best given i voice voices=(formant)
    if [[ -n ${word[data]} ]]; then
        for given in ${word[data]//,/ }; do folders+=("$(there "$given")"); done
    else
        best=$(python -c "from flowact.data.actors.speech import best_synthesiser; print(best_synthesiser())")
        [[ $best == formant ]] || voices+=("$best")
        for i in "${!voices[@]}"; do
            voice=${voices[i]}
            python scripts/make_actors.py "output=$output/world-$voice" seconds=10 augment_speech=true \
                "clips=$((word[clips] / ${#voices[@]}))" "seed=$((100000 * i))" "synthesiser=$voice"
            launched preprocess.py "input=$output/world-$voice" "output=$output/data-$voice" \
                "weights=$output/$1.weights" shots=false
            folders+=("$output/data-$voice")
        done
    fi
    data="folders=[$(IFS=,; echo "${folders[*]}")]"
}

if [[ -n ${word[weights]} ]]; then
    take_demo "$(there "${word[weights]}")"
elif [[ -n ${word[autoencoder]} ]]; then
    take_autoencoder "$(there "${word[autoencoder]}")"
else
    # Single frames teach most of it, at half the price of clips; crops teach it mouths and hands in
    # motion.
    train stills vae 13 vae.images=1000000000
    train crops vae 15 vae.images=0 vae.crop=64 "weights=$output/stills.weights"
    train stage0 vae 9 vae.images=0 "weights=$output/crops.weights"
fi

score() { # score NAME WEIGHTS WORDS...
    [[ -e $output/$1.json ]] || launched evaluate.py "weights=$output/$2.weights" suite=actors \
        "clips=${word[scored]}" "seconds=${word[seconds]}" "output=$output/$1.json" "${@:3}"
}

gently=() # what has been trained is disturbed by the rate that it was trained with
if [[ -n ${word[weights]} ]]; then
    make_data stage2a
    gently=(optimiser.lr=1.0e-3)
else
    score ceiling stage0 "columns=[truth,round_trip]"
    train text text 3 "weights=$output/stage0.weights"
    # Its time goes into making utterances, once, so that a pilot would tell nothing: eight passes.
    [[ ${word[minutes]} == 0 || -e $output/speech.steps ]] || echo 2400 >"$output/speech.steps"
    train speech speech 3 "weights=$output/text.weights"
    make_data stage0

    # Each stage goes on with memory as the model before it makes it.
    train stage1a autoregressive 6 "weights=$output/speech.weights" "autoregressive.$data"
    generate stage1a
    train stage1 autoregressive 5 "weights=$output/stage1a.weights" "autoregressive.$data" \
        autoregressive.generated_memory=0.5
    train stage2a audio_motion 12 "weights=$output/stage1.weights" "audio_motion.$data" \
        audio_motion.generated_memory=0.5
fi
generate stage2a audio=true
train stage2 audio_motion 17 "weights=$output/stage2a.weights" "audio_motion.$data" \
    audio_motion.generated_memory=0.5 "${gently[@]}"

# Guidance, steps, and the distribution of what is streamed.
train stage3a guidance 5 "weights=$output/stage2.weights" "guidance_distillation.$data" \
    guidance_distillation.generated_memory=0.5
train stage3b steps 5 "weights=$output/stage3a.weights" "step_distillation.$data" \
    step_distillation.generated_memory=0.5
train stage3c dmd 7 "weights=$output/stage3b.weights" "dmd.teacher=$output/stage3a.weights" "dmd.$data"

score scores-teacher stage2 stream.micro_steps=4 stream.guidance=2
score scores stage3c "columns=[model]"
