/*
 * An example of a native plugin in C: it makes texts comparable. Needs nothing but the C library.
 *
 *   import "plugins/vsmtp_example_fold" as fold;
 *   fold::letters("Fr33 M.o.n.e.y")                         the letters, in lower case: "frmoney"
 *   const words = fold::words(#{ list: ["free money"] });   in services/: made once, shared by all rules
 *   words.find(msg::get_header("Subject"))                  the first of the words whose letters are in it, or ()
 *
 *   cc -std=c99 -shared -fPIC -I plugins/api/include -o vsmtp_example_fold.so plugins/examples/c/vsmtp_example_fold.c
 */
#include "vsmtp_plugin.h"

#include <stdlib.h>
#include <string.h>

#define STR(text) { text, sizeof(text) - 1 }
#define MOST_WORDS 1000u

static const VsHost *host;

static VsStr str(const char *text) {
    VsStr made = { text, strlen(text) };
    return made;
}

/* The letters of a text, in lower case, in memory of ours; its end is a NUL. NULL: there is no memory. */
static char *letters_of(VsStr text) {
    char *folded = malloc(text.len + 1);
    size_t at, to = 0;
    if (folded == NULL) return NULL;
    for (at = 0; at < text.len; at++) {
        char c = text.data[at];
        if (c >= 'A' && c <= 'Z') c = (char)(c - 'A' + 'a');
        if (c >= 'a' && c <= 'z') folded[to++] = c;
    }
    folded[to] = '\0';
    return folded;
}

static int32_t letters(VsCall *call, void *self, void *data) {
    VsStr text;
    char *folded;
    VsValue made;
    (void)self, (void)data;
    /* The host has looked: there is one argument, and it is a string. */
    if (host->get_string(call, host->argument(call, 0), &text) != 0) return host->fails(call, str("no text"));
    folded = letters_of(text);
    if (folded == NULL) return host->fails(call, str("out of memory"));
    made = host->new_string(call, str(folded));
    free(folded);
    if (made == 0) return host->fails(call, str("the text is too large"));
    return host->returns(call, made);
}

/* An object: words, as they were given and folded. It is only read once it is made, so threads may share it. */
typedef struct Words {
    size_t count;
    char **given;
    char **folded;
} Words;

static void end_words(void *self) {
    Words *words = self;
    size_t at;
    for (at = 0; at < words->count; at++) {
        free(words->given[at]);
        free(words->folded[at]);
    }
    free(words->given);
    free(words->folded);
    free(words);
}

static int32_t find(VsCall *call, void *self, void *data) {
    const Words *words = self;
    VsStr text;
    char *folded;
    size_t at;
    VsValue found = host->new_unit(call);
    (void)data;
    if (host->get_string(call, host->argument(call, 0), &text) != 0) return host->fails(call, str("no text"));
    folded = letters_of(text);
    if (folded == NULL) return host->fails(call, str("out of memory"));
    for (at = 0; at < words->count; at++) {
        if (strstr(folded, words->folded[at]) != NULL) {
            found = host->new_string(call, str(words->given[at]));
            break;
        }
    }
    free(folded);
    return host->returns(call, found);
}

static const uint32_t one_string[] = { VS_STRING };
static const uint32_t one_map[] = { VS_MAP };
static const VsFunction find_method = { sizeof(VsFunction), VS_ABI, STR("find"), one_string, 1, VS_QUICK, find, NULL };
static const VsFunction *const methods[] = { &find_method };
static const VsType words_type = { sizeof(VsType), VS_ABI, STR("words"), end_words, methods, 1, 0 };

static int32_t words(VsCall *call, void *self, void *data) {
    VsValue list = host->lookup(call, host->argument(call, 0), str("list"));
    size_t count = host->length(call, list), at;
    Words *made;
    VsValue object;
    (void)self, (void)data;
    if (host->kind(call, list) != VS_ARRAY || count == 0 || count > MOST_WORDS)
        return host->fails(call, str("list must be an array of 1 to 1000 strings"));
    made = calloc(1, sizeof(Words));
    if (made == NULL) return host->fails(call, str("out of memory"));
    made->given = calloc(count, sizeof(char *));
    made->folded = calloc(count, sizeof(char *));
    for (at = 0; made->given != NULL && made->folded != NULL && at < count; at++) {
        VsStr word;
        if (host->get_string(call, host->element(call, list, at), &word) != 0) break;
        made->count = at + 1;
        made->given[at] = calloc(word.len + 1, 1);
        made->folded[at] = letters_of(word);
        if (made->given[at] == NULL || made->folded[at] == NULL || made->folded[at][0] == '\0') break;
        memcpy(made->given[at], word.data, word.len);
    }
    if (at < count) {
        end_words(made);
        return host->fails(call, str("list has something that is no string with letters, or memory is out"));
    }
    object = host->new_object(call, &words_type, made);
    if (object == 0) {
        end_words(made);
        return host->fails(call, str("there is no room for the object"));
    }
    return host->returns(call, object);
}

static const VsFunction letters_function = { sizeof(VsFunction), VS_ABI, STR("letters"), one_string, 1, VS_QUICK, letters, NULL };
static const VsFunction words_function = { sizeof(VsFunction), VS_ABI, STR("words"), one_map, 1, VS_QUICK, words, NULL };
static const VsFunction *const functions[] = { &letters_function, &words_function };
static const VsType *const types[] = { &words_type };
static const VsPlugin plugin = { sizeof(VsPlugin), VS_ABI, STR("fold"), STR("1.0"), functions, types, 2, 1 };

const VsPlugin *vsl_plugin_v1(const VsHost *of) {
    if (of->size < sizeof(VsHost)) return NULL;
    host = of;
    return &plugin;
}
