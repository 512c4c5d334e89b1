/* The espeak engine, its child process, and what of a text reaches it. */
#include "base/clock.h"
#include "tests/tts/support.h"
#include "tts/engine.h"
#include "tts/espeak/process.h"
#include "tts/espeak/text.h"
#include "tts/vits/phonemes.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void assert_clean(const char *voice, const char *text, const char *want)
{
    char *clean = espeak_text_clean(voice, text);

    assert_string_equal(clean, want);
    free(clean);
}

static void ordinary_text_is_left_alone(void **state)
{
    (void)state;
    assert_clean("en-us", "Dr. Smith's 3.5% \u2014 \u201cok\u201d? \u20ac5\u2026 na\u00efve",
                 "Dr. Smith's 3.5% \u2014 \u201cok\u201d? \u20ac5\u2026 na\u00efve");
    assert_clean("pt-br", "Ol\u00e1, voc\u00ea! \u00bfN\u00e3o?",
                 "Ol\u00e1, voc\u00ea! \u00bfN\u00e3o?");
    assert_clean("ru", "\u0414\u0430, Linux.", "\u0414\u0430, Linux.");
    assert_clean("cmn", "\u4f60\u597d\u3002", "\u4f60\u597d\u3002");
    assert_clean("hi", "\u0928\u092e\u0938\u094d\u0924\u0947\u0964",
                 "\u0928\u092e\u0938\u094d\u0924\u0947\u0964");
    assert_clean("en-us", "two\nlines", "two\nlines");
}

static void foreign_alphabets_and_controls_become_spaces(void **state)
{
    char run[ESPEAK_RUN_MAX + 2];

    (void)state;
    assert_clean("en-us", "a\u10c6b", "a b");
    assert_clean("en-us", "a\u0915b", "a b");
    assert_clean("en-us",
                 "a\x01"
                 "b\x7f",
                 "a b ");
    assert_clean("en-us", "a\xff\xc3", "a  ");
    assert_clean("", "\u0414", " ");
    memset(run, 'x', sizeof(run));
    run[ESPEAK_RUN_MAX + 1] = '\0';
    {
        char *clean = espeak_text_clean("en-us", run);

        assert_int_equal(strlen(clean), ESPEAK_RUN_MAX + 2);
        assert_int_equal(clean[ESPEAK_RUN_MAX], ' ');
        free(clean);
    }
}

static int echo(const char *voice, const char *text, int argument, struct buffer *out)
{
    return buffer_printf(out, "%s|%s|%d", voice, text, argument);
}

static int die(const char *voice, const char *text, int argument, struct buffer *out)
{
    (void)voice;
    (void)text;
    (void)argument;
    (void)out;
    abort();
}

static int dawdle(const char *voice, const char *text, int argument, struct buffer *out)
{
    (void)voice;
    (void)text;
    (void)out;
    sleep((unsigned)argument);
    return 0;
}

static int refuse(const char *voice, const char *text, int argument, struct buffer *out)
{
    (void)voice;
    (void)text;
    (void)out;
    return argument;
}

static int flood(const char *voice, const char *text, int argument, struct buffer *out)
{
    static const char block[65536];
    int err = 0;

    (void)voice;
    (void)text;
    for (int i = 0; !err && i < argument; i++)
        err = buffer_append(out, block, sizeof(block));
    return err;
}

static void assert_echo(void)
{
    struct buffer out;

    buffer_init(&out, 1024);
    assert_int_equal(espeak_run(echo, "pt", "a b", 7, NULL, &out), 0);
    assert_int_equal(out.size, strlen("pt|a b|7"));
    assert_memory_equal(out.data, "pt|a b|7", out.size);
    buffer_fini(&out);
}

static void tasks_are_answered(void **state)
{
    struct buffer out;

    (void)state;
    assert_echo();
    buffer_init(&out, ESPEAK_ANSWER_MAX);
    assert_int_equal(espeak_run(refuse, "en-us", "x", -E2BIG, NULL, &out), -E2BIG);
    assert_int_equal(espeak_run(echo, "xx-none", "x", 0, NULL, &out), -ENOENT);
    assert_int_equal(out.size, 0);
    assert_int_equal(espeak_run(flood, "en-us", "x", 100, NULL, &out), 0);
    assert_int_equal(out.size, 100 * 65536);
    buffer_fini(&out);
    buffer_init(&out, ESPEAK_ANSWER_MAX);
    assert_int_equal(espeak_run(flood, "en-us", "x", 2000, NULL, &out), -EMSGSIZE);
    buffer_fini(&out);
    assert_echo();
}

/* What a text may do to the library it does to the child. */
static void a_dead_child_is_one_failed_task(void **state)
{
    struct buffer out;

    (void)state;
    buffer_init(&out, 1024);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(espeak_run(die, "en-us", "x", 0, NULL, &out), -EILSEQ);
        assert_echo();
    }
    buffer_fini(&out);
}

static int tell_pid(const char *voice, const char *text, int argument, struct buffer *out)
{
    pid_t pid = getpid();

    (void)voice;
    (void)text;
    (void)argument;
    return buffer_append(out, &pid, sizeof(pid));
}

