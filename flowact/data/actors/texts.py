"""Things to say, in several languages: set phrases, and templates that numbers and words fill."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Phrasebook:
    """Sentences of one language.

    Attributes:
        phrases: said as they are.
        templates: with slots {thing}, {place}, {time} and {number}.
        things, places, times: what fills the slots, in the case that the templates ask for.
    """

    phrases: tuple[str, ...]
    templates: tuple[str, ...]
    things: tuple[str, ...]
    places: tuple[str, ...]
    times: tuple[str, ...]


def sentences(language: str, rng: np.random.Generator) -> Iterator[str]:
    """Sentences without end in a language of ``PHRASEBOOKS``, drawn from ``rng``."""
    book = PHRASEBOOKS[language]
    slots = {"thing": book.things, "place": book.places, "time": book.times}

    def fill(slot: re.Match[str]) -> str:
        if slot[1] == "number":
            return str(rng.integers(2, rng.choice([13, 100, 1000])))
        return str(rng.choice(slots[slot[1]]))

    while True:
        if rng.random() < 0.3:
            yield str(rng.choice(book.phrases))
        else:
            text = re.sub(r"\{(\w+)\}", fill, str(rng.choice(book.templates)))
            yield text[0].upper() + text[1:]


PHRASEBOOKS = {
    "English": Phrasebook(
        phrases=(
            "Hello, how are you?",
            "Good morning, everyone!",
            "Oh, that sounds wonderful.",
            "Well, maybe you are right.",
            "Thank you very much for coming.",
            "Let me show you how it works.",
            "Please follow me, and mind the step.",
            "I have never thought about it that way.",
        ),
        templates=(
            "{time} I bought {thing}, and I paid {number} pounds for it.",
            "Have you ever seen {thing} {place}?",
            "We will meet {place} {time}, before it rains.",
            "There are about {number} people {place}.",
            "My brother wants {thing}, but my mother prefers {thing}.",
            "Put {thing} on the table, please, and bring me {thing}.",
            "{time}, bus number {number} was late again.",
            "Somebody left {thing} {place}, who could it be?",
        ),
        things=(
            "a big blue umbrella",
            "a cup of mint tea",
            "a very old map",
            "five fresh apples",
            "a pair of warm boots",
            "the smallest violin",
            "some bread and butter",
            "a beautiful wooden chair",
        ),
        places=(
            "near the river",
            "at the bus station",
            "behind the museum",
            "in the village shop",
            "on the top floor",
            "by the open window",
        ),
        times=(
            "this morning",
            "on Wednesday",
            "after breakfast",
            "last summer",
            "every evening",
            "in a few minutes",
        ),
    ),
    "German": Phrasebook(
        phrases=(
            "Guten Tag, wie geht es Ihnen?",
            "Das ist ja eine schöne Überraschung!",
            "Vielen Dank für Ihre Hilfe.",
            "Einen Moment bitte, ich komme gleich.",
            "Vielleicht haben Sie recht.",
            "Machen Sie es sich bequem.",
        ),
        templates=(
            "{time} habe ich {thing} gekauft, für {number} Euro.",
            "Haben Sie {thing} {place} gesehen?",
            "Wir treffen uns {time} {place}.",
            "Ungefähr {number} Leute warten {place}.",
            "Mein Bruder möchte {thing}, aber meine Mutter braucht {thing}.",
            "Ich brauche {thing}, und zwar möglichst bald.",
        ),
        things=(
            "einen grünen Regenschirm",
            "eine Tasse Pfefferminztee",
            "fünf frische Äpfel",
            "ein Paar warme Stiefel",
            "das kleine Wörterbuch",
            "ein bisschen Brot und Butter",
        ),
        places=("am Fluss", "vor dem Bahnhof", "hinter dem Museum", "im Park", "auf dem Markt"),
        times=("heute Morgen", "am Mittwoch", "nach dem Frühstück", "jeden Abend", "um acht Uhr"),
    ),
    "French": Phrasebook(
        phrases=(
            "Bonjour, comment allez-vous ?",
            "Quelle bonne surprise !",
            "Merci beaucoup pour votre aide.",
            "Un instant, s'il vous plaît, j'arrive.",
            "Vous avez peut-être raison.",
            "Je n'en crois pas mes yeux.",
        ),
        templates=(
            "{time}, j'ai acheté {thing} pour {number} euros.",
            "Avez-vous vu {thing} {place} ?",
            "On se retrouve {place} {time}.",
            "Il y a environ {number} personnes {place}.",
            "Mon frère veut {thing}, mais ma mère préfère {thing}.",
            "Donnez-moi {thing}, je vous en prie.",
        ),
        things=(
            "un grand parapluie bleu",
            "une tasse de thé à la menthe",
            "une vieille carte",
            "cinq pommes bien fraîches",
            "un peu de pain et de beurre",
            "une paire de bottes",
        ),
        places=(
            "près du fleuve",
            "devant la gare",
            "derrière le musée",
            "au marché",
            "dans le jardin",
        ),
        times=("ce matin", "mercredi", "après le déjeuner", "l'été dernier", "tous les soirs"),
    ),
    "Spanish": Phrasebook(
        phrases=(
            "Hola, ¿cómo está usted?",
            "¡Qué sorpresa tan bonita!",
            "Muchas gracias por su ayuda.",
            "Un momento, por favor, ya voy.",
            "Puede que tenga usted razón.",
            "Nunca lo había pensado así.",
        ),
        templates=(
            "{time} compré {thing} por {number} euros.",
            "¿Ha visto usted {thing} {place}?",
            "Nos vemos {place} {time}.",
            "Hay unas {number} personas {place}.",
            "Mi hermano quiere {thing}, pero mi madre prefiere {thing}.",
            "Déme {thing}, por favor, y también {thing}.",
        ),
        things=(
            "un paraguas verde",
            "una taza de té",
            "un mapa muy viejo",
            "cinco manzanas frescas",
            "un poco de pan y queso",
            "la guitarra pequeña",
        ),
        places=(
            "cerca del río",
            "en la estación",
            "detrás del museo",
            "en el mercado",
            "bajo el puente",
        ),
        times=("esta mañana", "el miércoles", "después de comer", "cada noche", "a las ocho"),
    ),
    "Italian": Phrasebook(
        phrases=(
            "Buongiorno, come sta?",
            "Che bella sorpresa!",
            "Grazie mille per il suo aiuto.",
            "Un momento, per favore, arrivo subito.",
            "Forse ha ragione lei.",
            "Non ci avevo mai pensato.",
        ),
        templates=(
            "{time} ho comprato {thing} per {number} euro.",
            "Ha visto {thing} {place}?",
            "Ci vediamo {place} {time}.",
            "Ci sono circa {number} persone {place}.",
            "Mio fratello vuole {thing}, ma mia madre preferisce {thing}.",
            "Mi dia {thing}, per piacere.",
        ),
        things=(
            "un grande ombrello blu",
            "una tazza di tè",
            "una vecchia mappa",
            "cinque mele fresche",
            "un po' di pane e burro",
            "gli stivali nuovi",
        ),
        places=("vicino al fiume", "alla stazione", "dietro il museo", "al mercato", "in giardino"),
        times=("stamattina", "mercoledì", "dopo pranzo", "ogni sera", "fra pochi minuti"),
    ),
    "Portuguese": Phrasebook(
        phrases=(
            "Bom dia, como vai você?",
            "Que bela surpresa!",
            "Muito obrigado pela sua ajuda.",
            "Um momento, por favor, já vou.",
            "Talvez você tenha razão.",
            "Nunca tinha pensado nisso.",
        ),
        templates=(
            "{time} comprei {thing} por {number} reais.",
            "Você viu {thing} {place}?",
            "Vamos nos encontrar {place} {time}.",
            "Há umas {number} pessoas {place}.",
            "Meu irmão quer {thing}, mas minha mãe prefere {thing}.",
            "Me dê {thing}, por favor.",
        ),
        things=(
            "um guarda-chuva verde",
            "uma xícara de chá",
            "um mapa muito velho",
            "cinco maçãs frescas",
            "um pouco de pão com manteiga",
            "o violão pequeno",
        ),
        places=("perto do rio", "na estação", "atrás do museu", "no mercado", "no jardim"),
        times=("hoje de manhã", "na quarta-feira", "depois do almoço", "toda noite", "às oito"),
    ),
    "Dutch": Phrasebook(
        phrases=(
            "Goedemorgen, hoe gaat het met u?",
            "Wat een leuke verrassing!",
            "Hartelijk dank voor uw hulp.",
            "Een ogenblikje, ik kom eraan.",
            "Misschien hebt u gelijk.",
            "Daar had ik nog nooit aan gedacht.",
        ),
        templates=(
            "{time} heb ik {thing} gekocht voor {number} euro.",
            "Hebt u {thing} {place} gezien?",
            "We zien elkaar {time} {place}.",
            "Er staan ongeveer {number} mensen {place}.",
            "Mijn broer wil {thing}, maar mijn moeder heeft liever {thing}.",
            "Geef mij maar {thing}, alstublieft.",
        ),
        things=(
            "een blauwe paraplu",
            "een kopje muntthee",
            "een heel oude kaart",
            "vijf verse appels",
            "wat brood en boter",
            "de kleinste viool",
        ),
        places=(
            "bij de rivier",
            "op het station",
            "achter het museum",
            "in de tuin",
            "op de markt",
        ),
        times=("vanmorgen", "op woensdag", "na het ontbijt", "elke avond", "om acht uur"),
    ),
    "Chinese": Phrasebook(
        phrases=(
            "你好, 最近怎么样?",
            "早上好, 很高兴见到你.",
            "非常感谢你的帮助.",
            "请等一下, 我马上来.",
            "也许你说得对.",
            "这真是个好主意!",
        ),
        templates=(
            "{time}我买了{thing}, 花了{number}块钱.",
            "你在{place}看见{thing}了吗?",
            "我们{time}在{place}见面.",
            "{place}大概有{number}个人.",
            "我哥哥想要{thing}, 可是妈妈喜欢{thing}.",
        ),
        things=("一把蓝色的雨伞", "一杯绿茶", "一张旧地图", "五个新鲜的苹果", "一些面包", "一双鞋"),
        places=("河边", "火车站", "博物馆后面", "市场", "花园里"),
        times=("今天早上", "星期三", "吃饭以后", "每天晚上", "八点钟"),
    ),
    "Hindi": Phrasebook(
        phrases=(
            "नमस्ते, आप कैसे हैं?",
            "आपसे मिलकर बहुत खुशी हुई.",
            "आपकी मदद के लिए धन्यवाद.",
            "एक मिनट रुकिए, मैं अभी आता हूँ.",
            "शायद आप सही कह रहे हैं.",
        ),
        templates=(
            "{time} मैंने {thing} खरीदा, {number} रुपये में.",
            "क्या आपने {place} {thing} देखा?",
            "हम {time} {place} मिलेंगे.",
            "{place} लगभग {number} लोग हैं.",
            "मेरे भाई को {thing} चाहिए, और माँ को {thing}.",
        ),
        things=("नीला छाता", "एक कप चाय", "पुराना नक्शा", "ताज़ा फल", "थोड़ा मक्खन"),
        places=("नदी के पास", "स्टेशन पर", "बाज़ार में", "बगीचे में"),
        times=("आज सुबह", "बुधवार को", "खाने के बाद", "हर शाम"),
    ),
}
