#include "text/language.h"

#include "text/cld2.h"
#include "text/utf8.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define LONGEST_NAME 32
#define DETECT_BYTES 65536

/* clang-format off */
static const struct language table[] = {
    {"aa", "aar", "Afar"}, {"ab", "abk", "Abkhazian"}, {"af", "afr", "Afrikaans"},
    {"ak", "aka", "Akan"}, {"am", "amh", "Amharic"}, {"an", "arg", "Aragonese"},
    {"ar", "ara", "Arabic"}, {"as", "asm", "Assamese"}, {"av", "ava", "Avaric"},
    {"ay", "aym", "Aymara"}, {"az", "aze", "Azerbaijani"}, {"ba", "bak", "Bashkir"},
    {"be", "bel", "Belarusian"}, {"bg", "bul", "Bulgarian"}, {"bi", "bis", "Bislama"},
    {"bm", "bam", "Bambara"}, {"bn", "ben", "Bengali"}, {"bo", "bod", "Tibetan"},
    {"br", "bre", "Breton"}, {"bs", "bos", "Bosnian"}, {"ca", "cat", "Catalan"},
    {"ce", "che", "Chechen"}, {"ceb", "ceb", "Cebuano"}, {"ch", "cha", "Chamorro"},
    {"co", "cos", "Corsican"}, {"cs", "ces", "Czech"}, {"cv", "chv", "Chuvash"},
    {"cy", "cym", "Welsh"}, {"da", "dan", "Danish"}, {"de", "deu", "German"},
    {"dv", "div", "Divehi"}, {"dz", "dzo", "Dzongkha"}, {"ee", "ewe", "Ewe"},
    {"el", "ell", "Greek"}, {"en", "eng", "English"}, {"eo", "epo", "Esperanto"},
    {"es", "spa", "Spanish"}, {"et", "est", "Estonian"}, {"eu", "eus", "Basque"},
    {"fa", "fas", "Persian"}, {"ff", "ful", "Fulah"}, {"fi", "fin", "Finnish"},
    {"fj", "fij", "Fijian"}, {"fo", "fao", "Faroese"}, {"fr", "fra", "French"},
    {"fy", "fry", "Western Frisian"}, {"ga", "gle", "Irish"}, {"gd", "gla", "Scottish Gaelic"},
    {"gl", "glg", "Galician"}, {"gn", "grn", "Guarani"}, {"gu", "guj", "Gujarati"},
    {"gv", "glv", "Manx"}, {"ha", "hau", "Hausa"}, {"haw", "haw", "Hawaiian"},
    {"he", "heb", "Hebrew"}, {"hi", "hin", "Hindi"}, {"hr", "hrv", "Croatian"},
    {"ht", "hat", "Haitian Creole"}, {"hu", "hun", "Hungarian"}, {"hy", "hye", "Armenian"},
    {"ia", "ina", "Interlingua"}, {"id", "ind", "Indonesian"}, {"ie", "ile", "Interlingue"},
    {"ig", "ibo", "Igbo"}, {"io", "ido", "Ido"}, {"is", "isl", "Icelandic"},
    {"it", "ita", "Italian"}, {"iu", "iku", "Inuktitut"}, {"ja", "jpn", "Japanese"},
    {"jv", "jav", "Javanese"}, {"ka", "kat", "Georgian"}, {"ki", "kik", "Kikuyu"},
    {"kk", "kaz", "Kazakh"}, {"kl", "kal", "Kalaallisut"}, {"km", "khm", "Khmer"},
    {"kn", "kan", "Kannada"}, {"ko", "kor", "Korean"}, {"ks", "kas", "Kashmiri"},
    {"ku", "kur", "Kurdish"}, {"kv", "kom", "Komi"}, {"kw", "cor", "Cornish"},
    {"ky", "kir", "Kyrgyz"}, {"la", "lat", "Latin"}, {"lb", "ltz", "Luxembourgish"},
    {"lg", "lug", "Ganda"}, {"li", "lim", "Limburgish"}, {"ln", "lin", "Lingala"},
    {"lo", "lao", "Lao"}, {"lt", "lit", "Lithuanian"}, {"lv", "lav", "Latvian"},
    {"mg", "mlg", "Malagasy"}, {"mi", "mri", "Maori"}, {"mk", "mkd", "Macedonian"},
    {"ml", "mal", "Malayalam"}, {"mn", "mon", "Mongolian"}, {"mr", "mar", "Marathi"},
    {"ms", "msa", "Malay"}, {"mt", "mlt", "Maltese"}, {"my", "mya", "Burmese"},
    {"nb", "nob", "Norwegian Bokmål"}, {"ne", "nep", "Nepali"}, {"nl", "nld", "Dutch"},
    {"nn", "nno", "Norwegian Nynorsk"}, {"no", "nor", "Norwegian"}, {"ny", "nya", "Nyanja"},
    {"oc", "oci", "Occitan"}, {"om", "orm", "Oromo"}, {"or", "ori", "Odia"},
    {"os", "oss", "Ossetian"}, {"pa", "pan", "Punjabi"}, {"pl", "pol", "Polish"},
    {"ps", "pus", "Pashto"}, {"pt", "por", "Portuguese"}, {"qu", "que", "Quechua"},
    {"rm", "roh", "Romansh"}, {"rn", "run", "Rundi"}, {"ro", "ron", "Romanian"},
    {"ru", "rus", "Russian"}, {"rw", "kin", "Kinyarwanda"}, {"sa", "san", "Sanskrit"},
    {"sc", "srd", "Sardinian"}, {"sd", "snd", "Sindhi"}, {"se", "sme", "Northern Sami"},
    {"sg", "sag", "Sango"}, {"si", "sin", "Sinhala"}, {"sk", "slk", "Slovak"},
    {"sl", "slv", "Slovenian"}, {"sm", "smo", "Samoan"}, {"sn", "sna", "Shona"},
    {"so", "som", "Somali"}, {"sq", "sqi", "Albanian"}, {"sr", "srp", "Serbian"},
    {"ss", "ssw", "Swati"}, {"st", "sot", "Southern Sotho"}, {"su", "sun", "Sundanese"},
    {"sv", "swe", "Swedish"}, {"sw", "swa", "Swahili"}, {"ta", "tam", "Tamil"},
    {"te", "tel", "Telugu"}, {"tg", "tgk", "Tajik"}, {"th", "tha", "Thai"},
    {"ti", "tir", "Tigrinya"}, {"tk", "tuk", "Turkmen"}, {"tl", "tgl", "Tagalog"},
    {"tn", "tsn", "Tswana"}, {"to", "ton", "Tongan"}, {"tr", "tur", "Turkish"},
    {"ts", "tso", "Tsonga"}, {"tt", "tat", "Tatar"}, {"tw", "twi", "Twi"},
    {"ug", "uig", "Uyghur"}, {"uk", "ukr", "Ukrainian"}, {"ur", "urd", "Urdu"},
    {"uz", "uzb", "Uzbek"}, {"ve", "ven", "Venda"}, {"vi", "vie", "Vietnamese"},
    {"vo", "vol", "Volapük"}, {"wa", "wln", "Walloon"}, {"wo", "wol", "Wolof"},
    {"xh", "xho", "Xhosa"}, {"yi", "yid", "Yiddish"}, {"yo", "yor", "Yoruba"},
    {"yue", "yue", "Cantonese"}, {"za", "zha", "Zhuang"}, {"zh", "zho", "Chinese"},
    {"zu", "zul", "Zulu"},
};
/* clang-format on */

