"""The words of the actor world's captions, in pools that no two splits share.

Verbs in braces are conjugated, ``$their`` is the actor's pronoun. A phrase says no more than its
state or action makes true: which hand waves, or how often, is drawn by the motion seed.
"""

from flowact.data.splits import Pool

Phrases = dict[str, tuple[str, ...]]

_TRAIN: Phrases = {
    "speak": (
        "{speak}", "{talk}", "{talk} to the camera", "{speak} to the viewer", "{chat} with us",
        "{tell} us something", "{explain} something", "{say} a few sentences", "{address} us",
        "{talk} to whoever is watching", "{tell} a story", "{make} a point in words",
    ),
    "listen": (
        "{listen}", "{listen} with nods", "{nod} along", "{listen} closely", "{listen} in silence",
        "{hear} the other person out", "{follow} what is being said", "{take} in every word",
        "{pay} attention to the speaker", "{listen} to someone", "{nod} at what is being said",
        "{listen} with an occasional nod",
    ),
    "think": (
        "{think}", "{think} it over", "{think} hard", "{look} away in thought", "{ponder}",
        "{search} for an answer", "{consider} what to say next", "{reflect} quietly",
        "{ponder} a question", "{gaze} off in thought", "{weigh} $their words",
        "{try} to remember something",
    ),
    "idle": (
        "{wait}", "{wait} quietly", "{look} around", "{do} nothing in particular",
        "{look} about calmly", "{rest} without a word", "{pass} the time", "{stand} by quietly",
        "{relax} in silence", "{stay} calm", "{wait} for something to happen", "{say} nothing",
    ),
    "wave": (
        "{wave}", "{wave} at the camera", "{wave} hello", "{wave} a hand", "{wave} to the viewer",
        "{raise} a hand to wave", "{greet} us with a wave", "{give} a friendly wave",
        "{hold} up an open hand to wave", "{swing} a raised hand in greeting", "{wave} goodbye",
        "{lift} a hand beside $their head to wave",
    ),
    "point_left": (
        "{point} left", "{point} to $their left", "{point} a finger to $their left",
        "{point} out something to $their left", "{point} over to the left", "{point} leftward",
        "{stretch} out an arm to point left", "{direct} us to $their left",
        "{show} something on $their left", "{gesture} to $their left with a finger",
        "{aim} a finger to the left", "{lift} the left arm to point to that side",
    ),
    "shrug": (
        "{shrug}", "{shrug} $their shoulders", "{give} a shrug", "{reply} with a shrug",
        "{lift} $their shoulders in a shrug", "{spread} $their palms in a shrug",
        "{raise} both shoulders with open palms", "{shrug} with both hands open",
        "{turn} up both palms with a shrug", "{pull} up $their shoulders", "{shrug} it off",
        "{shrug} as if to say who knows",
    ),
    "clap": (
        "{clap}", "{clap} $their hands", "{applaud}", "{clap} both hands together",
        "{give} a round of applause", "{bring} $their hands together to clap",
        "{clap} in front of $their chest", "{put} $their hands together in applause",
        "{applaud} with both hands", "{clap} with pleasure", "{clap} happily",
        "{strike} $their palms together",
    ),
    "drink": (
        "{drink}", "{take} a sip", "{drink} from the cup", "{sip} from the cup", "{have} a drink",
        "{raise} the cup to $their lips", "{pick} up the cup to drink", "{lift} the cup for a sip",
        "{reach} for the cup to drink from it", "{take} the cup for a drink",
        "{bring} the cup to $their mouth", "{drink} out of $their cup",
    ),
    "thumbs_up": (
        "{give} a thumbs up", "{show} a thumbs up", "{hold} up a thumb", "{stick} up a thumb",
        "{put} a thumb up", "{approve} with a thumbs up", "{raise} a thumb", "{offer} a thumbs up",
        "{make} a thumbs-up sign", "{signal} with a thumb that all is well", "{flash} a thumbs up",
        "{lift} a thumb in approval",
    ),
    "fold_arms": (
        "{fold} $their arms", "{cross} $their arms", "{keep} $their arms folded",
        "{hold} $their arms crossed", "{fold} both arms before $their chest",
        "{cross} both arms on $their chest", "{lay} one forearm over the other",
        "{put} one arm over the other", "{close} $their arms over $their chest",
        "{tuck} $their hands into folded arms", "{rest} $their arms across $their chest",
        "{pose} with folded arms",
    ),
}  # fmt: skip

_VALIDATION: Phrases = {
    "speak": ("{speak} to the camera", "{talk} to us", "{say} something", "{tell} us a few things"),
    "listen": (
        "{listen} to the speaker", "{nod} to the speaker", "{listen} to every word",
        "{listen} with a nod",
    ),
    "think": (
        "{think} about an answer", "{look} off to think", "{ponder} what to say",
        "{think} quietly",
    ),
    "idle": ("{look} around quietly", "{wait} in silence", "{rest} calmly", "{do} nothing"),
    "wave": ("{wave} at us", "{raise} an open hand in greeting", "{give} a wave", "{wave} to us"),
    "point_left": (
        "{point} to the left", "{aim} a finger to $their left", "{show} us something to the left",
        "{point} to something on $their left",
    ),
    "shrug": (
        "{raise} $their shoulders in a shrug", "{shrug} with open palms", "{shrug} both shoulders",
        "{spread} both hands with a shrug",
    ),
    "clap": (
        "{applaud} happily", "{clap} $their hands together", "{give} some applause",
        "{bring} $their palms together to clap",
    ),
    "drink": (
        "{take} a drink", "{lift} the cup to $their mouth", "{sip} from $their cup",
        "{pick} up the cup for a sip",
    ),
    "thumbs_up": (
        "{give} us a thumbs up", "{hold} a thumb up", "{lift} a thumb", "{signal} a thumbs up",
    ),
    "fold_arms": (
        "{fold} both arms", "{cross} $their arms before $their chest", "{hold} $their arms folded",
        "{lay} one arm over the other",
    ),
}  # fmt: skip

