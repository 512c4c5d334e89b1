#include "gateway/api/transcript.h"

#include "gateway/api/api.h"

#include <errno.h>
#include <string.h>

#define TEXT_MAX (64 << 20)

int transcript_init(struct transcript *transcript)
{
    *transcript = (struct transcript){.segments = json_array(), .words = json_array()};
    buffer_init(&transcript->text, TEXT_MAX);
    buffer_init(&transcript->srt, TEXT_MAX);
    buffer_init(&transcript->vtt, TEXT_MAX);
    return transcript->segments && transcript->words &&
                   buffer_printf(&transcript->vtt, "WEBVTT\n\n") == 0
               ? 0
               : -ENOMEM;
}

void transcript_fini(struct transcript *transcript)
{
    buffer_fini(&transcript->text);
    buffer_fini(&transcript->srt);
    buffer_fini(&transcript->vtt);
    json_decref(transcript->segments);
    json_decref(transcript->words);
    transcript->segments = transcript->words = NULL;
}

static const char *trimmed(const char *text)
{
    return text + strspn(text, " \t\r\n");
}

/* 00:00:03,320 or, for WebVTT, 00:00:03.320 */
static int add_time(struct buffer *out, int64_t ms, char point)
{
    long long at = ms > 0 ? (long long)ms : 0;

    return buffer_printf(out, "%02lld:%02lld:%02lld%c%03lld", at / 3600000, at / 60000 % 60,
                         at / 1000 % 60, point, at % 1000);
}

static void add_cue(struct buffer *out, const Dragoman__Asr__V1__Segment *segment, char point)
{
    add_time(out, segment->start_ms, point);
    buffer_printf(out, " --> ");
    add_time(out, segment->end_ms, point);
    buffer_printf(out, "\n%s\n\n", trimmed(segment->text));
}

static json_t *words_of(const Dragoman__Asr__V1__Segment *segment, json_t *all)
{
    for (size_t i = 0; i < segment->n_words; i++) {
        const Dragoman__Asr__V1__Word *word = segment->words[i];

        json_array_append_new(all, json_pack("{s:s, s:o, s:o}", "word", trimmed(word->text),
                                             "start", api_real((double)word->start_ms / 1000),
                                             "end", api_real((double)word->end_ms / 1000)));
    }
    return all;
}

static json_t *verbose(unsigned id, const Dragoman__Asr__V1__Segment *segment)
{
    json_t *tokens = json_array();

    for (size_t i = 0; i < segment->n_tokens; i++)
        json_array_append_new(tokens, json_integer(segment->tokens[i]));
    return json_pack(
        "{s:i, s:I, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o}", "id", (int)id, "seek",
        (json_int_t)(segment->seek_ms / 10), /* in frames of 10 ms, as Whisper counts */
        "start", api_real((double)segment->start_ms / 1000), "end",
        api_real((double)segment->end_ms / 1000), "text", segment->text, "tokens", tokens,
        "temperature", api_real((double)segment->temperature), "avg_logprob",
        api_real((double)segment->avg_log_prob), "compression_ratio",
        api_real((double)segment->compression_ratio), "no_speech_prob",
        api_real((double)segment->no_speech_prob));
}

int transcript_add(struct transcript *transcript, const Dragoman__Asr__V1__Segment *segment)
{
    int err = buffer_append(&transcript->text, segment->text, strlen(segment->text));

    if (err < 0)
        return err;
    buffer_printf(&transcript->srt, "%u\n", transcript->n + 1);
    add_cue(&transcript->srt, segment, ',');
    add_cue(&transcript->vtt, segment, '.');
    words_of(segment, transcript->words);
    return json_array_append_new(transcript->segments, verbose(transcript->n++, segment)) ? -ENOMEM
                                                                                          : 0;
}

const char *transcript_text(struct transcript *transcript)
{
    size_t n = transcript->text.size;

    if (!n)
        return "";
    while (n && strchr(" \t\r\n", transcript->text.data[n - 1]))
        n--;
    transcript->text.data[n] = '\0';
    transcript->text.size = n;
    return trimmed((const char *)transcript->text.data);
}