#define N_LANGUAGES (sizeof(table) / sizeof(table[0]))

/* Codes and names that people and libraries still use. */
static const struct {
    const char *alias, *code;
} aliases[] = {
    {"iw", "he"},       {"in", "id"},      {"ji", "yi"},        {"jw", "jv"},
    {"mo", "ro"},       {"fil", "tl"},     {"cmn", "zh"},       {"ger", "de"},
    {"fre", "fr"},      {"dut", "nl"},     {"chi", "zh"},       {"cze", "cs"},
    {"gre", "el"},      {"per", "fa"},     {"rum", "ro"},       {"slo", "sk"},
    {"alb", "sq"},      {"arm", "hy"},     {"baq", "eu"},       {"bur", "my"},
    {"geo", "ka"},      {"ice", "is"},     {"mac", "mk"},       {"mao", "mi"},
    {"may", "ms"},      {"tib", "bo"},     {"wel", "cy"},       {"castilian", "es"},
    {"flemish", "nl"},  {"farsi", "fa"},   {"mandarin", "zh"},  {"moldavian", "ro"},
    {"panjabi", "pa"},  {"pushto", "ps"},  {"sinhalese", "si"}, {"valencian", "ca"},
    {"filipino", "tl"}, {"haitian", "ht"}, {"myanmar", "my"},   {"letzeburgesch", "lb"},
};