_TEST: Phrases = {
    "speak": ("{speak} to us", "{talk} to the viewer", "{tell} us a story", "{say} some words"),
    "listen": (
        "{listen} quietly", "{nod} along to the speaker", "{pay} attention in silence",
        "{listen} to the other person",
    ),
    "think": (
        "{think} in silence", "{look} away to think", "{think} about what to say",
        "{search} for words",
    ),
    "idle": ("{look} around calmly", "{wait} without a word", "{rest} in silence", "{stay} quiet"),
    "wave": (
        "{wave} an open hand", "{hold} up a hand to wave", "{wave} at the viewer",
        "{wave} in greeting",
    ),
    "point_left": (
        "{point} a finger to the left", "{direct} us to the left", "{point} over to $their left",
        "{gesture} left with a finger",
    ),
    "shrug": (
        "{lift} both shoulders in a shrug", "{shrug} with both palms up",
        "{turn} up $their palms in a shrug", "{raise} $their shoulders with open hands",
    ),
    "clap": (
        "{clap} $their palms together", "{put} both hands together to clap", "{clap} in applause",
        "{applaud} with pleasure",
    ),
    "drink": (
        "{have} a sip", "{bring} the cup to $their lips", "{take} the cup to drink from it",
        "{drink} something from the cup",
    ),
    "thumbs_up": (
        "{show} us a thumbs up", "{stick} a thumb up", "{raise} a thumb in approval",
        "{make} the thumbs-up sign",
    ),
    "fold_arms": (
        "{cross} both arms", "{fold} $their arms on $their chest", "{keep} both arms crossed",
        "{put} one forearm over the other",
    ),
}  # fmt: skip


def _with_other_side(phrases: Phrases) -> Phrases:
    mirrored = tuple(phrase.replace("left", "right") for phrase in phrases["point_left"])
    return {**phrases, "point_right": mirrored}


PHRASES: dict[Pool, Phrases] = {
    "train": _with_other_side(_TRAIN),
    "validation": _with_other_side(_VALIDATION),
    "test": _with_other_side(_TEST),
}
"""Of every state and action, by pool: what the actor does."""

SENTENCES: dict[Pool, tuple[str, ...]] = {
    "train": (
        "{They} {state} and {action}.",
        "{They} {state} while {action_ing}.",
        "{They} {action} and {state}.",
        "{They} {action} while {state_ing}.",
        "{Action_ing}, {they} {state}.",
        "{State_ing}, {they} {action}.",
    ),
    "validation": (
        "While {state_ing}, {they} {action}.",
        "{They} {state}, and {they} {action} too.",
    ),
    "test": (
        "As {they} {state}, {they} {action}.",
        "{They} {action} as {they} {state}.",
    ),
}
"""How a state and an action are said together, by pool."""

GO_ON: dict[Pool, tuple[str, ...]] = {
    "train": ("{keep}", "{continue}", "{go} on"),
    "validation": ("{carry} on",),
    "test": ("{keep} on",),
}
"""Before the gerund of a state that the last interval had too."""

LEAVE: dict[Pool, tuple[str, ...]] = {
    "train": ("{stop}", "{finish}", "{leave} off"),
    "validation": ("{quit}",),
    "test": ("{break} off",),
}
"""Before what the last interval had and this one has not."""

ACTIVITIES: dict[str, str] = {
    "speak": "talking",
    "listen": "listening",
    "think": "thinking",
    "idle": "waiting",
    "wave": "waving",
    "point_left": "pointing",
    "point_right": "pointing",
    "shrug": "shrugging",
    "clap": "clapping",
    "drink": "drinking",
    "thumbs_up": "giving a thumbs up",
    "fold_arms": "folding $their arms",
}

APPEARANCES: dict[Pool, tuple[str, ...]] = {
    "train": (
        "{A_person} with {features} in {clothes}, before {scene}, as {style}.",
        "{Style} of {a_person} who has {features} and wears {clothes}. Background: {scene}.",
        "In front of {scene}: {a_person} with {features}, wearing {clothes}; {style}.",
        "{A_person}, {features}, dressed in {clothes}. {Style}, with {scene} behind.",
    ),
    "validation": (
        "{Style}: {a_person} in {clothes} with {features}, and {scene} in the background.",
        "{A_person} wears {clothes} and has {features}; behind is {scene}; {style}.",
    ),
    "test": (
        "We see {a_person} with {features}, dressed in {clothes}, and {scene} behind; {style}.",
        "{A_person} in {clothes}, with {features}, in front of {scene}. {Style}.",
    ),
}
"""How an actor and the scene are described, by pool."""
