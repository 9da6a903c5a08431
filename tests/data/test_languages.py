"""Languages: told where there are enough letters, and counted as untold where not."""

from turnsmith.data.languages import SHORT, languages

TEXTS = {
    "en": "The weather is nice today, and we are going to the park together.",
    "de": "Das Wetter ist heute schön, und wir gehen zusammen in den Park.",
    "zh": "今天天气很好我们一起去公园散步然后回家吃晚饭大家都很高兴",
}


def test_languages_are_told_and_short_texts_are_not():
    counted = languages([*TEXTS.values(), TEXTS["de"], "Hi", "", "  ok \n" + " " * 50])
    assert counted == {"en": 1, "de": 2, "zh": 1, SHORT: 3}


def test_of_a_long_text_the_beginning_is_looked_at():
    assert languages([TEXTS["de"] * 10 + TEXTS["en"] * 100_000]) == {"de": 1}
