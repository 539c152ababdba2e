/* A plugin that does what it should not, by the word that it is given; with LOAD, already while it is loaded. */
#define _GNU_SOURCE
#include "vsmtp_plugin.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define STR(text) { text, sizeof(text) - 1 }

static const VsHost *host;
static char at_load[1024];

static VsStr str(const char *text) {
    VsStr made = { text, strlen(text) };
    return made;
}

static void note(char *into, size_t size, const char *what, long result) {
    size_t used = strlen(into);
    snprintf(into + used, size - used, "%s=%d ", what, result < 0 ? errno : 0);
}

/* What a captured process would try; each with its errno, 0 if it works. */
static void try_all(char *into, size_t size) {
    char spool[512];
    char *const words[] = { "/bin/true", NULL };
    int made;
    into[0] = '\0';
    note(into, size, "shadow", open("/etc/shadow", O_RDONLY));
    snprintf(spool, sizeof spool, "%s/var/spool/vsmtp/queue", ROOT);
    note(into, size, "spool", open(spool, O_RDONLY | O_DIRECTORY));
    note(into, size, "write", open("/tmp/vsmtp-hostile", O_WRONLY | O_CREAT, 0600));
    note(into, size, "inet", socket(AF_INET, SOCK_STREAM, 0));
    note(into, size, "unix", socket(AF_UNIX, SOCK_STREAM, 0));
    made = fork();
    if (made == 0) _exit(0);
    note(into, size, "fork", made);
    note(into, size, "kill", kill(getppid(), 0));
    note(into, size, "ptrace", ptrace(PTRACE_TRACEME, 0, NULL, NULL));
    note(into, size, "exec", execv("/bin/true", words));
}

static void *stay(void *data) {
    (void)data;
    for (;;) sleep(1000);
    return NULL;
}

/* The compiler must not see that it never ends. */
static int deeper(volatile char *above) {
    volatile char here[4096];
    here[0] = above[0];
    return here[0] == '\0' ? 0 : deeper(here) + here[0];
}

static int32_t act(VsCall *call, void *self, void *data) {
    VsStr word;
    char name[32] = "", text[1024];
    (void)self, (void)data;
    if (host->get_string(call, host->argument(call, 0), &word) != 0) return host->fails(call, str("no word"));
    memcpy(name, word.data, word.len < sizeof name ? word.len : sizeof name - 1);
#define IS(of) (strcmp(name, of) == 0)
    if (IS("segfault")) *(volatile int *)8 = 1;
    if (IS("abort")) abort();
    if (IS("exit")) exit(0);
    if (IS("forever")) for (;;) (void)getpid();
    if (IS("overflow")) return deeper("x");
    if (IS("thread")) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, stay, NULL) != 0) return host->fails(call, str("no thread"));
    }
    if (IS("throw")) return host->fails(call, str("a tantrum"));
    if (IS("silent")) return 7;
    if (IS("latin")) return host->fails(call, str("caf\xe9"));
    if (IS("handle")) return host->returns(call, 4711) == 0 ? 0 : host->fails(call, str("no such handle"));
    if (IS("octets")) {
        VsStr wrong = STR("\xff\xfe");
        return host->new_string(call, wrong) == 0 ? host->fails(call, str("refused")) : 0;
    }
    if (IS("length")) {
        VsStr wrong = { "x", (size_t)-1 };
        return host->new_blob(call, wrong) == 0 ? host->fails(call, str("refused")) : 0;
    }
    if (IS("itself")) {
        VsValue array = host->new_array(call);
        host->push(call, array, array);
        return host->returns(call, array);
    }
    if (IS("code")) {
        void *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        text[0] = '\0';
        note(text, sizeof text, "code", code == MAP_FAILED ? -1 : 0);
        note(text, sizeof text, "config", open(ROOT "/etc/vsmtp/vsmtp.vsl", O_RDONLY));
        return host->returns(call, host->new_string(call, str(text)));
    }
    if (IS("escape")) {
        try_all(text, sizeof text);
        return host->returns(call, host->new_string(call, str(text)));
    }
    if (IS("loaded")) return host->returns(call, host->new_string(call, str(at_load)));
    return host->returns(call, host->new_unit(call));
}

static const uint32_t params[] = { VS_STRING };
static const VsFunction function = { sizeof(VsFunction), VS_ABI, STR("act"), params, 1, 0, act, NULL };
static const VsFunction *const functions[] = { &function };

#ifndef SIZE
#define SIZE sizeof(VsPlugin)
#endif
#ifndef ABI
#define ABI VS_ABI
#endif
#ifndef NAME
#define NAME STR("hostile")
#endif
#ifndef COUNT
#define COUNT 1
#endif
#ifndef LIST
#define LIST functions
#endif
static const VsPlugin plugin = { SIZE, ABI, NAME, STR("1"), LIST, NULL, COUNT, 0 };

#ifdef ENTRY
#define vsl_plugin_v1 ENTRY
const VsPlugin *ENTRY(const VsHost *of);
#endif
const VsPlugin *vsl_plugin_v1(const VsHost *of) {
    host = of;
#ifdef LOAD
    LOAD;
#endif
    return &plugin;
}