const struct language *language_table(size_t *n)
{
    *n = N_LANGUAGES;
    return table;
}

static const struct language *find_exactly(const char *text)
{
    for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++)
        if (strcasecmp(text, aliases[i].alias) == 0)
            text = aliases[i].code;
    for (size_t i = 0; i < N_LANGUAGES; i++)
        if (strcasecmp(text, table[i].code) == 0 || strcasecmp(text, table[i].code3) == 0 ||
            strcasecmp(text, table[i].name) == 0)
            return &table[i];
    return NULL;
}

const struct language *language_find(const char *text)
{
    char head[LONGEST_NAME + 1];
    const struct language *language;
    size_t size;

    if (!text)
        return NULL;
    language = find_exactly(text);
    size = strcspn(text, "-_");
    if (language || size > LONGEST_NAME || !text[size])
        return language;
    memcpy(head, text, size);
    head[size] = '\0';
    return find_exactly(head);
}

const char *language_code(const char *text)
{
    const struct language *language = language_find(text);

    return language ? language->code : NULL;
}

const char *language_name(const char *text)
{
    const struct language *language = language_find(text);

    return language ? language->name : NULL;
}

/* The most likely guess that is a candidate. */
static bool pick(const struct cld2_guess *guesses, size_t n, const char *const *candidates,
                 const char **code, float *confidence)
{
    for (size_t i = 0; i < n; i++) {
        const char *guess = language_code(guesses[i].code);
        bool wanted = guess && !candidates;

        for (size_t j = 0; guess && candidates && candidates[j]; j++)
            wanted = wanted || strcmp(candidates[j], guess) == 0;
        if (wanted) {
            *code = guess;
            *confidence = guesses[i].share * (guesses[i].reliable ? 1.0f : 0.5f);
            return true;
        }
    }
    return false;
}

void language_detect(const char *text, size_t size, const char *const *candidates,
                     const char **code, float *confidence)
{
    struct cld2_guess guesses[CLD2_GUESSES];
    size_t n;

    *code = "";
    *confidence = 0;
    if (size > DETECT_BYTES)
        size = DETECT_BYTES;
    size = utf8_valid_prefix(text, size);
    n = cld2_detect(text, size, NULL, guesses);
    if (pick(guesses, n, candidates, code, confidence) || !candidates)
        return;
    for (size_t i = 0; candidates[i]; i++) { /* none of them at first sight: lean to each */
        const char *guess = "";
        float share = 0;

        n = cld2_detect(text, size, candidates[i], guesses);
        if (pick(guesses, n, candidates, &guess, &share) && share > *confidence) {
            *code = guess;
            *confidence = share;
        }
    }
}