static void a_child_that_was_killed_is_nobodys_fault(void **state)
{
    struct buffer out;
    pid_t pid = 0;

    (void)state;
    buffer_init(&out, 1024);
    assert_int_equal(espeak_run(tell_pid, "en-us", "x", 0, NULL, &out), 0);
    memcpy(&pid, out.data, sizeof(pid));
    assert_true(pid > 0 && pid != getpid());
    assert_int_equal(kill(pid, SIGKILL), 0);
    usleep(100000);
    assert_echo();
    buffer_fini(&out);
}

static void *cancel_soon(void *flag)
{
    usleep(50000);
    __atomic_store_n((int *)flag, 1, __ATOMIC_RELAXED);
    return NULL;
}

static void waiting_can_be_cancelled(void **state)
{
    volatile int cancel = 0;
    int64_t since = clock_now_ms();
    struct buffer out;
    pthread_t thread;

    (void)state;
    buffer_init(&out, 1024);
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, (void *)(uintptr_t)&cancel), 0);
    assert_int_equal(espeak_run(dawdle, "en-us", "x", 10, &cancel, &out), -ECANCELED);
    assert_true(clock_now_ms() - since < 5000);
    pthread_join(thread, NULL);
    assert_echo();
    buffer_fini(&out);
}

static void *echo_often(void *arg)
{
    (void)arg;
    for (int i = 0; i < 50; i++)
        assert_echo();
    return NULL;
}

static void threads_take_turns(void **state)
{
    pthread_t threads[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, echo_often, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

/* "a.a.a." of some length smashes the library's stack; what it does to ours is nothing. */
static void texts_that_kill_the_library_do_not_kill_us(void **state)
{
    char *text = malloc(8001), **sentences = NULL;
    size_t n = 0;
    int err;

    (void)state;
    for (size_t i = 0; i < 8000; i += 2)
        memcpy(text + i, "a.", 2);
    text[8000] = '\0';
    err = vits_phonemes_of("en-us", text, NULL, &sentences, &n);
    assert_true(err == 0 || err == -EILSEQ);
    vits_phonemes_free(&sentences, n);
    assert_int_equal(vits_phonemes_of("en-us", "Hello.", NULL, &sentences, &n), 0);
    assert_int_equal(n, 1);
    vits_phonemes_free(&sentences, n);
    free(text);
}

static void every_language_speaks(void **state)
{
    const struct tts_engine *engine = tts_engine_find("espeak");
    struct tts_model *model = NULL;
    const struct tts_voice *voices;
    char error[128] = "";
    size_t n, spoke = 0;

    (void)state;
    assert_int_equal(engine->load(NULL, 1, NULL, error, sizeof(error), &model), 0);
    n = engine->voices(model, &voices);
    assert_true(n > 80);
    for (size_t i = 0; i < n; i++) {
        const struct tts_settings settings = {.voice = voices[i].name};
        struct heard heard = {0};

        assert_int_equal(voices[i].sample_rate, 22050);
        if (engine->speak(model, "1, 2, 3.", &settings, hear, &heard, NULL) == 0 &&
            heard.n_samples > 5000)
            spoke++;
        else
            print_message("'%s' is silent\n", voices[i].name);
        heard_fini(&heard);
    }
    assert_int_equal(spoke, n);
    engine->unload(&model);
    assert_null(model);
}

static void loudness_and_errors(void **state)
{
    const struct tts_engine *engine = tts_engine_find("espeak");
    struct tts_settings settings = {.language = "en", .speaker = "somebody"};
    struct tts_model *model = NULL;
    struct heard heard = {.answer = 5, .stop_after = 1};
    char error[128] = "", *phonemes = NULL;
    float most = 0;

    (void)state;
    assert_int_equal(engine->load(NULL, 1, NULL, error, sizeof(error), &model), 0);
    assert_int_equal(engine->speak(model, "Hi.", &settings, hear, &heard, NULL), -EINVAL);
    settings.speaker = NULL;
    assert_int_equal(engine->speak(model, "Hi there.", &settings, hear, &heard, &phonemes), 5);
    assert_null(phonemes);
    for (size_t i = 0; i < heard.n_samples; i++)
        most = heard.pcm[i] > most ? heard.pcm[i] : most;
    assert_true(most > 0.05f && most <= 1.0f);
    heard_fini(&heard);
    heard.stop_after = 0;
    assert_int_equal(engine->speak(model, "Hi there.", &settings, hear, &heard, &phonemes), 0);
    assert_non_null(phonemes);
    free(phonemes);
    heard_fini(&heard);
    settings.language = "xx";
    assert_int_equal(engine->speak(model, "Hi.", &settings, hear, &heard, NULL), -ENOENT);
    engine->unload(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ordinary_text_is_left_alone),
        cmocka_unit_test(foreign_alphabets_and_controls_become_spaces),
        cmocka_unit_test(tasks_are_answered),
        cmocka_unit_test(a_dead_child_is_one_failed_task),
        cmocka_unit_test(a_child_that_was_killed_is_nobodys_fault),
        cmocka_unit_test(waiting_can_be_cancelled),
        cmocka_unit_test(threads_take_turns),
        cmocka_unit_test(texts_that_kill_the_library_do_not_kill_us),
        cmocka_unit_test(every_language_speaks),
        cmocka_unit_test(loudness_and_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
