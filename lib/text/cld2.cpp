#include "text/cld2.h"

// cld2 wants stdio before itself
#include <cstdio>

#include <cld2/public/compact_lang_det.h>
#include <cld2/public/encodings.h>

extern "C" size_t cld2_detect(const char *text, size_t size, const char *hint,
                              struct cld2_guess guesses[CLD2_GUESSES])
{
    CLD2::Language languages[CLD2_GUESSES] = {}; // cld2 leaves them alone without letters
    CLD2::CLDHints hints = {hint, nullptr, CLD2::UNKNOWN_ENCODING, CLD2::UNKNOWN_LANGUAGE};
    int percents[CLD2_GUESSES] = {}, text_bytes = 0, valid = 0;
    double scores[CLD2_GUESSES] = {};
    bool reliable = false;
    size_t n = 0;

    if (hint)
        hints.language_hint = CLD2::GetLanguageFromName(hint);
    CLD2::ExtDetectLanguageSummaryCheckUTF8(text, (int)size, true, &hints, CLD2::kCLDFlagBestEffort,
                                            languages, percents, scores, nullptr, &text_bytes,
                                            &reliable, &valid);
    for (size_t i = 0; i < CLD2_GUESSES; i++)
        if (languages[i] != CLD2::UNKNOWN_LANGUAGE && percents[i] > 0)
            guesses[n++] = {CLD2::LanguageCode(languages[i]), (float)percents[i] / 100.0f,
                            reliable};
    return n;
}
